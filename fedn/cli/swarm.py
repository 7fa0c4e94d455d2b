"""`fedn swarm`: many light clients, to load a federation and to measure it."""

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedn.cli.connection import connect, json_option
from fedn.cli.failures import warn
from fedn.cli.output import Output, duration, size

if TYPE_CHECKING:
    from fedn.swarm.options import SwarmOptions
    from fedn.swarm.swarm import Report

_CLIENTS_A_PROCESS = 2500
_SHARE = click.FloatRange(0, 1)
_POSITIVE = click.FloatRange(min=0)


@click.command()
@click.option("--clients", type=click.IntRange(1, 1_000_000), default=100, help="Light clients.  [default: 100]")
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    help="Processes that they share.  [default: one for each 2,500 clients, at most one a processor]",
)
@click.option("--join", envvar="FEDN_JOIN", show_envvar=True, help="Join string (fedn token create).")
@click.option(
    "--context",
    envvar="FEDN_CONTEXT",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="Without --join: context file (admin.json) of the reducer to ask for one.  [default: as for all commands]",
)
@click.option(
    "--name-base",
    help="Clients are called BASE-00001 and so on.  [default: swarm with --data-dir, else swarm and a random word]",
)
@click.option("--combiner", default="", help="Preferred combiner of all clients.  [default: as the reducer assigns]")
@click.option(
    "--receive",
    type=click.Choice(["each", "shared"]),
    default="each",
    help="each: every client receives each model over its own stream, verifies it and drops the bytes. shared: a "
    "client also says that it holds what others of its process have received, so it is sent less.  [default: each]",
)
@click.option(
    "--streams-per-connection",
    type=click.IntRange(1, 10_000),
    default=1,
    help="Clients that share a TLS connection. 1 is what real clients cost a combiner.  [default: 1]",
)
@click.option(
    "--ramp",
    "ramp_per_s",
    type=_POSITIVE,
    default=0.0,
    help="Clients that begin each second; 0: no limit.  [default: 0]",
)
@click.option("--think-ms", type=_POSITIVE, default=0.0, help="Time that a task takes.  [default: 0]")
@click.option("--think-spread", type=_SHARE, default=0.0, help="Part by which it varies.  [default: 0]")
@click.option("--failure-rate", type=_SHARE, default=0.0, help="Part of the tasks that fail.  [default: 0]")
@click.option(
    "--dropout-rate",
    type=_SHARE,
    default=0.0,
    help="Part of the tasks at which a client leaves, or vanishes without a word, also while it uploads.  [default: 0]",
)
@click.option("--away-s", type=_POSITIVE, default=5.0, help="Then it is away for at most so long.  [default: 5]")
@click.option("--slow-share", type=_SHARE, default=0.0, help="Part of the clients on a slow link.  [default: 0]")
@click.option(
    "--slow-bytes-per-s", type=click.FloatRange(min=1), default=1e6, help="Speed of that link, upwards.  [default: 1e6]"
)
@click.option("--step", type=float, default=1e-3, help="Client k adds k times this to the model.  [default: 0.001]")
@click.option("--examples", type=click.IntRange(min=1), default=10, help="Weight of each update.  [default: 10]")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of every draw of the above.  [default: 0]")
@click.option("--ping-s", type=_POSITIVE, default=0.0, help="Each client pings so often; 0: when idle.  [default: 0]")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Keeps the clients' keys, so that the next swarm goes on as the same clients, and large models.",
)
@click.option("--duration-s", type=_POSITIVE, default=0.0, help="End after so long; 0: not by time.  [default: 0]")
@click.option("--tasks", type=click.IntRange(min=0), default=0, help="End after so many tasks; 0: go on.  [default: 0]")
@click.option("--report-s", type=click.FloatRange(min=0.1), default=1.0, help="Time between reports.  [default: 1]")
@json_option
def swarm(join: str | None, context: Path | None, duration_s: float, tasks: int, out: Output, **given: Any) -> None:
    """Many light clients in few processes put a load on a federation, over the real protocol.

    Each client has a key and a name of its own, enrols, attaches over TLS, receives models and verifies them, trains
    nothing, and returns the model plus a constant of its own. It pings, backs off and comes back as a real client does,
    but holds almost nothing in memory: what it sends is made while it is sent. The servers see no difference.

    Never use it on a federation that trains for real: what it returns would be averaged in. In a directory with a
    sandbox, or beside a reducer that was started there, it needs no --join:

    \b
        fedn sandbox --clients 2            # in another terminal; or your own reducer and combiners
        fedn swarm --clients 1000
        fedn session start --rounds 5       # in a third one

    It ends by Ctrl-C, after --duration-s, or after --tasks. With --json, each report is a line, the last one with
    "final": true.
    """
    import asyncio  # heavy, as the next ones: only a start needs them

    options = _options(**given)
    if join is None:
        with connect(url=None, token=None, admin_secret=None, ca=None, context=context) as api:
            join = api.join_string().join
    asyncio.run(_run(options, join, duration_s=duration_s, tasks=tasks, out=out))


def _options(**given: Any) -> "SwarmOptions":
    from fedn.swarm.options import Behaviour, SwarmOptions

    behaviour = {name: given.pop(name) for name in Behaviour.model_fields if name in given}
    behaviour["num_examples"] = given.pop("examples")
    processes = given.pop("processes") or min(os.cpu_count() or 1, -(-given["clients"] // _CLIENTS_A_PROCESS))
    kept = given["data_dir"] is not None
    name_base = given.pop("name_base") or ("swarm" if kept else f"swarm-{secrets.token_hex(3)}")
    return SwarmOptions(behaviour=Behaviour(**behaviour), processes=processes, name_base=name_base, **given)


async def _run(options: "SwarmOptions", join: str, *, duration_s: float, tasks: int, out: Output) -> None:
    import asyncio
    import signal

    from fedn.swarm.swarm import Swarm

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if duration_s:
        loop.call_later(duration_s, stop.set)
    async with Swarm(options, join) as running:
        watching = asyncio.create_task(_watch(running.reports(), tasks, stop, out))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if watching.done():
            watching.result()
        last = await running.end()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    _tell(last, out)


async def _watch(reports: Any, tasks: int, stop: Any, out: Output) -> None:
    known: set[str] = set()
    async for report in reports:
        for problem in report.problems:
            if problem.code not in known:
                known.add(problem.code)
                warn(f"clients give up: {problem}")
        _tell(report, out)
        if tasks and _done(report) >= tasks:
            stop.set()


def _done(report: "Report") -> int:
    statistics = report.statistics
    return statistics.updated + statistics.failed + statistics.cancelled + sum(statistics.refused.values())


def _tell(report: "Report", out: Output) -> None:
    statistics = report.statistics
    if out.json:
        out.line({"elapsed_s": round(report.elapsed_s, 3), "final": report.final, **statistics.as_data()})
        return
    if not report.final:
        click.echo(
            f"{report.elapsed_s:7.1f} s  attached {statistics.attached}/{statistics.clients}  tasks {_done(report)}  "
            f"down {size(statistics.received_bytes)}  up {size(statistics.sent_bytes)}"
        )
        return
    out.pairs(
        {
            "clients": f"{statistics.clients}, enrolled {statistics.enrolled}, attachments {statistics.attachments}",
            "tasks": f"{statistics.tasks}, updated {statistics.updated}, failed {statistics.failed}, "
            f"cancelled {statistics.cancelled}, refused {sum(statistics.refused.values())}",
            "went away": f"{statistics.went_away} times on purpose",
            "received": f"{size(statistics.received_bytes)}, {statistics.models} models whole",
            "sent": size(statistics.sent_bytes),
            "memory": f"{size(statistics.rss_bytes)} in the swarm's processes",
        }
    )
    click.echo()
    rows = [
        (name, *(duration(value / 1000) for value in (one.percentile(0.5), one.percentile(0.99), one.max_ms)))
        for name in ("enrol", "assign", "attach", "ping", "grant", "upload", "task")
        if (one := getattr(statistics, name)).count
    ]
    out.table(("time to", "median", "99 %", "longest"), rows, empty="Nothing was timed.")
    troubles = {**statistics.breaks, **statistics.refused, **statistics.gave_up}
    if troubles:
        click.echo("\nTroubles by code: " + ", ".join(f"{code} {count}" for code, count in troubles.items()))
