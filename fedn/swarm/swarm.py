"""A swarm, whole: its processes started, heard, and ended."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fedn.api.problems import error_from_answer
from fedn.plan.allocator import SERVER
from fedn.protocol.errors import FednError
from fedn.swarm.options import SwarmOptions, WorkerSpec
from fedn.swarm.statistics import SwarmStatistics

_END_WITHIN_S = 30.0
_LINE_BYTES = 1 << 20


@dataclass(frozen=True)
class Report:
    """What a swarm has done so far, all processes added up."""

    statistics: SwarmStatistics
    elapsed_s: float
    """Seconds since the start."""
    problems: tuple[FednError, ...]
    """Why clients gave up, one example of each code."""
    final: bool = False


class Swarm:
    """Use: `async with Swarm(options, join) as swarm: async for report in swarm.reports(): …`

    Args:
        join: join string of the federation.
    """

    def __init__(self, options: SwarmOptions, join: str) -> None:
        self.options = options
        self._join = join
        self._workers: list[asyncio.subprocess.Process] = []
        self._readers: list[asyncio.Task[None]] = []
        self._latest: dict[int, SwarmStatistics] = {}
        self._problems: dict[str, FednError] = {}
        self._failure: FednError | None = None
        self._heard = asyncio.Event()
        self._ended = asyncio.Event()
        self._ending = False
        self._started_at = asyncio.get_running_loop().time()

    async def __aenter__(self) -> "Swarm":
        options = self.options
        processes = min(options.processes, options.clients)
        first = 1
        for index in range(processes):
            count = options.clients // processes + (index < options.clients % processes)
            ramp = options.ramp_per_s * count / options.clients
            await self._start(WorkerSpec(options=options, join=self._join, first=first, count=count, ramp_per_s=ramp))
            first += count
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    async def reports(self) -> AsyncIterator[Report]:
        """A report whenever the processes have something to tell, and a last one after `end`.

        Raises:
            FednError: a process cannot go on, or every client gave up.
        """
        while not self._ended.is_set():
            await self._heard.wait()
            self._heard.clear()
            if self._failure is not None:
                raise self._failure
            yield self._report()

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(worker.pid for worker in self._workers)

    async def end(self) -> Report:
        """Lets every client say goodbye and ends the processes; what they have done. Harmless when repeated."""
        self._ending = True
        for worker in self._workers:
            if worker.stdin is not None:
                worker.stdin.close()
        if self._readers:
            await asyncio.wait(self._readers, timeout=_END_WITHIN_S)
        for worker in self._workers:
            if worker.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    worker.kill()
        await asyncio.gather(*self._readers)
        self._ended.set()
        self._heard.set()
        return self._report(final=True)

    async def _start(self, spec: WorkerSpec) -> None:
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fedn.swarm.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **SERVER},
            limit=_LINE_BYTES,
            start_new_session=True,  # Ctrl-C is for this process, which then lets the others end
        )
        assert worker.stdin is not None
        worker.stdin.write(spec.model_dump_json().encode() + b"\n")
        self._workers.append(worker)
        self._readers.append(asyncio.create_task(self._read(worker)))

    async def _read(self, worker: asyncio.subprocess.Process) -> None:
        assert worker.stdout is not None
        while line := await worker.stdout.readline():
            self._take(worker.pid, json.loads(line))
        status = await worker.wait()
        if not self._ending and self._failure is None:
            self._failure = FednError(
                "swarm_process_ended",
                f"a process of the swarm ended by itself with status {status}",
                fix="See what it wrote above; a process that the kernel killed ran out of memory.",
                where={"pid": worker.pid},
            )
        self._heard.set()

    def _take(self, pid: int, said: dict[str, object]) -> None:
        if "statistics" in said:
            self._latest[pid] = SwarmStatistics.model_validate(said["statistics"])
            if sum(self._report().statistics.gave_up.values()) >= self.options.clients and self._problems:
                self._failure = self._failure or next(iter(self._problems.values()))
        elif "gave_up" in said:
            error = _error(said["gave_up"])
            self._problems.setdefault(error.code, error)
        elif "error" in said:
            self._failure = self._failure or _error(said["error"])
        self._heard.set()

    def _report(self, *, final: bool = False) -> Report:
        return Report(
            SwarmStatistics.sum_of(self._latest.values()),
            asyncio.get_running_loop().time() - self._started_at,
            tuple(self._problems.values()),
            final,
        )


def _error(problem: object) -> FednError:
    """The error that a process told of as problem+json."""
    body = json.dumps(problem).encode()
    return error_from_answer(problem["status"] if isinstance(problem, dict) else 500, body, url="")
