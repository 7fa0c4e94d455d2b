"""One worker's stream at a combiner: who it is, what it says; at home here, or handed on to its home."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import grpc

from fedn.combiner.auth import caller, check_peer_certificate
from fedn.combiner.metrics import CombinerMetrics
from fedn.combiner.options import CombinerOptions
from fedn.combiner.outbox import Outbox
from fedn.combiner.streams import TokenTimer, first_message, run_stream
from fedn.combiner.workers.forward import forward
from fedn.combiner.workers.group import Group
from fedn.combiner.workers.groups import Groups
from fedn.combiner.workers.pair import BASE_BYTES
from fedn.combiner.workers.peers import Handed, Peers
from fedn.combiner.workers.ways import Detours
from fedn.network.convert import reason_to_wire
from fedn.network.frames import Buffer, decode_control
from fedn.network.generated import worker_pb2 as wire
from fedn.network.tickets import TicketVerifier, WorkerTicket
from fedn.network.tokens import Claims, TokenVerifier
from fedn.network.worker_chunks import decode_chunk
from fedn.plan.logs import bind
from fedn.protocol.errors import FednError, Forbidden, InvalidInput

_log = bind(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

_CONTROL_BYTES = 16 << 20
"""Control messages that may wait for one worker, beside the chunks that its group's quota bounds."""


@dataclass(frozen=True)
class WorkerServices:
    """What all streams of workers at a combiner share."""

    options: CombinerOptions
    verifier: TokenVerifier
    tickets: TicketVerifier
    groups: Groups
    peers: Peers
    detours: Detours
    metrics: CombinerMetrics


class WorkerStream:
    """An attached worker. Its life is `serve`."""

    def __init__(self, hello: wire.WorkerHello, ticket: WorkerTicket, claims: Claims, services: WorkerServices) -> None:
        self.ticket = ticket
        self.instance = hello.instance
        self._hello = hello
        self._claims = claims
        self._services = services
        limits = services.options.workers
        spooled = limits.spool_bytes + ticket.size * BASE_BYTES
        # What the group may spool in all may be on its way to one worker, twice after a reconnect.
        self._outbox = Outbox(stall_s=services.options.progress_s, max_bytes=2 * spooled + _CONTROL_BYTES, bundles=True)
        self._token: TokenTimer | None = None

    def send(self, message: bytes) -> None:
        self._outbox.put(message)

    def end(self, error: FednError) -> None:
        self._outbox.end(farewell(error))

    async def serve(self, context: Context) -> None:
        """From the welcome to the end of the stream."""
        group = self._services.groups.of(self.ticket)
        try:
            group.attach(self, self._hello)
        finally:
            self._services.groups.leave_out_empty(self.ticket.group)
        self._token = token = TokenTimer(self._services.verifier, self._claims, self.end)
        where = {"group": self.ticket.group, "rank": self.ticket.rank}
        _log.info("worker attached", extra=where)
        reason = "the stream broke"
        try:
            reason = await run_stream(context, self._outbox, lambda message: self._receive(group, message), farewell)
        finally:
            token.cancel()
            group.detach(self)
            _log.info("worker detached", extra={**where, "reason": reason})

    async def _receive(self, group: Group, message: Buffer) -> None:
        chunk = decode_chunk(message)
        if chunk is not None:
            group.chunk(self, chunk, bytes(message))
            return
        frame = decode_control(wire.WorkerFrame, message)
        match frame.WhichOneof("control"):
            case "ack":
                group.acknowledge(self, frame.ack.peer, frame.ack.sequence)
            case "want":
                group.want(self, frame.want.peer, frame.want.bytes)
            case "leave":
                group.leave(self, frame.leave.reason or "it failed" if frame.leave.failed else None)
                self._outbox.end()
            case "token" if self._token is not None:
                self._token.renew(frame.token.token)
            case _:
                raise InvalidInput("bad_frame", "a worker's message means nothing here", fix="Update the worker.")


async def attach(context: Context, services: WorkerServices) -> None:
    """The RPC Attach: a worker's own stream."""

    async def serve(claims: Claims, handed: Handed, hello: wire.WorkerHello) -> None:
        ticket = handed.ticket
        if ticket.client != claims.subject:
            raise Forbidden(
                "name_not_yours",
                f"the ticket is for {ticket.client!r}, and the token for {claims.subject!r}",
                fix="Ask the reducer for a ticket with the same token.",
                where={"group": ticket.group},
            )
        if ticket.home == services.options.name:
            await WorkerStream(hello, ticket, claims, services).serve(context)
        else:
            with services.metrics.worker_streams_forwarded.track_inprogress():
                await forward(context, handed, services.peers, services.verifier, claims)

    await _welcome(context, services, serve)


async def relay(context: Context, services: WorkerServices) -> None:
    """The RPC Relay: the stream of a worker that is attached to another combiner, by that one or by the reducer.

    The token opens the stream, which then ends with the ticket: the worker comes back with a new one.
    """

    async def serve(claims: Claims, handed: Handed, hello: wire.WorkerHello) -> None:
        ticket = handed.ticket
        if ticket.entrance != claims.subject:
            raise Forbidden(
                "not_attached_there",
                f"the ticket is for a worker at {ticket.entrance!r}, and the token for the combiner {claims.subject!r}",
                fix="Ask the reducer again where to attach.",
                where={"group": ticket.group},
            )
        lasting = replace(claims, expires_at=ticket.expires_at)
        await WorkerStream(hello, ticket, lasting, services).serve(context)

    await _welcome(context, services, serve)


async def detour(context: Context, services: WorkerServices) -> None:
    """The RPC Detour: the reducer fetches the stream of a worker whose home is not reached from here."""
    try:
        await services.detours.serve(context)
    except FednError as error:
        await context.write(farewell(error))


async def _welcome(
    context: Context,
    services: WorkerServices,
    serve: Callable[[Claims, Handed, wire.WorkerHello], Awaitable[None]],
) -> None:
    """What Attach and Relay have in common: who it is, as certificate and ticket say; and a Bye where it goes wrong."""
    claims = caller()
    if services.options.mutual_tls:
        await check_peer_certificate(context, claims)
    message = await first_message(context)
    if message is None:
        return
    try:
        hello = _hello(message)
        await serve(claims, Handed(message, services.tickets.verify(hello.ticket), hello.ticket), hello)
    except FednError as error:
        await context.write(farewell(error))


def _hello(message: bytes) -> wire.WorkerHello:
    frame = decode_control(wire.WorkerFrame, message)
    if not frame.HasField("hello"):
        raise InvalidInput("bad_frame", "the first message of a stream is a Hello", fix="Update the worker.")
    return frame.hello


def farewell(error: FednError) -> bytes:
    """The Bye that tells a worker why its stream ends."""
    return wire.WorkerFrame(bye={"problem": reason_to_wire(error)}).SerializeToString()
