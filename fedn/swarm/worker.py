"""One process of a swarm: `python -m fedn.swarm.worker`, which reads a WorkerSpec from its standard input.

It writes a line of statistics (JSON) to its standard output at each `report_s`, and ends when its standard input does:
it outlives its parent by a moment at the most.
"""

import asyncio
import contextlib
import json
import sys

import psutil

from fedn.network.join import JoinString
from fedn.network.open_files import raise_open_files
from fedn.plan.garbage import Turnover, garbage_schedule
from fedn.protocol.errors import FednError
from fedn.swarm.client import LightClient
from fedn.swarm.joining import Joining
from fedn.swarm.keys import keys_of
from fedn.swarm.models import SharedModels
from fedn.swarm.options import WorkerSpec
from fedn.swarm.shared import Shared
from fedn.swarm.statistics import SwarmStatistics
from fedn.swarm.stream import Connections

_GATE = 64
_TICK_S = 1.0
_OTHER_FILES = 256
"""Open files of a process besides its connections to combiners."""
_FAREWELL_S = 5.0
_TASKS_WORTH_A_LOOK = 5_000
"""For garbage."""


class Worker:
    """The light clients of one process."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._statistics = SwarmStatistics(clients=spec.count)
        self._process = psutil.Process()
        self._clients: list[LightClient] = []
        self._running: set[asyncio.Task[None]] = set()
        self._told: set[str] = set()

    async def run(self, ending: asyncio.Event) -> None:
        """Until `ending`. FednError where no client can run at all."""
        spec = self._spec
        options = spec.options
        raise_open_files(-(-spec.count // options.streams_per_connection) + _OTHER_FILES)
        numbers = range(spec.first, spec.first + spec.count)
        keys = keys_of([options.name(number) for number in numbers], options.data_dir)
        joining = Joining(JoinString.parse(spec.join))
        reporting = asyncio.create_task(self._report())
        beginning: asyncio.Task[None] | None = None
        try:
            if not await _unless(ending, joining.open()):
                return
            shared = Shared(
                options=options,
                joining=joining,
                connections=Connections(joining.ca, options.streams_per_connection),
                models=SharedModels(options.data_dir),
                statistics=self._statistics,
                gate=asyncio.Semaphore(_GATE),
            )
            beginning = asyncio.create_task(self._begin([(n, keys[options.name(n)]) for n in numbers], shared))
            async with garbage_schedule(self._turnover):
                await self._tick(ending)
        finally:
            await self._end([task for task in (beginning, reporting) if task is not None])
            await asyncio.to_thread(joining.close)
            self._tell(final=True)

    async def _begin(self, clients: list[tuple[int, bytes]], shared: Shared) -> None:
        """Lets the clients go, one after the other where there is a ramp."""
        loop = asyncio.get_running_loop()
        begun, rate = loop.time(), self._spec.ramp_per_s
        for position, (number, key) in enumerate(clients):
            if rate:
                await asyncio.sleep(max(0.0, begun + position / rate - loop.time()))
            client = LightClient(number, key, shared)
            self._clients.append(client)
            task = asyncio.create_task(self._run(client))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run(self, client: LightClient) -> None:
        try:
            await client.run()
        except FednError as error:
            gave_up = self._statistics.gave_up
            gave_up[error.code] = gave_up.get(error.code, 0) + 1
            if error.code not in self._told:
                self._told.add(error.code)
                _write({"gave_up": error.as_problem()})
        finally:
            client.tasks.close()

    async def _tick(self, ending: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        while not ending.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await ending.wait()
            now = loop.time()
            for client in self._clients:
                client.tick(now)

    def _turnover(self) -> Turnover:
        statistics = self._statistics
        went = statistics.attachments - statistics.attached
        return Turnover(came=statistics.attachments, went=went, done=statistics.updated // _TASKS_WORTH_A_LOOK)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(self._spec.options.report_s)
            self._tell()

    def _tell(self, *, final: bool = False) -> None:
        statistics = self._statistics
        with self._process.oneshot():
            statistics.rss_bytes = self._process.memory_info().rss
            statistics.open_files = self._process.num_fds()
            times = self._process.cpu_times()
            statistics.cpu_s = times.user + times.system
        _write({"statistics": statistics.model_dump(mode="json"), "final": final})

    async def _end(self, helpers: list[asyncio.Task[None]]) -> None:
        for task in helpers:
            task.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                await asyncio.gather(*(client.leave() for client in self._clients))
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _unless(ending: asyncio.Event, work: "asyncio.Future[None] | object") -> bool:
    """Whether the work ended before `ending`; else it is cancelled."""
    task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[arg-type]
    waiting = asyncio.create_task(ending.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        task.result()
        return True
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return False


def _write(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def _main() -> int:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    spec = WorkerSpec.model_validate_json(await reader.readline())
    ending = asyncio.Event()
    at_end = asyncio.create_task(reader.read())
    at_end.add_done_callback(lambda _: ending.set())
    try:
        await Worker(spec).run(ending)
    except FednError as error:
        _write({"error": error.as_problem()})
        return 1
    finally:
        at_end.cancel()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
