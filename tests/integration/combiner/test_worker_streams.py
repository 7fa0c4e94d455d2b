"""Workers' streams at combiners: handed on to the home with mutual TLS, and refused where ticket and token differ."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fedn.combiner.combiner import Combiner
from fedn.network.tokens import LEEWAY_S
from fedn.protocol.errors import FednError
from fedn.workers.backends import Arrival, Backend, Departure
from fedn.workers.relay.backend import Grpc
from fedn.workers.relay.desk import Place
from tests.support.federation import wait_for
from tests.support.relayed import At, StubDesk
from tests.support.wire import Trust, make_combiner


def at(combiner: Combiner) -> At:
    return At(combiner.options.name, combiner.port)


async def attached(desk: StubDesk) -> Backend:
    return await asyncio.to_thread(lambda: Grpc(desk, stall_s=30, patience_s=30))


def test_a_worker_at_another_combiner_is_handed_on_to_the_home_with_mutual_tls(trust: Trust, tmp_path: Path) -> None:
    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            home = await stack.enter_async_context(make_combiner(trust, tmp_path / "c1", mutual_tls=True))
            other = await stack.enter_async_context(make_combiner(trust, tmp_path / "c2", name="c2", mutual_tls=True))
            near = await attached(StubDesk(trust, 0, 2, at(home), at(home)))
            far = await attached(StubDesk(trust, 1, 2, at(home), at(other)))
            registry = other.metrics.registry
            assert registry.get_sample_value("fedn_combiner_worker_streams_forwarded") == 1
            await asyncio.to_thread(near.send, 1, b"there")
            assert await asyncio.to_thread(far.receive, 60) == Arrival(0, b"there")
            await asyncio.to_thread(far.send, 0, b"and back")
            assert await asyncio.to_thread(near.receive, 60) == Arrival(1, b"and back")
            await asyncio.to_thread(far.close)
            assert await asyncio.to_thread(near.receive, 60) == Departure(1, None)
            await asyncio.to_thread(near.close)

    asyncio.run(run())


class Renewing(StubDesk):
    """Gives a ticket that ends in two seconds, and a lasting one to whoever asks again."""

    def __init__(self, trust: Trust, home: At, at: At) -> None:
        super().__init__(trust, 1, 2, home, at)
        self.asked = 0
        self._lasting = self.place
        # A combiner allows for clocks that differ.
        ending = replace(trust.tickets.verify(self.place.ticket), expires_at=time.time() - LEEWAY_S + 2)
        self.place = replace(self.place, ticket=trust.ticket_issuer.issue(ending))

    def join(self, avoid: Sequence[str]) -> Place:
        self.asked += 1
        return self.place if self.asked == 1 else self._lasting


def test_a_stream_that_was_handed_on_ends_with_its_ticket_and_comes_back_with_another(
    trust: Trust, tmp_path: Path
) -> None:
    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            home = await stack.enter_async_context(make_combiner(trust, tmp_path / "c1"))
            other = await stack.enter_async_context(make_combiner(trust, tmp_path / "c2", name="c2"))
            desk = Renewing(trust, at(home), at(other))
            far = await attached(desk)
            await asyncio.to_thread(wait_for, lambda: desk.asked > 1, "the worker has asked again")
            near = await attached(StubDesk(trust, 0, 2, at(home), at(home)))
            await asyncio.to_thread(near.send, 1, b"there")
            assert await asyncio.to_thread(far.receive, 60) == Arrival(0, b"there")
            await asyncio.to_thread(far.close)
            await asyncio.to_thread(near.close)

    asyncio.run(run())


def test_another_clients_ticket_is_refused(trust: Trust, tmp_path: Path) -> None:
    async def run() -> None:
        async with make_combiner(trust, tmp_path) as home:
            owner, thief = (StubDesk(trust, rank, 2, at(home), at(home)) for rank in range(2))
            thief.place = replace(thief.place, ticket=owner.place.ticket)
            with pytest.raises(FednError) as caught:
                await attached(thief)
            assert caught.value.code == "name_not_yours"

    asyncio.run(run())
