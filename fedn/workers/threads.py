"""`python -m fedn.workers.threads N SCRIPT [ARGUMENTS]`: a script as N workers, each a thread of this process."""

import sys
from pathlib import Path

from fedn.workers.running import run_workers
from fedn.workers.scripts import Script


def main(arguments: list[str]) -> None:
    size, path, *own = arguments
    script = Script(Path(path), own)
    run_workers(int(size), lambda rank: script.run())


if __name__ == "__main__":
    main(sys.argv[1:])
