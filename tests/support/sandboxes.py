"""A sandbox as a user starts it: `fedn sandbox …` as a child process, with what it prints."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

WITHIN_S = 240.0


class RunningSandbox:
    """A sandbox that serves."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line)
        self._queue.put(None)

    def wait_for(self, text: str, within_s: float = WITHIN_S) -> str:
        """The first line, from here on, that contains the text; AssertionError with all lines otherwise."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                line = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {text!r} within {within_s} s in:\n{''.join(self.lines)}") from None
            if line is None:
                raise AssertionError(f"it ended without {text!r}:\n{''.join(self.lines)}")
            self.lines.append(line)
            if text in line:
                return line

    def children(self) -> list[psutil.Process]:
        """Every process below it."""
        return psutil.Process(self.process.pid).children(recursive=True)


def fedn(*arguments: str, cwd: Path, timeout_s: float = WITHIN_S) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "fedn.cli.main", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=clean_environment(),
    )


def clean_environment() -> dict[str, str]:
    """This environment without settings of fedn."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("FEDN_", "ALLIANCE_"))}


@contextmanager
def running_sandbox(cwd: Path, *arguments: str) -> Iterator[RunningSandbox]:
    """A sandbox that has been started, and ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "fedn.cli.main", "sandbox", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=clean_environment(),
        start_new_session=True,
    )
    sandbox = RunningSandbox(process)
    try:
        yield sandbox
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
