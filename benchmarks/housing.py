"""The HousingMLP workload: the six figures by which MetisFL and its peers were compared.

A tower of 100 dense layers (105,921, 1,011,001 or 10,275,201 parameters in 204 tensors), 100 made-up samples a client,
one epoch a round at learning rate 0, "for stress testing": all of it is computed. Clients are real processes.

- train dispatch: from the start of a round until the last client has the model and begins to train
- train round: until the last update is in the sum
- aggregation: the sums at the combiner, the mean at the reducer
- evaluation dispatch, evaluation round: the same for a round in which clients only evaluate
- federation round: commit to commit, each client evaluating the model that it gets before it trains

  python -m benchmarks housing --size 1M --clients 10
"""

import argparse
import itertools
import os
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.counts import parse_count
from benchmarks.floors.cell import floor_of
from benchmarks.housing_mlp.network import WIDTHS, make_weights, num_params
from benchmarks.options import choice, names_of, parser_of
from benchmarks.results import Row, append, markdown
from fedn.models.files import write_tensors
from fedn.plan.session import SessionPlan
from fedn.protocol.rest import RoundView
from fedn.protocol.rounds import LedgerEntry, LedgerState, RoundKind
from fedn.sandbox.federation import Sandbox, SandboxOptions
from fedn.sandbox.project import open_project

PROJECT = Path(__file__).resolve().parent / "housing_mlp"
FIGURES = (
    "train_dispatch",
    "train_round",
    "aggregation",
    "evaluation_dispatch",
    "evaluation_round",
    "federation_round",
)
_ROUND_TIMEOUT_S = 600.0


def measure(size: str, clients: int, *, combiners: int, rounds: int, sessions: int, tls: bool) -> Row:
    """One row with the six figures (seconds, medians), and the floor of a federation round.

    The floor is that of a no-op round of as many parameters, plus the clients' own processor time over the cores.

    Raises:
        RuntimeError: a session did not finish.
    """
    params = num_params(WIDTHS[size])
    floor = floor_of(params, clients, combiners, tls=tls)
    with tempfile.TemporaryDirectory(prefix="fedn-housing-") as name:
        folder = Path(name)
        _make_project(folder / "project", WIDTHS[size])
        options = SandboxOptions(clients=clients, combiners=combiners, data_dir=folder / "sandbox", tls=tls)
        with Sandbox(open_project(folder / "project"), options) as sandbox:
            sandbox.start()
            trained = _run(sandbox, clients, rounds=1 + rounds, validate=False)[1:]
            whole = [_run(sandbox, clients, rounds=3, validate=True) for _ in range(sessions)]
    evaluated = [one for session in whole for one in session if one.kind is RoundKind.VALIDATE]
    both = [one for session in whole for one in session if one.kind is RoundKind.TRAIN]
    lengths = [after - before for session in whole for before, after in _commits(session)]
    compute_s = statistics.median(_compute_s(one) for one in both) / (os.cpu_count() or 1)
    row: Row = {
        "bench": "housing",
        "size": size,
        "params": params,
        "clients": clients,
        "combiners": combiners,
        "tls": tls,
        "train_dispatch_s": statistics.median(_dispatch_s(one) for one in trained),
        "train_round_s": statistics.median(_all_in_s(one) for one in trained),
        "aggregation_s": statistics.median(_aggregation_s(one) for one in trained),
        "evaluation_dispatch_s": statistics.median(_dispatch_s(one) for one in evaluated),
        "evaluation_round_s": statistics.median(_all_in_s(one) for one in evaluated),
        "federation_round_s": statistics.median(lengths),
        "compute_s": compute_s,
        "floor_s": floor["floor_s"] + compute_s,
    }
    return row | {"of_floor": row["federation_round_s"] / row["floor_s"]}


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    columns = ("size", "clients", "combiners", "TLS", *(f"{name.replace('_', ' ')} s" for name in FIGURES))
    lines = [
        [
            *(row[key] for key in ("size", "clients", "combiners", "tls")),
            *(row[f"{name}_s"] for name in FIGURES),
            *(row[key] for key in ("compute_s", "floor_s", "of_floor")),
        ]
        for row in rows
    ]
    return markdown((*columns, "clients' compute s", "floor s", "× floor"), lines)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of `main`."""
    parser = parser_of("housing", __doc__)
    parser.add_argument(
        "--size", type=names_of("size", tuple(WIDTHS)), default=("100k",), help="of 100k,1M,10M [default: 100k]"
    )
    parser.add_argument("--clients", type=parse_count, default=5, help="[default: 5]")
    parser.add_argument("--combiners", type=parse_count, default=1, help="[default: 1]")
    parser.add_argument("--rounds", type=parse_count, default=5, help="that only train [default: 5]")
    parser.add_argument("--sessions", type=parse_count, default=3, help="that also evaluate [default: 3]")
    parser.add_argument("--tls", type=choice, default=(True,), help="on, off or both [default: on]")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    rows = []
    for size, tls in itertools.product(given.size, given.tls):
        rows.append(
            measure(
                size,
                given.clients,
                combiners=given.combiners,
                rounds=given.rounds,
                sessions=given.sessions,
                tls=tls,
            )
        )
        append(given.out, rows[-1])
    print(table(rows))
    return 0


def _make_project(folder: Path, width: int) -> None:
    shutil.copytree(PROJECT, folder / "client", ignore=shutil.ignore_patterns("__pycache__"))
    weights = make_weights(width, seed=1)
    write_tensors(folder / "seed.safetensors", {f"{index:03d}": array for index, array in enumerate(weights)})


def _run(sandbox: Sandbox, clients: int, *, rounds: int, validate: bool) -> list[RoundView]:
    """A session, watched to its end; its rounds by index."""
    content: dict[str, Any] = sandbox.plan(rounds=rounds).model_dump(by_alias=True)
    content |= {"validate": validate, "clients_required": clients, "round_timeout_s": _ROUND_TIMEOUT_S}
    content["parameters"] = {"batch_size": 32, "learning_rate": 0.0}
    session = sandbox.api.start_session(SessionPlan.model_validate(content)).id
    for _ in sandbox.follow(session):
        pass
    view = sandbox.api.session(session)
    if view.state != "finished":
        raise RuntimeError(f"the session {view.state}: {view.error.message if view.error else 'no reason told'}")
    return sorted(sandbox.api.rounds(session), key=lambda one: one.index)


def _answers(one: RoundView) -> list[LedgerEntry]:
    return [entry for entry in one.ledger if entry.state is LedgerState.UPDATED and entry.metadata is not None]


def _began(entry: LedgerEntry) -> float:
    """When a client began its task: with the evaluation of the model that it got, where it does one."""
    assert entry.metadata is not None
    return (entry.metadata.validation or entry.metadata.metrics)["began"]


def _dispatch_s(one: RoundView) -> float:
    return max(_began(entry) for entry in _answers(one)) - one.started_at


def _all_in_s(one: RoundView) -> float:
    return max(entry.updated_at for entry in _answers(one)) - one.started_at


def _aggregation_s(one: RoundView) -> float:
    """The largest combiner's sums and the reducer's mean; combiners add while updates arrive."""
    return (max(model.fold_ms for model in one.combiner_models) + one.times_ms["aggregation"]) / 1e3


def _compute_s(one: RoundView) -> float:
    """Processor seconds of all clients' own code."""
    metadata = [entry.metadata for entry in _answers(one) if entry.metadata is not None]
    return sum(each.metrics.get("cpu_s", 0.0) + each.validation.get("cpu_s", 0.0) for each in metadata)


def _commits(rounds: Sequence[RoundView]) -> list[tuple[float, float]]:
    """(end, end of the next) of the training rounds."""
    ends = [one.ended_at or 0.0 for one in rounds if one.kind is RoundKind.TRAIN]
    return list(itertools.pairwise(ends))
