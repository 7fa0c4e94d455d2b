"""Child processes of a sandbox: each in a process group of its own, with a log file, ended with the sandbox."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fedn.protocol.errors import FednError

_TAIL_LINES = 15
_PRIVATE_PREFIXES = ("FEDN_", "ALLIANCE_", "CLIENT_NAME_BASE")
"""Environment that would change what a program of the sandbox does."""
_KEPT_PREFIX = "FEDN_DATASETS_"
"""But this tells the project's code where the data is."""


class Program:
    """One running program. Must be made in the main thread: the kernel ties a child to the thread that started it.

    Args:
        name: of the program and of its log file.
        arguments: of `fedn`.
        log: file for its output, written anew; its process id goes into a file beside it, with suffix .pid.
        environ: beside the environment of this process without its fedn settings.
        on_exit: called once, from another thread, when it has ended.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        log: Path,
        environ: Mapping[str, str],
        on_exit: Callable[["Program"], None],
    ) -> None:
        self.name = name
        self.log = log
        inherited = {
            key: value
            for key, value in os.environ.items()
            if key.startswith(_KEPT_PREFIX) or not key.startswith(_PRIVATE_PREFIXES)
        }
        fedn = [sys.executable, "-m", "fedn.cli.main", *arguments]
        launcher = [sys.executable, "-m", "fedn.sandbox.launch", str(os.getpid()), *fedn]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                launcher,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**inherited, **environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        log.with_suffix(".pid").write_text(f"{self._process.pid}\n")
        self._on_exit = on_exit
        self._waiter = threading.Thread(target=self._wait, name=f"wait for {name}", daemon=True)
        self._waiter.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Exit status; negative: the signal that ended it; None while it runs."""
        return self._process.returncode

    def terminate(self) -> None:
        """Asks it to end (SIGTERM)."""
        self._signal(signal.SIGTERM)

    def end(self, deadline: float) -> None:
        """Waits for its end until `deadline` (monotonic seconds), then kills its whole group."""
        self._waiter.join(max(0.0, deadline - time.monotonic()))
        if self._waiter.is_alive():
            self._signal(signal.SIGKILL)
            self._waiter.join()

    def tail(self) -> str:
        """The last lines that it wrote."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])

    def how_it_ended(self) -> str:
        """`exit status 2`, `signal SIGKILL`."""
        status = self.status
        if status is None:
            return "still running"
        return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"

    def as_error(self) -> FednError:
        """The error for a program that has ended although it should run."""
        return FednError(
            "sandbox_program_ended",
            f"{self.name} has ended with {self.how_it_ended()}; its last lines:\n{self.tail()}\n",
            fix=f"Read its log: {self.log}",
            where={"program": self.name},
        )

    def _wait(self) -> None:
        self._process.wait()
        self._on_exit(self)

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return  # it has ended by itself


def end_all(programs: Sequence[Sequence[Program]], *, within_s: float) -> None:
    """Ends programs, group after group, each group at once; what does not end in time is killed."""
    for group in programs:
        deadline = time.monotonic() + within_s
        for program in group:
            program.terminate()
        for program in group:
            program.end(deadline)
