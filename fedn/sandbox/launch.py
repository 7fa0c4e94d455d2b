"""How the sandbox, and `fedn worker run`, start programs: they never outlive who started them.

`python -m fedn.sandbox.launch PARENT PROGRAM ARGUMENT…` becomes the program, which gets SIGTERM when the process PARENT
ends in whatever way.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("whoever started this program is gone already")
    os.execv(command[0], command)  # noqa: S606 (no shell)


if __name__ == "__main__":
    main()
