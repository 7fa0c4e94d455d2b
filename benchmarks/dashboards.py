"""Open dashboards: what they cost the reducer while a session runs, and how soon a change is on all of them.

A sandbox trains the digits project without and with so many dashboards open (four different pages in turn, over TLS,
in one process). Measured: the wall time of a round, the latency of a REST call, the reducer's processor; and, with the
federation idle, the time from before a client enrols until each open page of clients has its name.

  python -m benchmarks dashboards --open 100
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.counts import parse_count, parse_counts
from benchmarks.floors.grpc_parts import Child
from benchmarks.options import parser_of
from benchmarks.proc import cpu_s
from benchmarks.results import Row, append, markdown, say
from fedn.network.join import JoinString
from fedn.network.tls import make_csr, new_private_key
from fedn.protocol.rounds import RoundKind
from fedn.sandbox.federation import Sandbox, SandboxOptions
from fedn.sandbox.project import open_project

_CLIENTS = 5


def measure(dashboards: int, *, rounds: int, changes: int) -> Row:
    """One row, for so many open dashboards."""
    row: Row = {"bench": "dashboards", "open": dashboards, "rounds": rounds}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedn-dashboards-")))
        sandbox = stack.enter_context(
            Sandbox(open_project(None), SandboxOptions(clients=_CLIENTS, combiners=1, data_dir=folder))
        )
        sandbox.start()
        _session(sandbox, 3)  # everything is imported, and the first model made
        watchers = _open(sandbox, dashboards, stack) if dashboards else None
        row |= _session(sandbox, rounds)
        if watchers is not None:
            row |= _delays(sandbox, watchers, changes)
    return row


def _open(sandbox: Sandbox, dashboards: int, stack: ExitStack) -> Child:
    folder = sandbox.options.data_dir
    context = json.loads(sandbox.context_file.read_text())
    token_file = folder / "viewer.token"
    token_file.write_text(sandbox.api.admin_token(context["admin_secret"], "viewer").token)
    watchers = Child("benchmarks.wire.watchers", sandbox.url, context["ca_file"], token_file)
    stack.callback(watchers.close)
    watchers.tell(dashboards)
    watchers.hear()
    return watchers


def _session(sandbox: Sandbox, rounds: int) -> Row:
    """Trains, and asks the reducer all the while."""
    reducer = next(program for program in sandbox.programs if program.name == "reducer")
    before, begun, asked_ms = cpu_s(reducer.pid), time.monotonic(), []
    session = sandbox.begin_session(sandbox.plan(rounds=rounds))
    running = True
    while running:
        asked = time.monotonic()
        running = sandbox.api.status().session == session
        asked_ms.append((time.monotonic() - asked) * 1e3)
        time.sleep(0.02)  # the load that is measured: calls at a steady pace
    spent_s = time.monotonic() - begun
    views = [view for view in sandbox.api.rounds(session) if view.kind is RoundKind.TRAIN]
    took = [view.times_ms["total"] for view in views if "total" in view.times_ms]
    quantiles = statistics.quantiles(asked_ms, n=100)
    return {
        "round_p50_ms": statistics.median(took),
        "call_p50_ms": quantiles[49],
        "call_p99_ms": quantiles[98],
        "reducer_cpu_percent": 100 * (cpu_s(reducer.pid) - before) / spent_s,
    }


def _delays(sandbox: Sandbox, watchers: Child, changes: int) -> Row:
    """From before a client enrols until every page of clients that is open has its name."""
    secret = JoinString.parse(sandbox.api.join_string(sandbox.url).join).secret
    first, last = [], []
    for number in range(changes):
        name = f"newcomer-{number:04}"
        csr = make_csr(new_private_key(), name)
        watchers.tell(name)
        begun = time.time()
        sandbox.api.enrol(name=name, role="client", csr=csr, secret=secret)
        seen = watchers.hear()
        first.append((seen[0] - begun) * 1e3)
        last.append((seen[-1] - begun) * 1e3)
        time.sleep(0.3)  # the next change is one of its own
    return {
        "first_page_p50_ms": statistics.median(first),
        "all_pages_p50_ms": statistics.median(last),
        "all_pages_max_ms": max(last),
    }


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    keys = {
        "open dashboards": "open",
        "round p50 ms": "round_p50_ms",
        "call p50 ms": "call_p50_ms",
        "call p99 ms": "call_p99_ms",
        "reducer CPU %": "reducer_cpu_percent",
        "change on the first page ms": "first_page_p50_ms",
        "on all pages ms": "all_pages_p50_ms",
        "worst ms": "all_pages_max_ms",
    }
    return markdown(tuple(keys), [[row.get(key) for key in keys.values()] for row in rows])


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of `main`."""
    parser = parser_of("dashboards", __doc__)
    parser.add_argument("--open", type=parse_counts, default=(100,), help="dashboards, beside none [default: 100]")
    parser.add_argument("--rounds", type=parse_count, default=30, help="of the session [default: 30]")
    parser.add_argument("--changes", type=parse_count, default=10, help="to be seen on all pages [default: 10]")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    rows = []
    for dashboards in (0, *given.open):
        rows.append(measure(dashboards, rounds=given.rounds, changes=given.changes))
        append(given.out, rows[-1])
        say(f"{dashboards} open dashboards: a round takes {rows[-1]['round_p50_ms']:.0f} ms")
    print(table(rows))
    return 0
