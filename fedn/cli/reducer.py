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
