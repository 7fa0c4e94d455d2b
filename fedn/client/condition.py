"""The client's condition, in a file: a client has no port at which a health check could ask.

The agent writes what it is doing when that changes, and touches the file every few seconds for as long as its event
loop turns. Who reads it: `fedn client health`.
"""

import asyncio
import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from fedn.network.private_files import write_file
from fedn.plan.settings import ClientSettings
from fedn.protocol.errors import Unavailable

_FILE = "condition.json"
_BEAT_S = 5.0
_SILENT_AFTER_S = 60.0
"""So long without a beat means a loop that hangs, or a process that is gone: twelve beats, for machines under load."""


@dataclass(frozen=True)
class _Condition:
    attached_to: str
    """The combiner; empty while there is none."""
    since: float
    """Unix seconds."""
    doing: str
    """For people: what the client last said of its way to a combiner."""


class ConditionFile:
    """Written by the agent, in its loop's thread.

    Args:
        folder: the client's own.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._written: _Condition | None = None

    def attached(self, combiner: str) -> None:
        """A combiner serves the client."""
        self._write(combiner, "")

    def away(self, doing: str) -> None:
        """No combiner serves the client, and this is why."""
        self._write("", doing)

    async def beat(self) -> None:
        """Shows that the loop turns, until it is cancelled."""
        while True:
            # Where somebody removed the file, the health check fails, and not the client.
            with contextlib.suppress(FileNotFoundError):
                os.utime(self._path)
            await asyncio.sleep(_BEAT_S)

    def close(self) -> None:
        """A client that ended has no condition."""
        self._path.unlink(missing_ok=True)

    def _write(self, combiner: str, doing: str) -> None:
        last = self._written
        goes_on = last is not None and last.attached_to == combiner
        since = last.since if last is not None and goes_on else time.time()
        self._written = _Condition(combiner, since, doing)
        if self._written != last:
            write_file(self._path, json.dumps(asdict(self._written)).encode())


def check_client(settings: ClientSettings, away_s: float) -> str:
    """Reads the condition of the client with these settings, on this machine.

    Args:
        settings: the same as the client's.
        away_s: seconds without a combiner that are no fault yet.

    Returns:
        What it is doing, for people.

    Raises:
        Unavailable: (`does_not_serve`) no such client runs, it hangs, or it has had no combiner for too long.
    """
    path = settings.anchored().data_dir / _FILE
    try:
        said = _Condition(**json.loads(path.read_bytes()))
        silent_s = time.time() - path.stat().st_mtime
    except FileNotFoundError as error:
        raise _not_well("no client runs here", path) from error
    except (ValueError, TypeError) as error:
        raise _not_well("the file of its condition cannot be read", path) from error
    if silent_s > _SILENT_AFTER_S:
        raise _not_well(f"the client has given no sign for {silent_s:.0f} s", path)
    if said.attached_to:
        return f"attached to the combiner {said.attached_to}"
    gone_s = time.time() - said.since
    if gone_s > away_s:
        raise _not_well(f"no combiner for {gone_s:.0f} s: {said.doing}", path)
    return f"on its way to a combiner for {gone_s:.0f} s: {said.doing}"


def _not_well(why: str, path: Path) -> Unavailable:
    return Unavailable(
        "does_not_serve",
        f"no client with these settings is at work: {why}",
        fix="See the client's log; give this command the same settings (environment, file, flags) as the program.",
        where={"file": path},
    )
