"""`fedn session accounting|export|log`: what a session took, and a session for other programs."""

from pathlib import Path

import click

from fedn.api.client import APIClient
from fedn.cli.connection import reducer_options
from fedn.cli.output import Output, duration, size
from fedn.protocol.errors import NotFound
from fedn.protocol.rest import SessionView
from fedn.protocol.rounds import Usage


def find_session(api: APIClient, name: str | None) -> SessionView:
    """The session that is named, or else the latest one. NotFound (`no_such_session`)."""
    if name is not None:
        return api.session(name)
    sessions = api.sessions()
    if not sessions:
        raise NotFound("no_such_session", "there is no session yet", fix="Start one: fedn session start")
    return max(sessions, key=lambda view: view.created_at)


@click.command()
@click.argument("name", metavar="[SESSION]", required=False)
@click.option("--by", type=click.Choice(["client", "round"]), default="client", help="A line for each of these.")
@reducer_options
def accounting(name: str | None, by: str, api: APIClient, out: Output) -> None:
    """What a session took: traffic of the clients, and compute time."""
    found = api.accounting(find_session(api, name).id)
    if out.json:
        out.data(found)
        return
    rows: list[list[object]]
    if by == "client":
        rows = [[each.client, each.rounds, *_cells(each.usage)] for each in found.clients]
    else:
        rows = [[f"{each.index + 1} ({each.kind})", each.attempts, *_cells(each.usage)] for each in found.rounds]
    second = "rounds" if by == "client" else "attempts"
    heading = (by, second, "updates", "down", "up", "work", "busy", "processor", "memory")
    out.table(heading, [*rows, ["total", "", *_cells(found.total)]], empty="")


def _cells(usage: Usage) -> list[object]:
    return [
        f"{usage.updates}/{usage.tasks}",
        size(usage.down_bytes),
        size(usage.up_bytes),
        duration(usage.task_ms / 1e3),
        duration(usage.busy_ms / 1e3),
        duration(usage.cpu_ms / 1e3),
        size(usage.memory_bytes),
    ]


@click.command()
@click.argument("name", metavar="[SESSION]", required=False)
@click.option(
    "--format", "kind", type=click.Choice(["json", "csv"]), default="json", help="One document, or a folder of tables."
)
@click.option("--out", "target", type=click.Path(path_type=Path), help="File (json) or new folder (csv) to write.")
@reducer_options
def export(name: str | None, kind: str, target: Path | None, api: APIClient, out: Output) -> None:
    """Write a session to files: rounds, ledgers, metrics, contributions, accounting.

    \b
    fedn session export                          SESSION.json
    fedn session export --format csv --out run1  run1/rounds.csv, run1/ledger.csv, …
    """
    from fedn.api.export import read_session, write_csv, write_json  # heavy, and of no use to the other commands

    view = find_session(api, name)
    data = read_session(api, view.id)
    if kind == "json":
        files = [target or Path(f"{view.id}.json")]
        write_json(data, files[0])
    else:
        files = write_csv(data, target or Path(view.id))
    if out.json:
        out.data({"session": view.id, "files": [str(file) for file in files]})
    else:
        out.say(f"Session {view.id}, {len(data.rounds)} rounds: {', '.join(str(file) for file in files)}")


@click.command()
@click.argument("name", metavar="[SESSION]", required=False)
@click.option("--to", "logger", required=True, help="tensorboard, mlflow, or another that is installed.")
@click.option("--out", "target", required=True, help="Folder of TensorBoard, or MLflow's tracking URI.")
@reducer_options
def log(name: str | None, logger: str, target: str, api: APIClient, out: Output) -> None:
    """Log a session's metrics for TensorBoard or MLflow, as they come, until it ends.

    \b
    fedn session log --to tensorboard --out runs           then: tensorboard --logdir runs
    fedn session log --to mlflow --out http://host:5000

    Started late, or again, it misses nothing.
    """
    from fedn.loggers.base import get_logger  # heavy: loads the other program's package
    from fedn.loggers.follow import log_session

    view = find_session(api, name)
    rounds = 0
    with get_logger(logger).open(target, view) as run:
        for rounds in log_session(api, view.id, run):
            out.say(f"round {rounds} of {view.rounds}")
    if out.json:
        out.data({"session": view.id, "rounds": rounds})
