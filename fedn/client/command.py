"""Runs one command of a compute package to its end, with limits of time, memory and output."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedn.client import launch
from fedn.client.output import Output
from fedn.plan.allocator import without_allocator
from fedn.protocol.errors import TaskFailed

CODE_LOG = logging.getLogger("fedn.client.code")
LAST_WORDS_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one command."""

    timeout_s: float | None = None
    memory_bytes: int | None = None
    """Address space at the most; None: unlimited."""
    output_bytes: int = 10 << 20
    """What it prints beyond that is not logged."""


async def run_command(
    what: str, argv: list[str], *, folder: Path, environment: Mapping[str, str], limits: Limits
) -> None:
    """Runs a command; returns when it ended with status 0, and leaves no process of its group behind.

    Args:
        what: how messages call it.
        argv: the words of the command; no shell reads them.
        folder: its working directory.
        environment: all of it.

    Raises:
        TaskFailed: `step_failed` (status, and the last that it printed), `task_timeout`, `step_not_started`.
    """
    output = Output(CODE_LOG, limits.output_bytes)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            launch.__file__,
            str(os.getpid()),
            str(limits.memory_bytes or 0),
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
        )
    except OSError as error:
        raise TaskFailed("step_not_started", f"the {what} step cannot be started: {error}") from error
    assert process.stdout is not None
    reading = asyncio.create_task(output.read(process.stdout))
    try:
        async with asyncio.timeout(limits.timeout_s):
            status = await process.wait()
    except TimeoutError as error:
        raise timed_out(what, limits.timeout_s) from error
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)  # the launcher kills the whole group at that
            await process.wait()
        await asyncio.wait({reading}, timeout=LAST_WORDS_S)
        reading.cancel()
    if status:
        raise step_failed(what, status, output.tail)


def step_failed(what: str, status: int, tail: str) -> TaskFailed:
    """What a step's end with a status (128 + the number of the signal that killed it) is for the federation."""
    return TaskFailed(
        "step_failed",
        f"the {what} step {ending(status)}" + (f": {tail[-1000:]}" if tail else " and printed nothing"),
        fix="The whole output is in the client's log.",
    )


def timed_out(what: str, timeout_s: float | None) -> TaskFailed:
    return TaskFailed(
        "task_timeout",
        f"the {what} step took more than {timeout_s:g} s and was killed",
        fix="Give it less to do, or raise task_timeout_s of the client.",
    )


def ending(status: int) -> str:
    """A status in words."""
    known = {int(number): number.name for number in signal.Signals}
    return f"was killed by {known[status - 128]}" if status - 128 in known else f"ended with status {status}"


def clean_environment(extra: Mapping[str, str], python: Path) -> dict[str, str]:
    """The environment of the site's own code, with `python` found first as python3.

    Without the agent's secrets, and without what was set for the agent's own memory.
    """
    secrets = ("FEDN_ALLIANCE_", "FEDN_CLIENT_")
    kept = {
        name: value
        for name, value in without_allocator(os.environ).items()
        if not name.startswith(secrets) and name not in _SECRETS
    }
    path = os.pathsep.join(part for part in (str(python.parent), kept.get("PATH", os.defpath)) if part)
    return kept | {"PATH": path, "PYTHONUNBUFFERED": "1"} | dict(extra)


_SECRETS = frozenset({"FEDN_JOIN", "FEDN_ENROLMENT_SECRET", "FEDN_TOKEN", "FEDN_ADMIN_SECRET"})
