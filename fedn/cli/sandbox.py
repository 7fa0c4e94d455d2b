"""`fedn sandbox`: the whole platform on this machine, and a model trained on it."""

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedn.cli.failures import Status
from fedn.cli.stopping import end_on_signals

if TYPE_CHECKING:
    from fedn.sandbox.federation import Sandbox

DATA_DIR = Path("fedn-sandbox")
"""The default project's. Commands look for the reducer's address there by themselves."""


def default_data_dir(project: Path | None) -> Path:
    """Each project has a folder of its own: a federation has one chain of models, and projects have other tensors."""
    return DATA_DIR if project is None else Path(f"{DATA_DIR}-{project.resolve().name}")


@click.command()
@click.option("--clients", type=click.IntRange(1, 200), default=5, help="Clients.  [default: 5]")
@click.option("--combiners", type=click.IntRange(1, 20), default=2, help="Combiners.  [default: 2]")
@click.option("--rounds", type=click.IntRange(min=1), help="Rounds.  [default: as the project's plan.yaml says, or 5]")
@click.option(
    "--project",
    type=click.Path(path_type=Path),
    help="Folder of a project, as `fedn new` makes it.  [default: the digits project]",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Where everything is kept.  [default: fedn-sandbox; with --project, fedn-sandbox-NAME]",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of every random choice.  [default: 0]")
@click.option(
    "--deterministic", is_flag=True, help="Repeat a run to the bit: fixed orders, and every client must answer."
)
@click.option("--port", type=click.IntRange(1, 65535), help="Of the reducer.  [default: 8090, or any free one]")
@click.option("--exit", "exit_at_end", is_flag=True, help="End when the session has ended, instead of serving on.")
@click.pass_context
def sandbox(
    context: click.Context,
    clients: int,
    combiners: int,
    rounds: int | None,
    project: Path | None,
    data_dir: Path | None,
    seed: int,
    deterministic: bool,
    port: int | None,
    exit_at_end: bool,
) -> None:
    """A whole federation on this machine trains a model, while you watch.

    Starts the real programs (a reducer, combiners, clients), talking TLS, with stores in files; trains the project's
    model; then serves until Ctrl-C. Nothing is downloaded. Started again on the same data directory, it goes on with
    the model that it has.

    The exit status is 0 when the session finished, and 1 when it did not.
    """
    from fedn.sandbox.federation import Sandbox, SandboxOptions  # heavy: only a start needs them
    from fedn.sandbox.project import open_project

    started = time.monotonic()
    end_on_signals()
    opened = open_project(project)
    data_dir = data_dir or default_data_dir(project)
    options = SandboxOptions(clients=clients, combiners=combiners, data_dir=data_dir, port=port, seed=seed)
    with Sandbox(opened, options) as federation:
        click.echo(f"Starting 1 reducer, {combiners} combiners and {clients} clients; logs in {data_dir / 'logs'} …")
        federation.start()
        click.echo(f"All are there after {time.monotonic() - started:.1f} s.")
        status = _train(federation, rounds=rounds, deterministic=deterministic)
        click.echo(f"{time.monotonic() - started:.0f} s in all.")
        if not exit_at_end:
            _say_how_to_go_on(federation.url, data_dir)
            federation.serve()
    context.exit(status)


def _train(federation: "Sandbox", *, rounds: int | None, deterministic: bool) -> Status:
    from fedn.cli.progress import show_session  # heavy: rich
    from fedn.cli.session import end_of

    plan = federation.plan(rounds=rounds, deterministic=deterministic)
    session = federation.begin_session(plan)
    click.echo(f"Session {session} trains {federation.project.manifest.name or federation.project.folder.name}:\n")
    last = show_session(federation.follow(session))
    click.echo(f"\n{end_of(last)}")
    if last.state != "finished":
        click.echo(f"Read the logs in {federation.options.data_dir / 'logs'}.")
        return Status.FAILED
    whole = federation.api.verify_trail()
    click.echo(f"The trail is whole: {whole.length} models, each signed and chained to the one before.")
    return Status.OK


def _say_how_to_go_on(url: str, data_dir: Path) -> None:
    where = "" if data_dir == DATA_DIR else f" --context {data_dir / 'admin.json'}"
    commands = {
        f"session show{where} --round 1": "who took part, with which weight",
        f"session start{where} --rounds 5": "train on",
        f"model download{where}": "the newest model",
        f"trail verify{where}": "that nobody changed a model",
    }
    fedn = _this_program()
    width = max(map(len, commands))
    click.echo(
        f"\nDashboard: {url} (its certificate is this sandbox's own, so the browser warns: go on)\n"
        f"Log in with the admin_secret in {data_dir / 'admin.json'}, or to look only with what this prints:\n"
        f"  {fedn} token create{where} --role viewer\n"
        "\nThe federation goes on. In another terminal, in this directory:"
    )
    for command, what in commands.items():
        click.echo(f"  {fedn} {command:<{width}}    {what}")
    click.echo("Ctrl-C ends everything.")


def _this_program() -> str:
    """What to type in another terminal: the path, where its shell would not find this `fedn`, or another one."""
    called = sys.argv[0]
    found = shutil.which("fedn")
    if Path(called).name != "fedn" or (found is not None and Path(found).resolve() == Path(called).resolve()):
        return "fedn"
    return called
