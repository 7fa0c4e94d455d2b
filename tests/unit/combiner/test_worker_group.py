"""A worker group at its home: who is taken in, who is told of whom, and what a home learns that was started anew."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import wraps

import pytest

from fedn.combiner.metrics import CombinerMetrics
from fedn.combiner.options import WorkerLimits
from fedn.combiner.workers.group import FAILED, FINISHED, PRESENT, Group
from fedn.combiner.workers.groups import Groups
from fedn.network.generated import worker_pb2 as wire
from fedn.network.tickets import WorkerTicket
from fedn.network.worker_chunks import Chunk, decode_chunk, encode_chunk
from fedn.protocol.errors import FednError
from fedn.protocol.rest import WorkerGroupReport, WorkerReport


def ticket_of(rank: int, size: int = 3, group: str = "g", home: str = "c1") -> WorkerTicket:
    return WorkerTicket(
        client=f"w{rank}",
        group=group,
        size=size,
        rank=rank,
        entrance=home,
        home=home,
        host="h",
        port=1,
        expires_at=2e9,
    )


@dataclass(eq=False)
class FakeStream:
    """Keeps what it is sent."""

    ticket: WorkerTicket
    instance: str
    sent: list[bytes] = field(default_factory=list)
    ended: FednError | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, message: bytes) -> None:
        self.sent.append(message)
        self.news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Asks again after each message."""
        while not condition():
            self.news.clear()
            await self.news.wait()

    def end(self, error: FednError) -> None:
        self.ended = error

    def frames(self, kind: str) -> list[object]:
        frames = [wire.WorkerFrame.FromString(m) for m in self.sent if decode_chunk(m) is None]
        return [getattr(frame, kind) for frame in frames if frame.HasField(kind)]  # type: ignore[arg-type]

    def states(self) -> dict[int, wire.WorkerPeer.State]:
        """What it was told last of each other worker."""
        return {peer.rank: peer.state for peer in self.frames("peer")}  # type: ignore[attr-defined]

    def chunks(self) -> list[tuple[int, int]]:
        """(sender, sequence) of what it was sent."""
        found = [decode_chunk(m) for m in self.sent]
        return [(chunk.sender, chunk.sequence) for chunk in found if chunk is not None]


class Home:
    """A group of three, and streams to it."""

    def __init__(self, grace_s: float = 60.0) -> None:
        self.over = asyncio.Event()
        self.group = Group("g", 3, WorkerLimits(grace_s=grace_s), CombinerMetrics(), self.over.set)

    def attach(
        self,
        rank: int,
        instance: str = "",
        known: dict[int, tuple[str, wire.WorkerPeer.State]] | None = None,
        expected: dict[int, int] | None = None,
    ) -> FakeStream:
        stream = FakeStream(ticket_of(rank), instance or f"i{rank}")
        hello = wire.WorkerHello(
            instance=stream.instance,
            known=[wire.WorkerPeer(rank=r, instance=i, state=s) for r, (i, s) in (known or {}).items()],
            expected=[wire.WorkerAck(peer=r, sequence=n) for r, n in (expected or {}).items()],
        )
        self.group.attach(stream, hello)
        return stream

    def send(self, stream: FakeStream, receiver: int, sequence: int, size: int = 10) -> None:
        chunk = Chunk(stream.ticket.rank, receiver, sequence, size, bytes(size))
        self.group.chunk(stream, chunk, encode_chunk(chunk))


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @wraps(test)
    def run(**fixtures: object) -> None:
        asyncio.run(asyncio.wait_for(test(**fixtures), 60))  # type: ignore[arg-type]

    return run


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(FednError) as caught:
        call()
    return caught.value.code


@in_loop
async def test_everybody_is_told_who_is_there_and_who_has_finished_or_failed() -> None:
    home = Home()
    first, second = home.attach(0), home.attach(1)
    assert first.states() == {1: PRESENT} and second.states() == {0: PRESENT}
    home.group.leave(first, None)
    assert second.states() == {0: FINISHED}
    third = home.attach(2)
    assert third.states() == {0: FINISHED, 1: PRESENT}
    home.group.leave(second, "ValueError: x")
    assert third.states()[1] == FAILED and third.frames("peer")[-1].reason == "ValueError: x"  # type: ignore[attr-defined]


@in_loop
async def test_a_departure_is_told_after_all_that_was_sent_has_come() -> None:
    home = Home()
    sender, receiver = home.attach(0), home.attach(1)
    home.send(sender, 1, 0, size=0)
    home.send(sender, 1, 1)
    home.group.leave(sender, None)
    assert receiver.chunks() == [(0, 0), (0, 1)] and receiver.states() == {0: PRESENT}
    home.group.acknowledge(receiver, 0, 1)
    assert receiver.states() == {0: PRESENT}
    home.group.acknowledge(receiver, 0, 2)
    assert receiver.states() == {0: FINISHED}


@in_loop
async def test_who_comes_after_a_sender_has_gone_gets_what_it_sent_and_may_break_off_in_between() -> None:
    home = Home()
    sender = home.attach(0)
    home.send(sender, 1, 0)
    home.send(sender, 1, 1)
    home.group.leave(sender, "it failed")
    receiver = home.attach(1)
    assert receiver.chunks() == [(0, 0), (0, 1)] and receiver.states() == {0: PRESENT}
    home.group.detach(receiver)
    back = home.attach(1, known={0: ("i0", PRESENT)}, expected={0: 1})
    assert back.chunks() == [(0, 1)]
    home.group.acknowledge(back, 0, 2)
    assert back.states() == {0: FAILED}


@in_loop
async def test_what_is_sent_to_who_is_away_comes_when_it_is_back_from_where_it_stopped() -> None:
    home = Home()
    sender, receiver = home.attach(0), home.attach(1)
    home.send(sender, 1, 0)
    home.group.detach(receiver)
    home.send(sender, 1, 1)
    home.send(sender, 1, 2)
    back = home.attach(1, known={0: ("i0", PRESENT)}, expected={0: 1})
    assert back.chunks() == [(0, 1), (0, 2)]
    assert sender.frames("ack")[-1].sequence == 1  # type: ignore[attr-defined]


@in_loop
async def test_the_same_instance_takes_the_place_of_its_old_stream_and_another_is_refused() -> None:
    home = Home()
    first = home.attach(0)
    again = home.attach(0)
    assert first.ended is not None and first.ended.code == "replaced" and again.ended is None
    home.group.detach(first)  # says nothing any more
    assert home.group.attached == 1
    assert code_of(lambda: home.attach(0, "another")) == "rank_taken"
    home.group.detach(again)
    assert code_of(lambda: home.attach(0, "another")) == "rank_taken"  # it is waited for


@in_loop
async def test_who_does_not_come_back_is_lost_and_may_not_return_to_the_same_run() -> None:
    home = Home(grace_s=0.05)
    lost, other = home.attach(0), home.attach(1)
    home.group.detach(lost)
    await other.until(lambda: other.states() == {0: FAILED})
    assert "did not come back" in other.frames("peer")[-1].reason  # type: ignore[attr-defined]
    assert code_of(lambda: home.attach(0)) == "worker_departed"
    assert code_of(lambda: home.attach(0, "another")) == "worker_departed"


@in_loop
async def test_a_group_begins_anew_when_all_have_left_and_who_is_of_the_old_run_is_refused() -> None:
    home = Home()
    first, second = home.attach(0), home.attach(1)
    home.send(first, 1, 0)
    home.group.leave(first, None)
    home.group.leave(second, None)
    again = home.attach(0, "anew")
    assert again.states() == {} and home.group.held_bytes == 0
    assert code_of(lambda: home.attach(1, known={0: ("i0", PRESENT)})) == "group_begun_anew"


@in_loop
async def test_who_comes_late_hears_who_has_left_before_and_that_is_forgotten_in_time() -> None:
    home = Home(grace_s=0.05)
    home.group.leave(home.attach(0), None)
    late = home.attach(1)
    assert late.states() == {0: FINISHED}
    home.group.leave(late, None)
    await home.over.wait()


@in_loop
async def test_the_group_is_over_at_once_when_every_rank_has_come_and_gone() -> None:
    home = Home()
    for stream in [home.attach(rank) for rank in range(3)]:
        home.group.leave(stream, None)
    assert home.over.is_set()


@in_loop
async def test_a_home_started_anew_learns_who_is_there_who_is_gone_and_what_has_come() -> None:
    home = Home(grace_s=0.05)
    newcomer = home.attach(2)
    back = home.attach(1, known={0: ("i0", PRESENT), 2: ("i2", PRESENT)}, expected={0: 5})
    assert newcomer.states()[0] == PRESENT
    sender = home.attach(0, known={1: ("i1", PRESENT)})
    home.send(sender, 1, 4)  # the receiver has it, and the sender has not heard of that
    home.send(sender, 1, 5)
    assert back.chunks() == [(0, 5)]
    assert sender.frames("ack")[-1].sequence == 5  # type: ignore[attr-defined]
    second = Home(grace_s=0.05)
    watcher = second.attach(1)
    second.attach(2, known={0: ("i0", FINISHED)})
    assert watcher.states()[0] == FINISHED
    assert code_of(lambda: second.attach(0)) == "worker_departed"


@in_loop
async def test_what_does_not_fit_is_refused() -> None:
    home = Home()
    stream = home.attach(0)
    other = Chunk(1, 2, 0, 1, b"x")
    assert code_of(lambda: home.group.chunk(stream, other, encode_chunk(other))) == "wrong_sender"
    assert code_of(lambda: home.send(stream, 3, 0)) == "no_such_worker"
    large = Chunk(0, 1, 0, 2 << 30, b"x")
    assert code_of(lambda: home.group.chunk(stream, large, encode_chunk(large))) == "message_too_large"
    assert code_of(lambda: home.group.want(stream, 9, 1)) == "no_such_worker"
    assert code_of(lambda: home.group.acknowledge(stream, 9, 1)) == "no_such_worker"
    assert code_of(lambda: home.attach(1, expected={2: 1})) == "bad_frame"
    assert code_of(lambda: home.attach(1, known={7: ("x", PRESENT)})) == "no_such_worker"


@in_loop
async def test_a_combiner_is_home_to_so_many_groups_and_to_no_others() -> None:
    groups = Groups("c1", WorkerLimits(max_groups=1), CombinerMetrics())
    assert groups.of(ticket_of(0)) is groups.of(ticket_of(1))
    assert code_of(lambda: groups.of(ticket_of(0, group="h"))) == "too_many_groups"
    assert code_of(lambda: groups.of(ticket_of(0, size=4))) == "group_changed"
    assert code_of(lambda: groups.of(ticket_of(0, home="c2"))) == "not_home"
    groups.leave_out_empty("g")
    assert groups.of(ticket_of(0, group="h")).name == "h"


def counts_of(reports: tuple[WorkerGroupReport, ...]) -> dict[int, WorkerReport]:
    return {worker.rank: worker for report in reports for worker in report.workers}


@in_loop
async def test_what_was_relayed_is_counted_once_by_rank_and_what_comes_or_goes_again_apart() -> None:
    home = Home()
    sender, receiver = home.attach(0), home.attach(1)
    for sequence in range(3):
        home.send(sender, 1, sequence)
    home.group.acknowledge(receiver, 0, 2)
    report = home.group.report(9)
    assert report is not None and home.group.report(9) is None
    counts = counts_of((report,))
    assert (counts[0].sent_messages, counts[0].sent_bytes, counts[0].received_bytes) == (3, 30, 0)
    assert (counts[1].received_messages, counts[1].received_bytes, counts[1].spooled_bytes) == (2, 20, 10)
    assert counts[1].sent_messages == counts[0].repeated_bytes == counts[1].repeated_bytes == 0
    assert [counts[rank].state for rank in (0, 1)] == ["attached", "attached"] and counts[0].heard_at > 0
    home.group.detach(receiver)
    home.attach(1, known={0: ("i0", PRESENT)}, expected={0: 2})  # the third chunk goes to it again
    home.group.detach(sender)
    home.send(home.attach(0, known={1: ("i1", PRESENT)}), 1, 2)  # and comes again
    report = home.group.report(9)
    assert report is not None
    counts = counts_of((report,))
    assert (counts[0].repeated_bytes, counts[1].repeated_bytes) == (10, 10)
    assert (counts[0].sent_messages, counts[1].received_messages) == (3, 2)


@in_loop
async def test_a_worker_that_is_gone_is_reported_with_the_reason_and_nothing_waits_for_it() -> None:
    home = Home()
    sender, receiver = home.attach(0), home.attach(1)
    home.send(sender, 1, 0)
    home.group.leave(receiver, "out of memory")
    home.group.leave(sender, None)
    home.send(home.attach(2), 0, 0)  # dropped: its receiver has finished
    report = home.group.report(9)
    assert report is not None
    counts = counts_of((report,))
    assert (counts[1].state, counts[1].reason, counts[1].spooled_bytes) == ("failed", "out of memory", 0)
    assert (counts[0].state, counts[2].state, counts[2].sent_messages) == ("finished", "attached", 0)


@in_loop
async def test_news_are_told_once_and_again_where_they_were_not_heard_or_the_reducer_is_another() -> None:
    groups = Groups("c1", WorkerLimits(), CombinerMetrics())
    streams = [FakeStream(ticket_of(rank, size=2), f"i{rank}") for rank in range(2)]
    group = groups.of(streams[0].ticket)
    for stream in streams:
        group.attach(stream, wire.WorkerHello(instance=stream.instance))
    news = groups.news()
    assert set(counts_of(news)) == {0, 1} and groups.news() == ()
    groups.put_back(news)
    assert counts_of(groups.news()) == counts_of(news)
    groups.tell_all_again()
    assert counts_of(groups.news()) == counts_of(news)
    for stream in streams:
        group.leave(stream, None)  # the group is over, and forgotten
    last = groups.news()
    assert {worker.state for worker in counts_of(last).values()} == {"finished"} and groups.news() == ()
    groups.put_back(last)
    assert groups.news() == last


@in_loop
async def test_a_report_is_bounded_and_every_group_has_its_share_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedn.combiner.workers.groups.MAX_REPORTED_WORKERS", 4)
    groups = Groups("c1", WorkerLimits(), CombinerMetrics())
    for name in ("g", "h"):
        for rank in range(3):
            ticket = ticket_of(rank, group=name)
            groups.of(ticket).attach(FakeStream(ticket, f"i{rank}"), wire.WorkerHello(instance=f"i{rank}"))
    sizes = [{report.group: len(report.workers) for report in groups.news()} for _ in range(3)]
    assert sizes == [{"g": 2, "h": 2}, {"g": 1, "h": 1}, {}]
