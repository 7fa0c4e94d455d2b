"""`fedn driver`: one experiment from one file."""

from pathlib import Path

import click

from fedn.cli.connection import json_option
from fedn.cli.failures import Status
from fedn.cli.output import Output


@click.command()
@click.argument("federation", metavar="FEDERATION.yaml", type=click.Path(path_type=Path, dir_okay=False))
@json_option
@click.pass_context
def driver(context: click.Context, federation: Path, out: Output) -> None:
    """Run an experiment: start or attach to a federation, train, watch, end, and write the statistics.

    The file says all of it: see docs/how-to/run-an-experiment.md. The exit status is 0 when the session finished, and 1
    when it did not.
    """
    from fedn.cli.progress import show_session  # heavy: rich
    from fedn.cli.session_statistics import show_statistics
    from fedn.cli.stopping import end_on_signals
    from fedn.driver.driver import Driver  # heavy: the sandbox with all that it starts

    end_on_signals()
    experiment = Driver(federation)
    found = experiment.run(watch=None if out.json else show_session)
    if out.json:
        out.data(found)
    else:
        click.echo()
        show_statistics(found.session, out)
        if experiment.config.statistics is not None:
            click.echo(f"\nAll of it: {experiment.config.statistics}")
    context.exit(Status.OK if found.state == "finished" else Status.FAILED)
