"""One combiner's part in a round: given up when nothing comes any more, and not before."""

import asyncio
from types import SimpleNamespace

import pytest

from fedn.network.generated import combiner_pb2 as link
from fedn.protocol.rounds import RoundSpec
from fedn.protocol.tasks import RoundName
from fedn.reducer.engine import part as module
from fedn.reducer.engine.connection import LinkDown
from fedn.reducer.engine.part import PartLost, RoundPart
from tests.support.timeless import run_timeless

NAME = RoundName(session="s", index=0, attempt=0, epoch=1)
MODEL = "blake3:" + "0" * 64


@pytest.fixture(autouse=True)
def timeless(monkeypatch):
    """Both clocks are that of the loop, whose time costs nothing."""
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=now))


def now():
    return asyncio.get_running_loop().time()


class FakeConnection:
    """A combiner whose round is over at once, with a model of four bytes."""

    instance = "i"
    rounds: frozenset[RoundName] = frozenset()

    def __init__(self, fetch=None):
        self._fetch = fetch
        self.orders: list[str] = []

    def listen(self, name): ...

    def forget(self, name): ...

    async def start_round(self, start):
        return link.RoundStatus()

    async def next_event(self, name):
        return link.RoundEvent(number=1, done=link.RoundDone(model_id=MODEL, size_bytes=4))

    async def fetch(self, download):
        await self._fetch(download)

    def close_round(self, name, reason):
        self.orders.append("close")

    def cancel_round(self, name, reason):
        self.orders.append("cancel")

    def acknowledge_commit(self, name):
        self.orders.append("let go")


class FakeLink:
    name = "c1"

    def __init__(self, connection):
        self.connection = connection

    async def connected(self, deadline):
        if now() >= deadline:
            raise LinkDown("c1", "no link in time")
        return self.connection


def part_of(connection):
    return RoundPart(
        FakeLink(connection),
        RoundSpec(name=NAME, tasks=(), deadline_s=1.0, upload_grace_s=0.0),
        objects=None,
        max_model_bytes=1 << 20,
        on_ledger=lambda entry: None,
        on_instance=lambda combiner, instance: None,
    )


def run(connection):
    async def scenario():
        async with asyncio.timeout(600):
            return await part_of(connection).run()

    return run_timeless(scenario())


def test_a_result_that_always_arrives_damaged_gives_the_combiner_up():
    async def damaged(download):
        download.damages += 1
        raise LinkDown("c1", "an object did not arrive as it was sent")

    with pytest.raises(PartLost, match="damaged 3 times"):
        run(FakeConnection(damaged))


def test_a_result_that_does_not_come_gives_the_combiner_up():
    async def silent(download):
        await asyncio.Event().wait()

    with pytest.raises(PartLost, match="did not send its result"):
        run(FakeConnection(silent))


def test_a_result_that_comes_slowly_is_waited_for_beyond_the_deadline_and_over_a_cut():
    cuts = []

    async def slow(download):
        for _ in range(4):
            await asyncio.sleep(0.4 * module.SILENCE_S)
            download.on_progress()
        if len(cuts) < 2:
            cuts.append(now())
            raise LinkDown("c1", "cut")
        download.done.set()

    assert run(FakeConnection(slow)).tensors is not None
    assert cuts == pytest.approx([1.6 * module.SILENCE_S, 3.2 * module.SILENCE_S])


def test_an_order_to_close_that_a_cut_swallowed_is_given_again():
    async def arrives(download):
        download.done.set()

    connection = FakeConnection(arrives)

    async def scenario():
        part = part_of(connection)
        part._link.connection = None
        part.close("enough")
        part._link.connection = connection
        await part.run()
        part.cancel("over")

    run_timeless(scenario())
    assert connection.orders == ["close", "cancel", "let go"]
