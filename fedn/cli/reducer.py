"""`fedn reducer`: runs tier 1."""

import click

from fedn.cli.settings_options import settings_options
from fedn.plan.allocator import restart_with_allocator
from fedn.plan.settings import ReducerSettings


@click.group()
def reducer() -> None:
    """The reducer: enrols sites, runs sessions, keeps the trail, serves REST and the dashboard."""


@reducer.command()
@settings_options(ReducerSettings)
@click.pass_context
def start(context: click.Context, settings: ReducerSettings) -> None:
    """Run the reducer until SIGINT or SIGTERM.

    \b
    The first start makes the federation's authority, keys and secrets in the data directory. Then:
        fedn token create          prints the join string for combiners and clients
        fedn status                says what goes on

    Without further settings, models and state are kept in files in the data directory. For MongoDB and S3 see
    `--state-kind mongodb --state-url …` and `--models-kind s3 --models-endpoint …`.
    """
    restart_with_allocator()
    from fedn.reducer.main import run  # heavy: only the program itself needs it

    context.exit(run(settings))


@reducer.command()
@click.option("--timeout", "timeout_s", type=click.FloatRange(0.1, 60), default=5.0, help="Seconds to wait.")
@settings_options(ReducerSettings)
def health(timeout_s: float, settings: ReducerSettings) -> None:
    """Ask the reducer on this machine whether it serves, and fail where it does not.

    For health checks of containers and orchestrators. It takes the same settings as `fedn reducer start`.
    """
    from fedn.api.health import check_reducer  # heavy: only this command needs it

    click.echo(f"the reducer serves at {check_reducer(settings, timeout_s)}")
