"""`fedn run reducer|combiner|client`: the names that users of FEDn know for `fedn … start`."""

import click

from fedn.cli.lazy import LazyGroup

ALIASES = {
    "reducer": ("fedn.cli.reducer:start", "The same as `fedn reducer start`."),
    "combiner": ("fedn.cli.combiner:start", "The same as `fedn combiner start`."),
    "client": ("fedn.cli.client:start", "The same as `fedn client start`."),
}


@click.group(cls=LazyGroup, lazy=ALIASES)
def run() -> None:
    """Run one of the three programs."""
