"""One client's stream: who it is, what it says, and what it is told.

Not here: what its results mean (the round) and how their bytes are received (the lane).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from fedn.combiner.admission import Admission
from fedn.combiner.auth import caller, check_peer_certificate
from fedn.combiner.buffers import Spool
from fedn.combiner.clients import ClientInfo, Clients
from fedn.combiner.jobs import Jobs
from fedn.combiner.metrics import CombinerMetrics
from fedn.combiner.objects import ObjectCache, StoredObject
from fedn.combiner.options import (
    CLIENT_OUTBOX_BYTES,
    MAX_HELLO_ATTRIBUTES_BYTES,
    MAX_HELLO_OBJECTS,
    CombinerOptions,
)
from fedn.combiner.outbox import Outbox
from fedn.combiner.rounds import Rounds
from fedn.combiner.sending import SendGate
from fedn.combiner.streams import TokenTimer, first_message, run_stream
from fedn.combiner.traffic import Traffic
from fedn.combiner.uploads import UploadLane
from fedn.network.convert import reason_to_wire
from fedn.network.frames import CHUNK_BYTES, Buffer, decode_control, decode_piece
from fedn.network.generated import client_pb2 as wire
from fedn.network.tokens import Claims, TokenVerifier
from fedn.plan.logs import bind
from fedn.protocol.errors import FednError, Forbidden, InvalidInput, LimitExceeded, NotFound
from fedn.protocol.names import check_name

_log = bind(__name__)
_ACK_WITHIN_S = 0.25
"""An acknowledgement waits so long for the client's next task to leave with: rounds are mostly shorter. Until then the
client only keeps its result."""

Context = grpc.aio.ServicerContext[Any, Any]

RETRY_AFTER_S = 1.0
"""What a client that is turned away should wait before it asks for another combiner."""


@dataclass(frozen=True)
class AttachServices:
    """What all client streams of a combiner share."""

    options: CombinerOptions
    instance: str
    verifier: TokenVerifier
    clients: Clients
    rounds: Rounds
    objects: ObjectCache
    admission: Admission
    sending: SendGate
    spool: Spool
    parking: Jobs
    """Uploads on their way to the spool, whose streams may be gone."""
    metrics: CombinerMetrics


class ClientStream:
    """An attached client. Its life is `serve`."""

    def __init__(self, hello: wire.Hello, claims: Claims, services: AttachServices) -> None:
        self.info = _introduction(hello, claims)
        self._services = services
        self._outbox = Outbox(
            stall_s=services.options.progress_s,
            max_bytes=CLIENT_OUTBOX_BYTES,
            gate=services.sending,
            bundles=hello.bundles,
            company_s=_ACK_WITHIN_S,
        )
        self.lane = UploadLane(
            services.admission, services.spool, self.send, services.options.progress_s, services.parking
        )
        self._held = set(hello.held_objects)
        self._partial = {partial.object_id: partial.offset for partial in hello.partial}
        self._claims = claims
        self._token: TokenTimer | None = None

    def send(self, frame: wire.CombinerFrame) -> None:
        self._outbox.put(frame.SerializeToString())

    def send_lazily(self, frame: wire.CombinerFrame) -> None:
        self._outbox.put_lazily(frame.SerializeToString())

    def push(self, frame: wire.CombinerFrame, objects: Sequence[StoredObject], traffic: Traffic) -> None:
        for stored in objects:
            if stored.object_id not in self._held:
                self._note_held(stored.object_id)
                self._put_object(stored, self._partial.pop(stored.object_id, 0), traffic)
        self._outbox.put_in_order(frame.SerializeToString())

    def end(self, error: FednError, retry_after_s: float) -> None:
        self._outbox.end(_bye(error, retry_after_s))

    async def serve(self, context: Context) -> None:
        """From the welcome to the end of the stream."""
        services, client = self._services, self.info.client
        welcome = wire.Welcome(
            combiner=services.options.name,
            instance=services.instance,
            chunk_bytes=CHUNK_BYTES,
            progress_s=services.options.progress_s,
            bundles=True,
        )
        self.send(wire.CombinerFrame(welcome=welcome))
        services.clients.attach(self)
        token = self._token = TokenTimer(services.verifier, self._claims, lambda error: self.end(error, 0.0))
        services.metrics.clients.set(len(services.clients))
        _log.info("client attached", extra={"client": client})
        reason = "the stream broke"
        try:
            reason = await run_stream(context, self._outbox, self._receive, lambda error: _bye(error, 0.0))
        finally:
            token.cancel()
            services.clients.detach(self, reason)
            self.lane.close()
            services.metrics.clients.set(len(services.clients))
            services.metrics.sent_bytes.inc(self._outbox.sent_bytes)
            _log.info("client detached", extra={"client": client, "reason": reason})

    async def _receive(self, message: Buffer) -> None:
        piece = decode_piece(message)
        if piece is not None:
            self._services.metrics.received_bytes.inc(len(piece[1]))
            await self.lane.piece(*piece)
            return
        frame = decode_control(wire.ClientFrame, message)
        match frame.WhichOneof("control"):
            case "ready":
                self._ready(frame.ready)
            case "task_accepted":
                self._accepted(frame.task_accepted.task_id)
            case "task_progress":
                self._accepted(frame.task_progress.task_id)
            case "task_failed":
                self._failed(frame.task_failed)
            case "upload_end":
                self._upload_end(frame.upload_end.task_id)
            case "fetch":
                self._fetch(frame.fetch.object_id, frame.fetch.offset)
            case "ping":
                self.send(wire.CombinerFrame(pong={"nonce": frame.ping.nonce}))
            case "token" if self._token is not None:
                self._token.renew(frame.token.token)
            case "leave":
                self._outbox.end()
            case "hello":
                raise InvalidInput("bad_frame", "a second Hello came on a stream", fix="Open a new stream.")

    def _ready(self, ready: wire.Ready) -> None:
        task_id = ready.metadata.task_id
        found = self._services.rounds.task(self.info.client, task_id)
        if found is not None:
            found[0].ready(self, found[1], ready)
            return
        error = NotFound(
            "unknown_task",
            "this combiner has no open task of that name for the client",
            fix="Nothing to do: the round is over, or the combiner was restarted and asks again.",
            where={"client": self.info.client, "task": task_id},
        )
        self.send(wire.CombinerFrame(refused=wire.Refused(task_id=task_id, problem=reason_to_wire(error))))

    def _accepted(self, task_id: str) -> None:
        found = self._services.rounds.task(self.info.client, task_id)
        if found is not None:
            found[0].accepted(found[1])

    def _failed(self, failed: wire.TaskFailed) -> None:
        found = self._services.rounds.task(self.info.client, failed.task_id)
        if found is not None:
            found[0].failed(found[1], failed.problem)

    def _upload_end(self, task_id: str) -> None:
        self.lane.ended(task_id)
        found = self._services.rounds.task(self.info.client, task_id)
        if found is not None:
            found[0].upload_end(self, found[1])

    def _fetch(self, object_id: str, offset: int) -> None:
        """A client gets what its open tasks name, and nothing else."""
        stored = self._services.objects.get(object_id)
        found = (running.wanted(self.info.client, object_id) for running in self._services.rounds)
        wanted = next((task for task in found if task is not None), None)
        if stored is None or wanted is None or offset > stored.size_bytes:
            self.send(wire.CombinerFrame(missing={"object_id": object_id}))
        else:
            self._note_held(object_id)
            self._put_object(stored, offset, wanted.traffic)

    def _note_held(self, object_id: str) -> None:
        if len(self._held) >= MAX_HELLO_OBJECTS:
            self._held.clear()  # a model that is sent once more than needed costs less than a list without end
        self._held.add(object_id)

    def _put_object(self, stored: StoredObject, offset: int, traffic: Traffic) -> None:
        def messages() -> Iterator[bytes]:
            yield wire.CombinerFrame(object=stored.begin(offset)).SerializeToString()
            for size_bytes, message in stored.sized_messages(offset):
                traffic.down_bytes += size_bytes
                yield message

        self._outbox.put_object(messages())


def _introduction(hello: wire.Hello, claims: Claims) -> ClientInfo:
    check_name(hello.client, what="client")
    if hello.client != claims.subject:
        raise Forbidden(
            "name_not_yours",
            f"the token is for {claims.subject!r}",
            fix="Attach with the name that was enrolled.",
            where={"client": hello.client},
        )
    attributes = dict(hello.attributes)
    too_much = sum(len(key) + len(value) for key, value in attributes.items()) > MAX_HELLO_ATTRIBUTES_BYTES
    lists = (hello.held_objects, hello.partial, hello.spooled_tasks, hello.codecs)
    if too_much or any(len(entries) > MAX_HELLO_OBJECTS for entries in lists):
        raise LimitExceeded(
            "hello_too_large",
            "the client says too much of itself in its Hello",
            fix=f"Attributes have {MAX_HELLO_ATTRIBUTES_BYTES} bytes at the most.",
            where={"client": hello.client},
        )
    return ClientInfo(
        client=hello.client,
        instance=hello.instance,
        key_id=claims.key_id,
        kinds=tuple(hello.kinds),
        attributes=attributes,
        spooled_tasks=frozenset(hello.spooled_tasks),
        codecs=frozenset(hello.codecs),
    )


def _bye(error: FednError, retry_after_s: float) -> bytes:
    bye = wire.Bye(problem=reason_to_wire(error), retry_after_s=retry_after_s)
    return wire.CombinerFrame(bye=bye).SerializeToString()


async def attach(context: Context, services: AttachServices) -> None:
    """The RPC Attach."""
    claims = caller()
    if services.options.mutual_tls:
        await check_peer_certificate(context, claims)
    message = await first_message(context)
    if message is None:
        return
    try:
        frame = decode_control(wire.ClientFrame, message)
        if not frame.HasField("hello"):
            raise InvalidInput("bad_frame", "the first message of a stream is a Hello", fix="Update the client.")
        await ClientStream(frame.hello, claims, services).serve(context)
    except FednError as error:
        await context.write(_bye(error, RETRY_AFTER_S if error.retryable else 0.0))
