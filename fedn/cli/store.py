"""`fedn store`: upkeep of the model store."""

import click

from fedn.api.client import APIClient
from fedn.cli.connection import reducer_options
from fedn.cli.output import Output, duration, size


@click.group()
def store() -> None:
    """The model store: models, packages and server states, each named by its digest."""


@store.command()
@click.option("--older-than", type=click.FloatRange(min=0), default=24.0, help="Hours.  [default: 24]")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@reducer_options
def gc(older_than: float, dry_run: bool, api: APIClient, out: Output) -> None:
    """Remove objects that no trail entry, package or session names."""
    reply = api.collect_garbage(older_than_s=older_than * 3600, dry_run=dry_run)
    if out.json:
        out.data(reply)
        return
    verb = "Would remove" if reply.dry_run else "Removed"
    age = duration(older_than * 3600)
    out.say(f"{verb} {reply.num_removed} objects older than {age} ({size(reply.removed_bytes)}); {reply.kept} stay.")
    if reply.retained:
        out.say(f"{reply.retained} more are not needed, but the store keeps them under retention.")
