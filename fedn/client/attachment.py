"""One attachment to a combiner: greets it, hands what it sends to those whom it concerns, until the stream ends."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import fedn
from fedn.client.downloads import Downloads
from fedn.client.objects import ObjectCache
from fedn.client.spool import Spool, SpooledResult
from fedn.client.stream import CombinerStream
from fedn.client.tasks import Tasks
from fedn.client.uploads import Upload
from fedn.network.convert import kind_to_wire, metadata_to_wire, reason_from_wire, round_from_wire, task_from_wire
from fedn.network.frames import CHUNK_BYTES
from fedn.network.generated import client_pb2 as wire
from fedn.network.generated import common_pb2 as common
from fedn.protocol.errors import FednError, InvalidInput, Unavailable
from fedn.protocol.tasks import TaskKind

_LOG = logging.getLogger(__name__)
_MIN_CHUNK_BYTES = 1 << 14
_WELCOME_TIMEOUT_S = 15.0


_MAX_TOLD = 1000
"""Entries of each list in the Hello; the newest are told."""

_FINAL_BYES = frozenset({"replaced", "name_taken"})
_ASKED_AGAIN = frozenset({"unknown_task"})
"""Refusals that do not judge the result: a combiner that was restarted may ask for it yet."""


class SaidBye(FednError):
    """The combiner ended the stream on purpose; the code is its own."""

    retry_after_s = 0.0
    final = False
    """Whether trying again cannot help."""


@dataclass(frozen=True, kw_only=True)
class Introduction:
    """What the client says of itself when it attaches."""

    client: str
    instance: str
    kinds: frozenset[TaskKind]
    attributes: Mapping[str, str]
    codecs: Sequence[str] = ()
    """Names of those that it knows."""


class Attachment:
    """One stream, from Hello to its end.

    Args:
        stream: just opened.
        introduction: of this client.
        tasks, downloads, cache, spool: of this client; they outlive the attachment.
    """

    def __init__(
        self,
        stream: CombinerStream,
        introduction: Introduction,
        *,
        tasks: Tasks,
        downloads: Downloads,
        cache: ObjectCache,
        spool: Spool,
    ) -> None:
        self._stream = stream
        self._introduction = introduction
        self._tasks = tasks
        self._downloads = downloads
        self._cache = cache
        self._spool = spool
        self._combiner = stream.endpoint.combiner
        self._chunk_bytes = CHUNK_BYTES
        self._welcomed = False
        self._uploads: dict[str, Upload] = {}
        self._announced: set[str] = set()
        """Tasks whose results the combiner was told of on this stream, and has not settled."""
        self._handlers: Mapping[str, Callable[[wire.CombinerFrame], None]] = {
            "task": self._on_task,
            "object": lambda frame: self._downloads.begin(frame.object),
            "missing": lambda frame: self._downloads.missing(frame.missing.object_id),
            "grant": self._on_grant,
            "ack": lambda frame: self._settle(frame.ack.task_id, acknowledged=True),
            "refused": self._on_refused,
            "cancelled": self._on_cancelled,
            "pong": lambda frame: None,
            "bye": self._on_bye,
        }

    async def greet(self) -> None:
        """Hello and Welcome.

        Raises:
            SaidBye: the combiner does not take us; its code says why.
            Unavailable, Unauthenticated, Forbidden: see `CombinerStream.receive`.
        """
        self._stream.post(wire.ClientFrame(hello=self._hello()))
        try:
            async with asyncio.timeout(_WELCOME_TIMEOUT_S):
                frame = await self._stream.receive()
        except TimeoutError as error:
            raise Unavailable(
                "combiner_silent",
                f"the combiner said nothing for {_WELCOME_TIMEOUT_S:g} s",
                where={"combiner": self._combiner},
            ) from error
        if isinstance(frame, wire.CombinerFrame) and frame.HasField("bye"):
            self._on_bye(frame)
        if not isinstance(frame, wire.CombinerFrame) or not frame.HasField("welcome"):
            raise InvalidInput("bad_frame", "the combiner's first message is no Welcome")
        welcome = frame.welcome
        self._welcomed = True
        self._combiner = welcome.combiner
        self._chunk_bytes = min(max(welcome.chunk_bytes or CHUNK_BYTES, _MIN_CHUNK_BYTES), CHUNK_BYTES)
        if welcome.progress_s > 0:
            self._stream.progress_s = min(self._stream.progress_s, welcome.progress_s)
        if welcome.bundles:
            self._stream.use_bundles()
        self._downloads.resume()

    async def serve(self) -> None:
        """Serves the stream; ends only with an error: as `greet`, or InvalidInput (`bad_frame`, `bad_message`)."""
        receive, piece = self._stream.receive, self._downloads.piece
        try:
            while True:
                message = await receive()
                if isinstance(message, tuple):
                    piece(*message)
                else:
                    self._handle(message)
        finally:
            self._downloads.pause()
            self._tasks.stream_ended()
            for upload in list(self._uploads.values()):
                self._drop_upload(upload)

    def offer(self, result: SpooledResult, credit_bytes: int) -> None:
        """Says that a result waits; its pieces follow at once where there is credit and no other is on its way.

        Pieces carry no name: only one result can be on its way on a stream.
        """
        task_id = result.metadata.task_id
        follows = 0 < result.size_bytes <= credit_bytes and not (self._announced or self._uploads)
        again = self._uploads.get(task_id)
        if again is not None:
            self._drop_upload(again)
        if result.size_bytes:
            self._announced.add(task_id)
        self._stream.post(
            wire.ClientFrame(
                ready=wire.Ready(
                    metadata=metadata_to_wire(result.metadata),
                    object_id=result.object_id,
                    size_bytes=result.size_bytes,
                    follows=follows,
                )
            )
        )
        if follows:
            self._start_upload(Upload(result, 0, self._chunk_bytes, says_end=False))

    def _handle(self, frame: wire.CombinerFrame) -> None:
        handler = self._handlers.get(frame.WhichOneof("control") or "")
        if handler is None:
            _LOG.debug("a message of a kind that this version does not know came from %s", self._combiner)
        else:
            handler(frame)

    def _hello(self) -> wire.Hello:
        mine = self._introduction
        return wire.Hello(
            client=mine.client,
            instance=mine.instance,
            version=fedn.__version__,
            kinds=[kind_to_wire(kind) for kind in sorted(mine.kinds)],
            held_objects=self._cache.held()[-_MAX_TOLD:],
            partial=[
                common.ObjectFetch(object_id=item.object_id, offset=item.received, kind=item.kind)
                for item in self._cache.partial()[-_MAX_TOLD:]
            ],
            spooled_tasks=self._spool.task_ids()[-_MAX_TOLD:],
            attributes=mine.attributes,
            bundles=True,
            codecs=mine.codecs,
        )

    def _on_task(self, frame: wire.CombinerFrame) -> None:
        task = task_from_wire(frame.task)
        if task.client != self._introduction.client:
            raise InvalidInput("bad_message", f"a task for the client {task.client!r} came here")
        self._tasks.submit(task, round_from_wire(frame.task.round), self._combiner, frame.task.upload_credit_bytes)

    def _on_grant(self, frame: wire.CombinerFrame) -> None:
        task_id = frame.grant.task_id
        running = self._uploads.get(task_id)
        if running is not None:
            self._drop_upload(running)
        result = self._spool.get(task_id)
        if result is None:
            _LOG.warning("a grant came for the task %s, which has no result here", task_id)
            return
        self._start_upload(Upload(result, frame.grant.offset, self._chunk_bytes))

    def _on_refused(self, frame: wire.CombinerFrame) -> None:
        reason = reason_from_wire(frame.refused.problem)
        _LOG.warning(
            "the combiner %s refused the result of task %s: %s %s [%s]",
            self._combiner,
            frame.refused.task_id,
            reason.message,
            reason.fix,
            reason.code,
        )
        if reason.code in _ASKED_AGAIN:
            self._forget_upload(frame.refused.task_id)
            self._tasks.cancel(frame.refused.task_id, reason.message, known=False)
        else:
            self._settle(frame.refused.task_id, acknowledged=False)

    def _on_cancelled(self, frame: wire.CombinerFrame) -> None:
        task_id = frame.cancelled.task_id
        self._forget_upload(task_id)
        self._tasks.cancel(task_id, frame.cancelled.reason)

    def _on_bye(self, frame: wire.CombinerFrame) -> None:
        reason = reason_from_wire(frame.bye.problem)
        error = SaidBye(reason.code, reason.message, fix=reason.fix, where={"combiner": self._combiner})
        error.retry_after_s = max(frame.bye.retry_after_s, 0.0)
        error.final = reason.code in _FINAL_BYES or not (
            self._welcomed or frame.bye.problem.retryable or reason.code == "token_expired"
        )
        raise error

    def _settle(self, task_id: str, *, acknowledged: bool) -> None:
        self._forget_upload(task_id)
        self._tasks.settled(task_id, acknowledged=acknowledged)

    def _forget_upload(self, task_id: str) -> None:
        self._announced.discard(task_id)
        upload = self._uploads.get(task_id)
        if upload is not None:
            self._drop_upload(upload)

    def _start_upload(self, upload: Upload) -> None:
        self._uploads[upload.task_id] = upload
        self._stream.upload(upload)

    def _drop_upload(self, upload: Upload) -> None:
        del self._uploads[upload.task_id]
        self._stream.drop_upload(upload)
        upload.close()
