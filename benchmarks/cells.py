"""Cells of a grid: each a child process of its own, ended when it needs too long or too much memory."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from benchmarks.proc import MIB, available_bytes
from benchmarks.results import Row

ROOT = Path(__file__).resolve().parent.parent
_LOOK_EVERY_S = 0.5
_CLEAN_UP_S = 20.0


@dataclass(frozen=True)
class Limits:
    """What a cell may use."""

    timeout_s: float = 600.0
    min_free_bytes: int = 1500 * MIB
    """It is ended when the machine has less memory left than this."""


class CellFailed(Exception):
    """A cell brought no result; the message says why, in few words."""


def run_cell(
    command: Sequence[str | Path], *, limits: Limits, log: Path, environ: Mapping[str, str] | None = None
) -> Row:
    """Runs a command that writes one JSON object as the last line of its standard output.

    Args:
        log: its standard error is added to this file.
        environ: beside this process's own.

    Raises:
        CellFailed: it was ended, ended with an error, or brought no result.
    """
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with log.open("a") as errors:
        errors.write(f"\n### {' '.join(map(str, command))}\n")
        errors.flush()
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": path, **(environ or {})},
            start_new_session=True,
        )
        try:
            output = _output_of(process, limits)
        finally:
            if process.poll() is None:
                _end(process)
    if process.returncode:
        raise CellFailed(f"ended with status {process.returncode}; see {log}")
    return _result_in(output, log)


def child(module: str, *arguments: str | int | float | Path) -> list[str | Path]:
    """The command that runs a module of ours with this interpreter."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def end_on_signals() -> None:
    """SIGTERM ends this process as Ctrl-C does: with its children and temporary files."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)


def _output_of(process: "subprocess.Popen[bytes]", limits: Limits) -> bytes:
    deadline = time.monotonic() + limits.timeout_s
    while True:
        try:
            return process.communicate(timeout=_LOOK_EVERY_S)[0]
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise CellFailed(f"over {limits.timeout_s:g} s") from None
            if available_bytes() < limits.min_free_bytes:
                raise CellFailed("not enough memory on this machine") from None


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Asks it to clean up; then kills what is left of it and its descendants, and nothing else."""
    below = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    try:
        # Not for the end of its output: what it left running may hold that open.
        process.wait(_CLEAN_UP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for one in below:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(below, timeout=_CLEAN_UP_S)
    if process.stdout is not None:
        process.stdout.close()


def _result_in(output: bytes, log: Path) -> Row:
    lines = output.decode(errors="replace").strip().splitlines()
    try:
        row = json.loads(lines[-1])
    except (IndexError, ValueError) as error:
        raise CellFailed(f"brought no result; see {log}") from error
    if not isinstance(row, dict):
        raise CellFailed(f"brought no result; see {log}")
    return row
