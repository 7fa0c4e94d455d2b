"""Order, loss and repetition between two workers, whatever the streams in between do: sender, home and receiver."""

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from fedn.combiner.workers.pair import BASE_BYTES, Pair, Pool
from fedn.network.worker_chunks import CHUNK_BYTES, Chunk, decode_chunk, encode_chunk
from fedn.workers.relay.pairs import Incoming, Outgoing, Verdict

POOL_BYTES = 3 * CHUNK_BYTES
PAIR_BYTES = 3 * CHUNK_BYTES


class Line:
    """A sender, its home, a receiver, and the four directions of two streams, of which messages come when told."""

    def __init__(self) -> None:
        self.outgoing, self.incoming = Outgoing(0, 1), Incoming()
        self.pool = Pool(POOL_BYTES)
        self.pair = Pair(0, 1, self.pool, PAIR_BYTES)
        self.up: deque[bytes | int] = deque()
        self.down: deque[bytes] = deque()
        self.acks_up: deque[int] = deque()
        self.acks_down: deque[tuple[int, int]] = deque()
        self.got: list[bytes] = []
        self.room = True
        self.most_held = 0
        self.outgoing.begin_stream(BASE_BYTES)

    def act(self, what: str) -> None:
        getattr(self, f"_{what}")()
        self.most_held = max(self.most_held, self.pair.held_bytes)

    def _send(self) -> None:
        chunk = self.outgoing.next_chunk()
        if chunk is not None:
            self.up.append(encode_chunk(chunk))
        elif (wanted := self.outgoing.wants()) is not None:
            self.up.append(wanted)

    def _home(self) -> None:
        if not self.up:
            return
        message = self.up.popleft()
        before = self.pair.credit
        if isinstance(message, int):
            self.pair.want(message)
        else:
            chunk = decode_chunk(message)
            assert chunk is not None
            spooled = self.pair.add(chunk, message)
            if spooled is not None:
                self.down.append(spooled.message)
        if self.pair.credit > before:
            self.acks_down.append((self.pair.acknowledged, self.pair.credit))

    def _receive(self) -> None:
        if self.down:
            chunk = decode_chunk(self.down.popleft())
            assert chunk is not None
            assert self.incoming.receive(chunk) is not Verdict.GAP
        self._take()

    def _take(self) -> None:
        while (frame := self.incoming.take(lambda _: self.room)) is not None:
            self.got.append(bytes(frame))
        self.acks_up.append(self.incoming.expected)

    def _acknowledge(self) -> None:
        if self.acks_up and self.pair.acknowledge(self.acks_up.popleft()):
            self.acks_down.append((self.pair.acknowledged, self.pair.credit))

    def _hear(self) -> None:
        if self.acks_down:
            self.outgoing.acknowledge(*self.acks_down.popleft())

    def _full(self) -> None:
        self.room = False

    def _empty(self) -> None:
        self.room = True

    def _cut_sender(self) -> None:
        """Its stream breaks: what was under way on it is lost, and a new one begins."""
        self.up.clear()
        self.acks_down.clear()
        self.pair.begin_stream()
        self.outgoing.begin_stream(self.pair.credit, self.pair.acknowledged, self.pair.held)

    def _cut_receiver(self) -> None:
        self.down.clear()
        self.acks_up.clear()
        self.incoming.begin_stream()
        if self.pair.acknowledge(self.incoming.expected):
            self.acks_down.append((self.pair.acknowledged, self.pair.credit))
        self.down.extend(spooled.message for spooled in self.pair)

    def _restart_home(self) -> None:
        """It forgets everything; the receiver comes back first."""
        self._restart_home_and_wait_for_receiver()
        self.pair.acknowledge(self.acks_up.popleft())
        self.acks_down.append((self.pair.acknowledged, self.pair.credit))

    def _restart_home_and_wait_for_receiver(self) -> None:
        """The same, but what the sender sends again comes before the receiver says what it has."""
        for under_way in (self.up, self.down, self.acks_up, self.acks_down):
            under_way.clear()
        self.pool = Pool(POOL_BYTES)
        self.pair = Pair(0, 1, self.pool, PAIR_BYTES)
        self.outgoing.begin_stream(BASE_BYTES)
        self.incoming.begin_stream()
        self.acks_up.append(self.incoming.expected)

    def _repeat(self) -> None:
        """What the receiver has comes once more, as from a stream that it has left."""
        if self.incoming.expected:
            late = Chunk(0, 1, self.incoming.expected - 1, 1, b"x")
            assert self.incoming.receive(late) is Verdict.REPEATED

    def settle(self) -> None:
        self.room = True
        for _ in range(2000):
            for what in ("send", "home", "receive", "acknowledge", "hear"):
                self.act(what)
            if not self.outgoing.pending_frames:
                return
        raise AssertionError("it does not come to an end")


ACTIONS = [name.removeprefix("_") for name in vars(Line) if name.startswith("_") and not name.startswith("__")]
SIZES = st.sampled_from([0, 1, 1000, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(SIZES, st.sampled_from(ACTIONS), st.sampled_from(["send", "home", "receive"])), max_size=60))
def test_each_frame_comes_once_whole_and_in_order(script: list[int | str]) -> None:
    line, frames = Line(), []
    for step in script:
        if isinstance(step, int):
            frames.append(bytes([len(frames) % 251]) * step)
            line.outgoing.put(frames[-1])
        else:
            line.act(step)
    line.settle()
    assert line.got == frames
    assert line.outgoing.pending_bytes == 0
    assert line.most_held <= PAIR_BYTES
    assert line.pair.held_bytes == 0 and line.pool.free_bytes == POOL_BYTES


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.binary(max_size=2000), st.integers(0, 2**40))
def test_a_chunk_is_read_as_it_was_written(rank: int, sequence: int, data: bytes, more: int) -> None:
    left = len(data) + (more if data else 0)
    read = decode_chunk(encode_chunk(Chunk(rank, 7, sequence, left, data)))
    assert read is not None and (read.sender, read.receiver, read.sequence, read.left) == (rank, 7, sequence, left)
    assert bytes(read.data) == data
