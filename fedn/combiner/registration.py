"""The combiner's talk with the reducer over REST: enrolment, "add me", heartbeats.

It lives beside the gRPC server and is never needed for a round: a reducer that is away is asked again until it is
back, and one that forgot this combiner is told of it again.
"""

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import psutil

from fedn.api.membership import Membership
from fedn.combiner.workers.peers import RelayToken
from fedn.network.identity import Identity
from fedn.network.join import JoinString
from fedn.plan.logs import bind
from fedn.protocol.errors import FednError, NotFound, Unauthenticated, Unavailable
from fedn.protocol.rest import WorkerGroupReport

T = TypeVar("T")

_log = bind(__name__)

_TIMEOUT_S = 5.0
_MAX_PAUSE_S = 2.0


@dataclass(frozen=True)
class Announcement:
    """What the reducer is told of the combiner."""

    instance: str
    host: str
    port: int
    max_clients: int


@dataclass(frozen=True)
class Load:
    """What a heartbeat tells of the combiner's work."""

    clients: int
    """That are attached."""
    rounds: int
    """That it holds."""


class Reports(Protocol):
    """What the reducer is told once, of things that change."""

    def news(self) -> tuple[WorkerGroupReport, ...]:
        """What it has not been told."""

    def put_back(self, reports: tuple[WorkerGroupReport, ...]) -> None:
        """It did not hear them."""

    def tell_all_again(self) -> None:
        """It was started anew, and knows nothing."""


class Registration:
    """Calls block in threads of `executor`, never the loop.

    Args:
        identity: open; enrolled here if it is not.
        join: where the reducer is and how to trust it; its secret is needed for enrolments alone.
        hosts: names and addresses that the certificate must name.
        heartbeat_s: seconds between heartbeats.
    """

    def __init__(
        self, identity: Identity, join: JoinString, executor: Executor, *, hosts: tuple[str, ...], heartbeat_s: float
    ) -> None:
        self._name = identity.name
        self._url = join.url
        self._membership = Membership(identity, join, "combiner", hosts=hosts, timeout_s=_TIMEOUT_S)
        self._executor = executor
        self._heartbeat_s = heartbeat_s
        self._epoch: int | None = None
        """Of the reducer that has the reports."""

    async def enrol(self) -> None:
        """Enrols, unless this site is enrolled and its certificate lasts; waits for a reducer that is away.

        Raises:
            As `Membership.enrol`, but for Unavailable.
        """
        failures = 0
        while True:
            try:
                await self._in_thread(self._membership.enrol)
                return
            except Unavailable as error:
                failures += 1
                _log.warning(f"cannot enrol yet: {error}")
                await asyncio.sleep(_pause_s(failures))

    async def run(self, announcement: Announcement, load: Callable[[], Load], reports: Reports) -> None:
        """Registers and sends heartbeats until it is cancelled; `load` and `reports` are asked in the loop."""
        registered, failures = False, 0
        while True:
            try:
                if registered:
                    await self._beat(announcement.instance, load(), reports)
                else:
                    await self._in_thread(self._register, announcement)
                    _log.info("registered with the reducer", extra={"url": self._url})
                registered, failures = True, 0
            except NotFound:
                registered = False  # the reducer forgot us: tell it again at once
                failures += 1
            except FednError as error:
                failures += 1
                log = _log.info if error.retryable and failures == 1 else _log.warning
                log(f"the reducer did not take a heartbeat: {error}")
                if isinstance(error, Unauthenticated):
                    self._membership.distrust_token()
            await asyncio.sleep(self._heartbeat_s if not failures else min(_pause_s(failures), self._heartbeat_s))

    async def relay_token(self, group: str, ticket: str) -> RelayToken:
        """See `RelayDesk`."""
        found = await self._in_thread(lambda: self._membership.api.relay_token(group, ticket))
        return RelayToken(found.token, found.expires_at)

    async def ask_detour(self, group: str, ticket: str, call: str, reason: str) -> None:
        """See `RelayDesk`."""
        await self._in_thread(lambda: self._membership.api.ask_detour(group, ticket, call=call, reason=reason))

    def close(self) -> None:
        self._membership.close()

    async def _beat(self, instance: str, load: Load, reports: Reports) -> None:
        told = reports.news()
        try:
            epoch = await self._in_thread(self._send_heartbeat, instance, load, told)
        except FednError:
            reports.put_back(told)
            raise
        if epoch != self._epoch:
            if self._epoch is not None:
                reports.tell_all_again()
            self._epoch = epoch

    async def _in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call, *arguments)

    def _register(self, announcement: Announcement) -> None:
        self._membership.api.add_combiner(
            name=self._name,
            host=announcement.host,
            port=announcement.port,
            max_clients=announcement.max_clients,
            instance=announcement.instance,
        )

    def _send_heartbeat(self, instance: str, load: Load, told: tuple[WorkerGroupReport, ...]) -> int:
        """The reducer's epoch."""
        process = psutil.Process()
        times = process.cpu_times()
        reply = self._membership.api.heartbeat(
            self._name,
            instance=instance,
            attached_clients=load.clients,
            rounds=load.rounds,
            rss_bytes=process.memory_info().rss,
            cpu_s=times.user + times.system,
            worker_groups=told,
        )
        return reply.epoch


def _pause_s(failures: int) -> float:
    """Doubles from about 0.1 s to 2 s, jittered, so that many combiners do not come back in one moment."""
    return min(_MAX_PAUSE_S, 0.1 * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
