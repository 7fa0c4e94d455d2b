"""What the client remembers of the model trail: an older trail than the one it saw is not trained for."""

import json
import logging
from pathlib import Path

from fedn.network.private_files import write_file
from fedn.protocol.errors import IntegrityError

_LOG = logging.getLogger(__name__)


class TrailMemory:
    """The last head that an assignment told, kept in a file.

    A trail only grows: a shorter one, or another head at the same length, means that entries were cut off or replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._head, self._length = self._load()

    def check(self, head: str, length: int) -> None:
        """Compares with what was seen, and remembers it.

        Raises:
            IntegrityError: `trail_rolled_back`; the memory keeps what it had.
        """
        if length < self._length or (length == self._length and self._head not in {"", head}):
            raise IntegrityError(
                "trail_rolled_back",
                f"the reducer's trail has {length} entries and the head {head}; this client has seen {self._length} "
                f"and the head {self._head}",
                fix="Ask the reducer's operator. If the trail was restored from a backup on purpose, remove the file.",
                where={"file": self._path},
            )
        if (head, length) != (self._head, self._length):
            self._head, self._length = head, length
            write_file(self._path, json.dumps({"head": head, "length": length}).encode())

    def _load(self) -> tuple[str, int]:
        try:
            seen = json.loads(self._path.read_bytes())
            return str(seen["head"]), int(seen["length"])
        except FileNotFoundError:
            return "", 0
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                "trail_memory_damaged",
                "the file with the last seen head of the trail cannot be read",
                fix="Restore it, or remove it to trust the reducer's trail as it is now.",
                where={"file": self._path},
            ) from error
