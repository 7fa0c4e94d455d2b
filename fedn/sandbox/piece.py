"""A client of a sandbox in containers: it takes a free piece of the project's data, then becomes `fedn client start`.

Containers of one service differ in nothing but their ids, so none can know that it is, say, the third of five. Each
therefore locks the first free file of a folder that all of them share; its number is the piece. The lock is let go when
the client ends, however it does, and is then another's to take.

    python -m fedn.sandbox.piece --project /projects/digits --count 8 --locks /pieces [flags of `fedn client start`]

Not here: what a piece is. That says the project's own code (see `fedn.sandbox.project.data_path`).
"""

import fcntl
import os
import sys
import zlib
from pathlib import Path
from typing import NoReturn

import click

from fedn.sandbox.project import data_path

FIRST_SEED = 0
"""Of the data's split, as in `fedn sandbox`."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--project", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--count", type=click.IntRange(1, 100_000), required=True, help="Pieces that the data are cut into.")
@click.option("--locks", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def main(project: Path, count: int, locks: Path, flags: tuple[str, ...]) -> NoReturn:
    """Take a free piece of a project's data and run a client with it."""
    index = take(locks, count)
    if index is None:
        index = zlib.crc32(os.uname().nodename.encode()) % count
        click.echo(f"all {count} pieces of the data are taken: this client shares piece {index} with another", err=True)
    data = data_path(project, f"client-{index + 1}", index, count, FIRST_SEED, Path("piece").absolute())
    command = [sys.executable, "-m", "fedn.cli.main", "client", "start", "--data-path", str(data), *flags]
    os.execv(sys.executable, command)  # noqa: S606 (this program's own command, no shell)


def take(locks: Path, count: int) -> int | None:
    """Locks the first free one of so many files for as long as this process lives, whatever program it becomes.

    Returns:
        Its number, from 0; None where all are taken.
    """
    for index in range(count):
        descriptor = os.open(locks / str(index), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        os.set_inheritable(descriptor, True)
        return index
    return None


if __name__ == "__main__":
    main()
