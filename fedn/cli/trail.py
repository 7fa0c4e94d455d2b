"""`fedn trail`: the chain of all global models, shown and verified."""

from pathlib import Path

import click

from fedn.api.client import APIClient
from fedn.cli.connection import reducer_options
from fedn.cli.output import Output, metrics, short_id, when


@click.group()
def trail() -> None:
    """The trail: one signed, hash-chained entry for each global model, which nobody can change unseen."""


@trail.command()
@click.option("--start", type=click.IntRange(min=0), default=0, help="First index.  [default: 0]")
@reducer_options
def show(start: int, api: APIClient, out: Output) -> None:
    """The entries, the oldest first. With --json, whole: hashes, signatures, contributions."""
    entries = list(api.trail_entries(start))
    if out.json:
        out.data(entries)
        return
    out.table(
        ("index", "kind", "session", "round", "model", "clients", "training", "time", "hash"),
        (
            (
                entry.index,
                entry.kind,
                entry.session,
                "" if entry.round is None else entry.round + 1,
                short_id(entry.model_id),
                sum(len(part.contributions) for part in entry.combiner_models) or "",
                metrics(entry.metrics),
                when(entry.time),
                short_id(entry.hash),
            )
            for entry in entries
        ),
        empty="The trail is empty.",
    )


@trail.command()
@click.option("--head", help="Hash of an entry that you saw earlier: it must still be there.")
@click.option(
    "--key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The reducer's public key as you keep it (PEM); without it, the key is asked of the reducer.",
)
@reducer_options
def verify(head: str | None, key: Path | None, api: APIClient, out: Output) -> None:
    """Prove that no entry was changed, dropped or put in between; with --head, that none was cut off.

    The whole trail is fetched and checked on this machine: hashes, order, signatures. Keep the head that is printed:
    with it, a later cut is seen.

    Exits with status 7 where the trail is not whole.
    """
    from fedn.cli.trail_check import check_trail  # heavy: only this command needs the cryptography

    status = api.status()
    pem = key.read_text(encoding="ascii") if key else api.trail_key().public_key
    found = check_trail(api.trail_entries(), pem, federation=status.federation, head=head)
    if out.json:
        out.data({"federation": status.federation, "length": found.length, "head": found.head, "key": pem})
        return
    out.say(f"The trail of {status.federation} is whole: {found.length} entries, all signed by the reducer's key.")
    out.say(f"Head: {found.head}")
    if head is None and found.length:
        out.say(f"Keep the head; next time: fedn trail verify --head {found.head}")
