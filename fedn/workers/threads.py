"""`python -m fedn.workers.threads N SCRIPT [ARGUMENTS]`: a script as N workers, each a thread of this process."""

import sys
from pathlib import Path

from fedn.workers.running import run_workers


def main(arguments: list[str]) -> None:
    size, script = int(arguments[0]), Path(arguments[1])
    code = compile(script.read_bytes(), str(script), "exec")
    sys.argv = arguments[1:]
    sys.path.insert(0, str(script.resolve().parent))

    def worker(rank: int) -> None:
        # Each in a namespace of its own: they share modules, and no global variable of the script.
        exec(code, {"__name__": "__main__", "__file__": str(script)})  # noqa: S102 - the user's own script

    run_workers(size, worker)


if __name__ == "__main__":
    main(sys.argv[1:])
