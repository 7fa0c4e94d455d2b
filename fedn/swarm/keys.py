"""The keys of a swarm's clients: in memory, or in one file, so that a later swarm goes on as the same clients.

A site's own client keeps its identity in a folder of its own (`fedn.network.identity`); ten thousand folders, each
with a lock, is what is saved here. Keys are never shared: each name has its own.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from fedn.network.private_files import OWNER_ONLY, make_private_folder
from fedn.network.tls import new_private_key
from fedn.protocol.errors import FednError

_FILE = "swarm-keys.db"
_BUSY_TIMEOUT_S = 60.0


def keys_of(names: Sequence[str], folder: Path | None) -> dict[str, bytes]:
    """Name to private key (PEM). Those of `folder` last; a key is durable before it is used.

    Raises:
        FednError: (`cannot_write_file`) the folder cannot be used.
    """
    if folder is None:
        return {name: new_private_key() for name in names}
    try:
        return _kept_keys(names, folder)
    except (OSError, sqlite3.Error) as error:
        raise FednError(
            "cannot_write_file",
            f"the keys of the swarm cannot be kept: {error}",
            fix="Choose another folder with --data-dir, or leave it out.",
            where={"file": folder / _FILE},
        ) from error


def _kept_keys(names: Sequence[str], folder: Path) -> dict[str, bytes]:
    make_private_folder(folder)
    path = folder / _FILE
    path.touch(mode=OWNER_ONLY)
    database = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    try:
        database.execute("PRAGMA synchronous = FULL")
        database.execute("BEGIN IMMEDIATE")
        database.execute("CREATE TABLE IF NOT EXISTS keys (name TEXT PRIMARY KEY, key BLOB NOT NULL)")
        known = dict(database.execute("SELECT name, key FROM keys"))
        made = {name: new_private_key() for name in names if name not in known}
        database.executemany("INSERT INTO keys VALUES (?, ?)", made.items())
        database.execute("COMMIT")
    finally:
        database.close()
    return {name: bytes(made[name] if name in made else known[name]) for name in names}
