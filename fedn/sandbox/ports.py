"""Which port the reducer of a sandbox gets, so that sandboxes that start at the same time do not get the same one."""

import errno
import socket
import sys

from fedn.protocol.errors import Conflict

USUAL_PORT = 8090


class PortClaim:
    """A port that no program listens on, and that nobody else on this machine is given until this is closed.

    The reducer binds the port itself, a second or more later; until then another sandbox would find it free, and the
    system could give it to any program that asks for some port.

    Args:
        host: that the reducer will listen at.
        wanted: a port; None for the usual one, or any free one where that is taken.

    Raises:
        Conflict: (`port_in_use`) the wanted port is taken.
    """

    def __init__(self, host: str, wanted: int | None) -> None:
        for port in (wanted,) if wanted else (USUAL_PORT, 0, 0, 0):
            self._place = _bound(host, port)
            if self._place is None:
                continue
            self.port: int = self._place.getsockname()[1]
            self._claim = _claim(self.port)
            if sys.platform != "linux" or self._claim is None:
                self._place.close()
            if self._claim is not None:
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
        for each in (self._claim, self._place):
            if each is not None:
                each.close()


def _bound(host: str, port: int) -> socket.socket | None:
    """A socket at the port (any free one for 0) that does not listen; None where it is taken.

    On Linux the reducer may listen there meanwhile, since it sets SO_REUSEADDR too. Elsewhere it may not.
    """
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        place.bind((host, port))
    except OSError:
        place.close()
        return None
    return place


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
