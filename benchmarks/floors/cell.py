"""The floor of one cell of no-op rounds, measured in its very shape."""

from benchmarks.floors.commit import commit_s
from benchmarks.floors.echo import echo_round_s
from benchmarks.results import Row
from benchmarks.targets import floor_s


def floor_of(params: int, clients: int, combiners: int, *, tls: bool) -> Row:
    """The figures that stand beside a cell.

    `floor_s` is the round's bytes over `raw_grpc_gb_s`, the speed of the raw echo round of so many clients, plus
    `commit_floor_s`.
    """
    echo = echo_round_s(params, clients, tls=tls)
    commit = commit_s(4 * params)
    bytes_per_s = 4 * params * 2 * clients / echo
    return {
        "echo_s": echo,
        "raw_grpc_gb_s": bytes_per_s / 1e9,
        "commit_floor_s": commit,
        "floor_s": floor_s(params, clients, combiners, bytes_per_s=bytes_per_s, commit_s=commit),
    }
