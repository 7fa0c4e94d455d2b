"""How commands that start programs of their own are ended."""

import signal
from types import FrameType


def end_on_signals() -> None:
    """SIGTERM and SIGHUP end the command as Ctrl-C does: with its children."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
