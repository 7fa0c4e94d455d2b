"""Workers as the processes of an MPI job, over mpi4py (an extra): one machine or a cluster, as mpiexec is told.

A thread of each worker makes all MPI calls. Frames go out by synchronous sends (MPI_Issend), which end when their
receiver takes them: so what is under way to a worker that takes nothing is bounded, at both ends. A frame is received
only when its sender's place in the mailbox has room. Frames are plain bytes; their tag says what they are.

MPI has nothing to wait on but its own calls, which spin on a processor. So the thread looks (MPI_Iprobe, MPI_Test), and
rests between two looks: a tenth of the time since something last happened, up to 2 ms; sending and taking wake it at
once. An idle worker costs about a fiftieth of a processor, and a message that ends a long silence comes 2 ms later.

Not here: noticing processes that were killed. mpiexec does, and ends the whole job.
"""

import atexit
import threading
import time
from collections import deque
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

from fedn.models.digest import Buffer
from fedn.protocol.errors import InvalidInput, LimitExceeded
from fedn.workers.backends.base import DEFAULT_STALL_S, Arrival, Backend, Departure
from fedn.workers.backends.in_process import no_such_worker
from fedn.workers.backends.mailbox import MAX_BYTES, MAX_FRAMES, Mailbox, finished, stalled
from fedn.workers.errors import PeerUnavailable

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm, Request

MAX_FRAME_BYTES = 2**31 - 1
"""What MPI counts to."""
MAX_REASON_BYTES = 4096
_FRAME, _FINISHED, _FAILED = 1, 2, 3
_SHORTEST_REST_S, _LONGEST_REST_S = 2e-5, 2e-3


class Mpi(Backend):
    """Start them with `fedn worker run --backend mpi`, or: FEDN_WORKER_BACKEND=mpi mpiexec -n 4 python program.py.

    Args:
        communicator: of these workers alone; no other messages may go over it.
    """

    def __init__(self, communicator: "Intracomm", *, stall_s: float = DEFAULT_STALL_S) -> None:
        self._communicator = communicator
        self.rank, self.size = communicator.Get_rank(), communicator.Get_size()
        self._stall_s = stall_s
        self._mailbox = Mailbox(self.rank, self.size)
        self._peers = [rank for rank in range(self.size) if rank != self.rank]
        self._changed = threading.Condition()
        self._lanes = {peer: _Lane() for peer in self._peers}
        self._gone: dict[int, PeerUnavailable] = {}
        self._closed = False
        self._receiving: dict[int, tuple[Request, bytearray, int]] = {}
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"mpi-worker-{self.rank}", daemon=True)
        self._thread.start()
        atexit.register(self._end)

    @classmethod
    def attach(cls, environment: Mapping[str, str]) -> Self:
        MPI = load_mpi()  # noqa: N806 - the module
        if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
            raise InvalidInput("mpi_without_threads", "This MPI library does not let several threads call it")
        return cls(MPI.COMM_WORLD.Dup())

    def send(self, receiver: int, frame: Buffer) -> None:
        """See Backend.send; returns when there is room for the frame on its way."""
        if not 0 <= receiver < self.size:
            raise no_such_worker(receiver, self.size)
        if len(frame) > MAX_FRAME_BYTES:
            raise LimitExceeded(
                "message_too_large", f"A frame has {len(frame)} bytes, at most {MAX_FRAME_BYTES} may be"
            )
        if receiver == self.rank:
            self._mailbox.put(receiver, frame, self._stall_s)
            return
        lane = self._lanes[receiver]
        with self._changed:
            deadline, taken = time.monotonic() + self._stall_s, lane.taken
            while True:
                if self._closed:
                    raise finished(self.rank)
                if receiver in self._gone:
                    raise self._gone[receiver].without_frames()
                if lane.has_room(len(frame)):
                    break
                if lane.taken > taken:
                    deadline, taken = time.monotonic() + self._stall_s, lane.taken
                left = deadline - time.monotonic()
                if left <= 0:
                    self._gone[receiver] = stalled(receiver, self.rank, self._stall_s)
                    continue
                self._changed.wait(left)
            lane.add(_FRAME, frame)
        self._wake.set()

    def receive(self, timeout_s: float | None) -> Arrival | Departure | None:
        taken = self._mailbox.take(timeout_s)
        self._wake.set()  # there is room now
        return taken

    def close(self, reason: str | None = None) -> None:
        """Returns at once. What was sent goes out all the same: the process does not end before."""
        if not self._mailbox.close():
            return
        kind = _FINISHED if reason is None else _FAILED
        last_word = (reason or "").encode("utf-8", "replace")[:MAX_REASON_BYTES]
        with self._changed:
            self._closed = True
            for lane in self._lanes.values():
                lane.add(kind, last_word)
            self._changed.notify_all()
        self._wake.set()

    def _end(self) -> None:
        """At the end of the process, before MPI's own end, which waits for all workers."""
        self.close("it ended without a word")
        self._thread.join()

    def _run(self) -> None:
        from mpi4py import MPI

        try:
            self._progress()
        except MPI.Exception as error:
            for peer in self._peers:
                self._depart(peer, f"MPI failed: {error}")

    def _progress(self) -> None:
        """Until this worker and all others have said their last word, and know it."""
        self._move_frames()
        # What has come is acknowledged within later MPI calls: whoever stopped here would leave the others waiting.
        everybody = self._communicator.Ibarrier()
        while not everybody.Test():
            self._wake.wait(_LONGEST_REST_S)

    def _move_frames(self) -> None:
        talking = set(self._peers)
        moved_at = time.monotonic()
        while talking or not self._said_all():
            moved = self._move_sends()
            moved |= self._end_receives(talking)
            moved |= self._begin_receives(talking)
            now = time.monotonic()
            if moved:
                moved_at = now
                continue
            rest_s = _SHORTEST_REST_S if self._receiving else (now - moved_at) / 10
            self._wake.wait(min(max(rest_s, _SHORTEST_REST_S), _LONGEST_REST_S))
            self._wake.clear()

    def _said_all(self) -> bool:
        """Whether this worker has closed, and all that it has sent was taken."""
        with self._changed:
            return self._closed and all(lane.empty for lane in self._lanes.values())

    def _move_sends(self) -> bool:
        moved = False
        with self._changed:
            for peer, lane in self._lanes.items():
                moved |= lane.move(self._communicator, peer)
            if moved:
                self._changed.notify_all()
        return moved

    def _begin_receives(self, talking: set[int]) -> bool:
        """Starts to receive from each worker whose next frame has room. One frame of each at a time keeps the order."""
        from mpi4py import MPI

        moved = False
        for peer in talking - self._receiving.keys():
            status = MPI.Status()
            if not self._communicator.Iprobe(peer, MPI.ANY_TAG, status):
                continue
            size, kind = status.Get_count(MPI.BYTE), status.Get_tag()
            if kind == _FRAME and not (self._mailbox.closed or self._mailbox.has_room(peer, size)):
                continue
            content = bytearray(size)
            request = self._communicator.Irecv([content, MPI.BYTE], peer, kind)
            self._receiving[peer] = request, content, kind
            moved = True
        return moved

    def _end_receives(self, talking: set[int]) -> bool:
        done = [peer for peer, (request, _, _) in self._receiving.items() if request.Test()]
        for peer in done:
            _, content, kind = self._receiving.pop(peer)
            if kind == _FRAME:
                self._deliver(peer, content)
            else:
                talking.discard(peer)
                self._depart(peer, None if kind == _FINISHED else content.decode("utf-8", "replace"))
        return bool(done)

    def _deliver(self, peer: int, content: bytearray) -> None:
        if not self._mailbox.closed:  # else it is taken, and dropped, so that its sender can go on
            try:
                self._mailbox.put(peer, content, None)
            except PeerUnavailable:
                return  # closed meanwhile

    def _depart(self, peer: int, reason: str | None) -> None:
        with self._changed:
            self._gone[peer] = finished(peer) if reason is None else _lost(peer)
            self._changed.notify_all()
        self._mailbox.depart(peer, reason)


class _Lane:
    """What is on its way to one worker, in order. Belongs to whoever holds the back end's condition."""

    def __init__(self) -> None:
        self.taken = 0
        """Frames that the worker has taken, ever."""
        self._waiting: deque[tuple[int, Buffer]] = deque()
        self._sent: deque[tuple[Any, Buffer]] = deque()
        self._bytes = 0

    @property
    def empty(self) -> bool:
        return not self._waiting and not self._sent

    def has_room(self, size_bytes: int) -> bool:
        count = len(self._waiting) + len(self._sent)
        return count == 0 or (count < MAX_FRAMES and self._bytes + size_bytes <= MAX_BYTES)

    def add(self, kind: int, frame: Buffer) -> None:
        self._waiting.append((kind, frame))
        self._bytes += len(frame)

    def move(self, communicator: "Intracomm", peer: int) -> bool:
        """Sends what waits, and lets go of what was taken; whether there was any of it."""
        from mpi4py import MPI

        moved = bool(self._waiting)
        while self._waiting:
            kind, frame = self._waiting.popleft()
            self._sent.append((communicator.Issend([frame, MPI.BYTE], peer, kind), frame))
        while self._sent and self._sent[0][0].Test():
            _, frame = self._sent.popleft()
            self._bytes -= len(frame)
            self.taken += 1
            moved = True
        return moved


def _lost(peer: int) -> PeerUnavailable:
    return PeerUnavailable("peer_lost", f"Worker {peer} is gone", fix="See its log.", where={"worker": peer})


def load_mpi() -> ModuleType:
    """mpi4py's module. Importing it starts MPI in this process. InvalidInput (`mpi_missing`) where there is none."""
    try:
        from mpi4py import MPI  # an extra
    except (ImportError, RuntimeError) as error:
        raise InvalidInput(
            "mpi_missing",
            f"MPI cannot be used here: {error}",
            fix="pip install fedn[mpi], and install an MPI library: the package mpich of PyPI, or the system's.",
        ) from error
    return MPI
