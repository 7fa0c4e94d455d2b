"""Which port the reducer of a sandbox gets, so that sandboxes that start at the same time do not get the same one."""

import errno
import socket
import sys

from fedn.protocol.errors import Conflict

USUAL_PORT = 8090


class PortClaim:
    """A port that no program listens on, and that no other sandbox on this machine takes until this is closed.

    The reducer binds the port itself, a second or two later; until then another sandbox would find it free.

    Args:
        host: that the reducer will listen at.
        wanted: a port; None for the usual one, or any free one where that is taken.

    Raises:
        Conflict: (`port_in_use`) the wanted port is taken.
    """

    def __init__(self, host: str, wanted: int | None) -> None:
        for port in (wanted,) if wanted else (USUAL_PORT, 0, 0, 0):
            found = _free(host, port)
            self._claim = _claim(found) if found else None
            if self._claim is not None:
                self.port = found
                return
        taken = wanted or USUAL_PORT
        raise Conflict(
            "port_in_use",
            f"port {taken} is taken by another program",
            fix="Choose another one with --port, or leave it out.",
            where={"port": taken},
        )

    def close(self) -> None:
        """Harmless when repeated."""
        if self._claim is not None:
            self._claim.close()
            self._claim = None


def _free(host: str, port: int) -> int:
    """The port (any free one for 0), or 0 where it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return 0
        found: int = probe.getsockname()[1]
        return found


def _claim(port: int) -> socket.socket | None:
    """What stands for the claim, or None where another sandbox has it.

    On Linux a name in the abstract namespace: it vanishes with the process that bound it, and leaves no file. Elsewhere
    there is nothing like it, and two sandboxes that start within the same second may still collide.
    """
    mark = socket.socket(socket.AF_UNIX)
    if sys.platform != "linux":
        return mark
    try:
        mark.bind(f"\0fedn-sandbox-{port}")
    except OSError as error:
        mark.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return mark
