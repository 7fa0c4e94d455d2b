"""A user's script as the program of a worker that this process, or a thread of it, is."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType


class Script:
    """Reads and compiles it; this process' arguments and module path become the script's.

    Args:
        path: of the script.
        arguments: its own.
    """

    def __init__(self, path: Path, arguments: Sequence[str]) -> None:
        self._path = path
        self._code: CodeType = compile(path.read_bytes(), str(path), "exec")
        sys.argv = [str(path), *arguments]
        sys.path.insert(0, str(path.resolve().parent))

    def run(self) -> None:
        """Runs it as `__main__`, in a namespace of its own: two runs share modules, and no global variable."""
        exec(self._code, {"__name__": "__main__", "__file__": str(self._path)})  # noqa: S102 - the user's own script
