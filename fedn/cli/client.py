"""`fedn client`: runs tier 3, checks beforehand that it would work; lists and removes clients at the reducer."""

from typing import TYPE_CHECKING

import click

from fedn.api.client import APIClient
from fedn.cli.connection import json_option, reducer_options
from fedn.cli.failures import Status
from fedn.cli.output import Output, when
from fedn.cli.settings_options import settings_options
from fedn.plan.allocator import restart_with_allocator
from fedn.plan.settings import ClientSettings

if TYPE_CHECKING:
    from fedn.client.preflight import Check


@click.group()
def client() -> None:
    """Clients: run one where data is. It opens no port; all its connections go out."""


@client.command()
@settings_options(ClientSettings)
@click.pass_context
def start(context: click.Context, settings: ClientSettings) -> None:
    """Run a client until SIGINT or SIGTERM.

    \b
    With the federation's compute package:    fedn client start --join fedn1.… --data-path ./data
    With a Learner of your own:               fedn client start --join fedn1.… --learner my_module.py:MyLearner
    """
    restart_with_allocator()
    from fedn.client.main import run  # heavy: only the program itself needs it

    context.exit(run(settings))


@client.command()
@click.option(
    "--away",
    "away_s",
    type=click.FloatRange(0, 86400),
    default=120.0,
    show_default=True,
    help="Seconds without a combiner that are no fault yet.",
)
@settings_options(ClientSettings)
def health(away_s: float, settings: ClientSettings) -> None:
    """Look whether the client on this machine is at work, and fail where it is not.

    For health checks of containers and orchestrators. A client has no port, so this reads a file that it keeps up to
    date in its folder. It takes the same settings as `fedn client start`.
    """
    from fedn.client.condition import check_client  # heavy: only this command needs it

    click.echo(f"the client is {check_client(settings, away_s)}")


@client.command()
@settings_options(ClientSettings)
@json_option
@click.pass_context
def preflight(context: click.Context, settings: ClientSettings, out: Output) -> None:
    """Check everything that `fedn client start` with the same settings needs, and say what to do where it fails.

    Exits with status 1 where a check fails.
    """
    from fedn.client.preflight import preflight as all_checks  # heavy: only this command needs it

    checks = all_checks(settings)
    failed = sum(not check.ok for check in checks)
    if out.json:
        out.data({"ok": not failed, "checks": [vars(check) for check in checks]})
    else:
        for check in checks:
            click.echo(f"{_mark(check)}  {check.name.replace('_', ' ')}: {check.detail}")
            if not check.ok and check.fix:
                click.echo(f"         {click.style('fix:', fg='green')} {check.fix}")
        click.echo(f"{failed} of {len(checks)} checks failed." if failed else "This client would work.")
    context.exit(Status.FAILED if failed else Status.OK)


def _mark(check: "Check") -> str:
    if check.skipped:
        return click.style("skipped", fg="yellow")
    return click.style("ok     ", fg="green") if check.ok else click.style("FAILED ", fg="red", bold=True)


@client.command("list")
@reducer_options
def list_clients(api: APIClient, out: Output) -> None:
    """Clients that have enrolled."""
    found = api.clients()
    if out.json:
        out.data(found)
        return
    out.table(
        ("name", "attached to", "does", "last seen", "attributes"),
        (
            (
                view.name,
                view.combiner if view.attached else "-",
                ", ".join(view.kinds),
                "now" if view.attached else when(view.last_seen),
                ", ".join(f"{key}={value}" for key, value in view.attributes.items()),
            )
            for view in found
        ),
        empty="No client has enrolled yet. Make a join string: fedn token create",
    )


@client.command()
@click.argument("name")
@reducer_options
def remove(name: str, api: APIClient, out: Output) -> None:
    """Forget a client and its key, so that another machine may enrol with the name."""
    api.remove_client(name)
    out.say(f"Forgot {name}.")
