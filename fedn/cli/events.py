"""`fedn events`: what happened, and what happens."""

from datetime import UTC, datetime

import click

from fedn.api.client import APIClient
from fedn.cli.connection import reducer_options
from fedn.cli.output import Output
from fedn.protocol.rest import EventView


@click.command()
@click.option("--after", type=click.IntRange(min=0), default=0, help="Only events with a greater number.  [default: 0]")
@click.option("-f", "--follow", is_flag=True, help="Go on as events happen, until Ctrl-C.")
@reducer_options
def events(after: int, follow: bool, api: APIClient, out: Output) -> None:
    """The federation's events, the oldest first. With --json: one object a line."""
    if follow:
        for event in api.watch(after):
            _print(event, out)
        return
    while True:
        page = api.events(after)
        for event in page.events:
            _print(event, out)
        if not page.events:
            return
        after = max(event.number for event in page.events)


def _print(event: EventView, out: Output) -> None:
    if out.json:
        out.line(event)
        return
    time = datetime.fromtimestamp(event.time, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    fields = " ".join(f"{name}={value}" for name, value in event.fields.items() if value not in ("", None))
    click.echo(f"{event.number:>6}  {time}  {event.kind:<20} {fields}")
