"""Uploads: results on their way from a client's spool into the combiner's memory or spool.

An upload is named by its task and its digest and outlives the stream that brought its first half: a client that
comes back is granted the rest. On one stream one upload is under way at a time, because pieces carry no name.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from fedn.combiner.admission import Admission, Ticket
from fedn.combiner.arrival import ArrivalCheck, ExpectedSections
from fedn.combiner.buffers import Spool, SpoolStorage, Storage
from fedn.combiner.jobs import Jobs
from fedn.combiner.options import MIB
from fedn.combiner.timers import ProgressWatch
from fedn.combiner.traffic import Traffic
from fedn.models.codecs.chain import Encoding
from fedn.models.wire import ModelSpec
from fedn.network.generated import client_pb2 as wire
from fedn.protocol.errors import FednError, UpdateRefused

_WORTH_KEEPING_BYTES = MIB
"""A beginning shorter than that is sent again rather than kept."""


class Phase(Enum):
    WAITING = auto()
    """For its stream's turn, for a slot, for memory."""
    RECEIVING = auto()
    PARKED = auto()
    """What arrived is kept (in a spool file, or nothing); the client has to announce it again."""
    RECEIVED = auto()
    ENDED = auto()


class UploadOwner(Protocol):
    """Who asked for it: the round. Each call is the last but `upload_started` and `upload_parked`."""

    def upload_started(self, upload: "Upload") -> None: ...

    def upload_parked(self, upload: "Upload") -> None: ...

    def upload_received(self, upload: "Upload", spec: ModelSpec | None, storage: Storage) -> None:
        """All is there and checked, as far as that can be. The storage is the owner's, who releases it.

        Without a spec, the bytes are packed.
        """

    def upload_refused(self, upload: "Upload", error: FednError) -> None: ...


class Upload:
    """One result on its way. State and storage; the lane of the stream moves it."""

    def __init__(
        self,
        owner: UploadOwner,
        client: str,
        task_id: str,
        object_id: str,
        size_bytes: int,
        base: ModelSpec | None,
        storage: Storage | None = None,
        encoding: Encoding | None = None,
        traffic: Traffic | None = None,
        sections: ExpectedSections = (),
    ) -> None:
        self.traffic = traffic if traffic is not None else Traffic()
        """Of its task: all that came counts, whatever became of it."""
        self.client = client
        self.task_id = task_id
        self.object_id = object_id
        self.size_bytes = size_bytes
        self.received = 0
        self.phase = Phase.WAITING
        self.owner = owner
        self.storage = storage
        """Given from the start where the upload was granted with its task: its pieces come without a Grant."""
        self.moving: asyncio.Task[None] | None = None
        """On its way from memory to the spool."""
        self.encoding = encoding
        """Of the chain that it went through; None where it comes as it is."""
        self._base = base
        self._sections = sections
        self.check = self._fresh_check()

    def restart(self) -> None:
        """Forgets the bytes that came, not the place for them."""
        self.received = 0
        self.check = self._fresh_check()

    def _fresh_check(self) -> ArrivalCheck:
        return ArrivalCheck(self.object_id, self.size_bytes, self._base, self.encoding, self._sections)

    def drop(self) -> None:
        """Gives everything back."""
        self.phase = Phase.ENDED
        if self.storage is not None:
            self.storage.release()
            self.storage = None

    async def take(self, offset: int, data: memoryview) -> None:
        """The next piece. UpdateRefused where it cannot become valid any more."""
        if offset == 0 and self.received:
            self.restart()
        if offset != self.received or self.storage is None:
            return  # of an earlier grant, still under way when it ended
        end = offset + len(data)
        if end > self.size_bytes:
            raise UpdateRefused(
                "update_too_large",
                f"it has more than the {self.size_bytes} bytes that were announced",
                fix="Announce the size of the bytes that are sent.",
            )
        storage = self.storage
        pending = storage.write(offset, data)
        if pending is not None:
            await pending
            if self.storage is not storage or offset != self.received:
                return  # dropped, or begun anew, meanwhile
        self.received = end
        self.check.feed(offset, data)


async def copy_into(file: Storage, memory: Storage) -> None:
    """Writes what came so far into a spool file. LimitExceeded (`spool_full`)."""
    offset = 0
    for view in memory.pieces().views():
        pending = file.write(offset, view)
        if pending is not None:
            await pending
        offset += len(view)


class UploadLane:
    """The uploads of one stream, one after the other, in the order in which they were announced.

    Args:
        send: writes a frame to the stream's client.
        progress_s: seconds without one byte after which an upload is parked.
        jobs: run the moves to the spool, which outlive the stream.
    """

    def __init__(
        self,
        admission: Admission,
        spool: Spool,
        send: Callable[[wire.CombinerFrame], None],
        progress_s: float,
        jobs: Jobs,
    ) -> None:
        self._admission = admission
        self._spool = spool
        self._send = send
        self._waiting: deque[Upload] = deque()
        self._current: Upload | None = None
        self._ticket: Ticket | None = None
        self._stalled_upload: Upload | None = None
        self._watch = ProgressWatch(progress_s, self._stalled)
        self._jobs = jobs
        self._closed = False

    def add(self, upload: Upload) -> None:
        """An upload that was announced, for the first time or again."""
        if upload is self._current:
            if upload.phase is Phase.RECEIVING:
                self._send_grant(upload)
        elif upload.moving is not None:
            upload.moving.add_done_callback(lambda _: None if self._closed else self.add(upload))
        elif upload not in self._waiting and upload.phase is not Phase.ENDED:
            upload.phase = Phase.WAITING
            self._waiting.append(upload)
            self._advance()

    def add_granted(self, upload: Upload) -> None:
        """An upload whose pieces come right behind its announcement, into the storage that it has."""
        if self._current is None and not self._waiting and not self._closed:
            self._current, self._ticket = upload, None
            upload.phase = Phase.RECEIVING
            upload.owner.upload_started(upload)
            self._watch.touch()
            return
        # Its pieces cannot be told from another's: they are passed over, and asked for with a Grant.
        assert upload.storage is not None  # it has been granted
        upload.storage.release()
        upload.storage = None
        self.add(upload)

    async def piece(self, offset: int, data: memoryview) -> None:
        """Bytes from the stream; those that belong to no upload under way are dropped."""
        upload = self._current
        if upload is None and self._stalled_upload is not None:  # it moves again: ask for what is missing
            stalled, self._stalled_upload = self._stalled_upload, None
            self.add(stalled)
            return
        if upload is None or upload.phase is not Phase.RECEIVING:
            return
        self._watch.touch()
        upload.traffic.up_bytes += len(data)
        try:
            await upload.take(offset, data)
            if upload is self._current and upload.received == upload.size_bytes:
                self._received(upload)
        except FednError as error:
            if upload is self._current:
                self._leave()
                upload.drop()
                upload.owner.upload_refused(upload, error)
                self._advance()

    def ended(self, task_id: str) -> None:
        """The client sent all that it had; where something is missing, it is asked for again."""
        upload = self._current
        if upload is not None and upload.task_id == task_id and upload.phase is Phase.RECEIVING:
            self._send_grant(upload)

    def drop(self, upload: Upload) -> None:
        """The upload is not wanted any more."""
        if upload is self._current:
            self._leave()
        elif upload in self._waiting:
            self._waiting.remove(upload)
        upload.drop()
        self._advance()

    def close(self) -> None:
        """The stream is gone: what is under way is parked."""
        self._closed = True
        for upload in self._waiting:
            self._set_aside(upload)
        self._waiting.clear()
        if self._current is not None:
            self._set_aside(self._leave())
        self._watch.cancel()

    def _advance(self) -> None:
        if self._current is not None or self._closed or not self._waiting:
            return
        upload = self._current = self._waiting.popleft()
        ticket = self._ticket = Ticket(
            upload.size_bytes,
            on_grant=lambda storage: self._granted(upload, storage),
            on_failure=lambda error: self._not_granted(upload, error),
            storage=upload.storage,
        )
        self._admission.request(ticket)

    def _granted(self, upload: Upload, storage: Storage) -> None:
        if upload is not self._current:  # it went away while its file was made
            storage.release()
            return
        upload.storage, upload.phase = storage, Phase.RECEIVING
        upload.owner.upload_started(upload)
        self._send_grant(upload)
        self._watch.touch()

    def _not_granted(self, upload: Upload, error: FednError) -> None:
        if upload is self._current:
            self._leave()
            upload.drop()
            upload.owner.upload_refused(upload, error)
            self._advance()

    def _send_grant(self, upload: Upload) -> None:
        self._send(wire.CombinerFrame(grant=wire.Grant(task_id=upload.task_id, offset=upload.received)))

    def _received(self, upload: Upload) -> None:
        spec = upload.check.finish()
        self._leave()
        storage, upload.storage, upload.phase = upload.storage, None, Phase.RECEIVED
        assert storage is not None  # it was written to
        upload.owner.upload_received(upload, spec, storage)
        self._advance()

    def _leave(self) -> Upload:
        """Ends the current upload's stay on the lane, and in the queue of admission if it had to ask."""
        upload, self._current = self._current, None
        ticket, self._ticket = self._ticket, None
        assert upload is not None
        self._watch.rest()
        if ticket is not None:
            self._admission.leave(ticket)
        return upload

    def _stalled(self) -> None:
        if self._current is not None:
            self._stalled_upload = self._leave()
            self._set_aside(self._stalled_upload)
            self._advance()

    def _set_aside(self, upload: Upload) -> None:
        """Frees the memory of an upload that does not go on; what arrived goes to the spool where it is worth it."""
        upload.phase = Phase.PARKED
        if upload.storage is not None and not isinstance(upload.storage, SpoolStorage):
            if upload.received >= _WORTH_KEEPING_BYTES:
                upload.moving = self._jobs.start(self._park(upload, upload.storage))
                return
            upload.storage.release()
            upload.storage = None
            upload.restart()
        upload.owner.upload_parked(upload)

    async def _park(self, upload: Upload, memory: Storage) -> None:
        file: Storage | None = None
        try:
            file = await self._spool.create(upload.size_bytes)
            await copy_into(file, memory)
        except FednError:  # no room: it has to come again from its beginning
            if file is not None:
                file.release()
            file = None
            upload.restart()
        finally:
            upload.moving = None
            memory.release()
            upload.storage = file
            if upload.phase is Phase.ENDED:
                upload.drop()
        if upload.phase is Phase.PARKED:
            upload.owner.upload_parked(upload)
