"""`fedn combiner`: runs tier 2; lists and removes combiners at the reducer."""

import click

from fedn.api.client import APIClient
from fedn.cli.connection import reducer_options
from fedn.cli.output import Output, size, when
from fedn.cli.settings_options import settings_options
from fedn.plan.allocator import restart_with_allocator
from fedn.plan.settings import CombinerSettings


@click.group()
def combiner() -> None:
    """Combiners: run one near its clients; list and remove them."""


@combiner.command()
@settings_options(CombinerSettings)
@click.pass_context
def start(context: click.Context, settings: CombinerSettings) -> None:
    """Run a combiner until SIGINT or SIGTERM.

    \b
    It needs a join string (at the reducer: fedn token create), and an address that clients and the reducer reach:
        fedn combiner start --join fedn1.… --public-host combiner.example.org
    """
    restart_with_allocator()
    from fedn.combiner.main import run  # heavy: only the program itself needs it

    context.exit(run(settings))


@combiner.command()
@click.option("--timeout", "timeout_s", type=click.FloatRange(0.1, 60), default=5.0, help="Seconds to wait.")
@settings_options(CombinerSettings)
def health(timeout_s: float, settings: CombinerSettings) -> None:
    """Ask the combiner on this machine whether it serves, and fail where it does not.

    For health checks of containers and orchestrators. It takes the same settings as `fedn combiner start`.
    """
    from fedn.api.health import check_combiner  # heavy: only this command needs it

    click.echo(f"the combiner serves at {check_combiner(settings, timeout_s)}")


@combiner.command("forget-updates")
@settings_options(CombinerSettings)
def forget_updates(settings: CombinerSettings) -> None:
    """Remove all that a combiner on this machine keeps of its clients' updates, in files or at Redis.

    It must not run. It takes the same settings as `fedn combiner start`.
    """
    from fedn.combiner.main import forget_updates as forget  # heavy: only this command needs it

    click.echo(f"Removed {forget(settings)} update(s).")


@combiner.command("list")
@reducer_options
def list_combiners(api: APIClient, out: Output) -> None:
    """Combiners that the reducer knows."""
    found = api.combiners()
    if out.json:
        out.data(found)
        return
    out.table(
        ("name", "state", "clients", "address", "memory", "heartbeat"),
        (
            (
                view.name,
                ("linked" if view.linked else "alive") if view.alive else "dead",
                f"{view.attached_clients}/{view.max_clients}",
                f"{view.host}:{view.port}",
                size(view.rss_bytes),
                when(view.last_heartbeat),
            )
            for view in found
        ),
        empty="No combiner has registered yet. Start one: fedn combiner start --join …",
    )


@combiner.command()
@click.argument("name")
@reducer_options
def remove(name: str, api: APIClient, out: Output) -> None:
    """Forget a combiner and its key, so that another machine may enrol with the name."""
    api.remove_combiner(name)
    out.say(f"Forgot {name}.")
