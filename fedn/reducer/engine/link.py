"""The link to one combiner: keeps a stream open, opens it again when it breaks, and knows when the combiner is dead."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from fedn.network.convert import kind_from_wire, kind_to_wire
from fedn.network.frames import MAX_MESSAGE_BYTES
from fedn.network.generated import combiner_pb2 as link
from fedn.network.tokens import TokenIssuer
from fedn.protocol.errors import FednError
from fedn.protocol.tasks import TaskKind
from fedn.reducer.engine.connection import Connection, LinkDown, RoundRefused
from fedn.reducer.engine.roster import AttachedClient, Roster
from fedn.reducer.registry import CombinerRecord

log = logging.getLogger(__name__)

METHOD = "/fedn.v1.CombinerService/Link"
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
)
_FIRST_RETRY_S = 0.1
_LONGEST_RETRY_S = 2.0
_WELCOME_S = 10.0
_KNOWN_KINDS = {kind_to_wire(kind) for kind in TaskKind}


@dataclass(frozen=True)
class LinkSettings:
    """What all links share."""

    federation: str
    epoch: int
    credentials: grpc.ChannelCredentials | None
    """None: no TLS, for measurements on one machine only."""
    tokens: TokenIssuer
    token_ttl_s: float
    dead_after_s: float
    """A combiner without link and without heartbeat for so long is dead."""


class CombinerLink:
    """See the module. Belongs to the engine's loop."""

    def __init__(
        self,
        record: CombinerRecord,
        settings: LinkSettings,
        roster: Roster,
        on_state: Callable[[str, bool, int], None],
        on_double: Callable[[str, str], None],
    ) -> None:
        self.name = record.name
        self._record = record
        self._settings = settings
        self._roster = roster
        self._on_state = on_state
        self._on_double = on_double
        self._connection: Connection | None = None
        self._attached = 0
        self._last_sign = time.time()
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"link {self.name}")

    @property
    def connection(self) -> Connection | None:
        """The open connection, if there is one now."""
        return self._connection

    def update(self, record: CombinerRecord) -> None:
        """The registry has news: a heartbeat, another address, a new instance."""
        moved = (record.host, record.port, record.instance) != (
            self._record.host,
            self._record.port,
            self._record.instance,
        )
        self._record = record
        self._last_sign = max(self._last_sign, record.last_heartbeat)
        if moved:
            self._notify()

    async def connected(self, deadline: float) -> Connection:
        """The open connection, waiting for it while the combiner gives signs of life.

        Args:
            deadline: monotonic time, seconds.

        Raises:
            LinkDown: the combiner is dead, or the deadline passed.
        """
        while True:
            if self._connection is not None:
                return self._connection
            dead_in = self._last_sign + self._settings.dead_after_s - time.time()
            wait_s = min(dead_in, deadline - time.monotonic())
            if wait_s <= 0:
                raise LinkDown(self.name, "no link and no heartbeat" if dead_in <= 0 else "no link in time")
            changed = self._changed
            try:
                async with asyncio.timeout(wait_s):
                    await changed.wait()
            except TimeoutError:
                continue

    def detach_client(self, client: str, code: str, message: str) -> None:
        """Tells the combiner to send a client away."""
        if self._connection is not None:
            with contextlib.suppress(LinkDown):  # with the link, the combiner's whole list goes
                self._connection.detach_client(client, code, message)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._serve_once()
                failures = 0
            except (FednError, grpc.aio.AioRpcError, grpc.aio.BaseError, asyncio.InvalidStateError) as error:
                level = logging.DEBUG if failures else logging.WARNING
                log.log(level, "no link to combiner %s: %s", self.name, _text(error))
            failures += 1
            longest = min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2 ** min(failures, 10))
            changed = self._changed
            try:
                async with asyncio.timeout(random.uniform(_FIRST_RETRY_S, longest)):  # noqa: S311 (jitter, no secret)
                    await changed.wait()
            except TimeoutError:
                continue

    async def _serve_once(self) -> None:
        """Opens a stream and serves it until it breaks."""
        host = f"[{self._record.host}]" if ":" in self._record.host else self._record.host
        address = f"{host}:{self._record.port}"
        async with _channel(address, self._settings.credentials) as channel:
            call = channel.stream_stream(METHOD, request_serializer=None, response_deserializer=None)
            headers = (("authorization", f"Bearer {self._token()}"),)
            stream = call(metadata=headers)  # type: ignore[call-arg]  # the stubs know no stream written by hand
            connection = Connection(self.name, stream, self, self._down)
            try:
                welcome = await connection.open(self._settings.federation, self._settings.epoch, _WELCOME_S)
                if welcome.combiner != self.name:
                    raise RoundRefused(
                        "wrong_combiner",
                        f"at {address} answers {welcome.combiner!r}",
                        fix="Two combiners announce the same address: give each its own public_host and port.",
                        where={"combiner": self.name},
                    )
                self._connection = connection
                self._last_sign = time.time()
                self._on_state(self.name, True, self._attached)
                self._notify()
                log.info("linked to combiner %s at %s", self.name, address)
                renewal = asyncio.create_task(self._renew_tokens(connection))
                try:
                    await connection.serve()
                finally:
                    renewal.cancel()
                    await asyncio.gather(renewal, return_exceptions=True)
            finally:
                stream.cancel()
                self._down(connection)

    def _down(self, connection: Connection) -> None:
        """From this moment the combiner has as long as a silent one to show itself again."""
        if self._connection is connection:
            self._connection = None
            self._last_sign = time.time()
            self._attached = 0
            self._roster.link_lost(self.name)
            self._on_state(self.name, False, 0)
            self._notify()

    def _token(self) -> str:
        return self._settings.tokens.issue_link(self.name, self._settings.token_ttl_s)

    async def _renew_tokens(self, connection: Connection) -> None:
        while True:
            await asyncio.sleep(self._settings.token_ttl_s / 2)  # a timer: nothing else makes a token older
            connection.renew_token(self._token())

    # What the connection tells of the combiner's clients.

    def snapshot(self, clients: list[link.AttachedClient]) -> None:
        self._attached = len(clients)
        doubles = self._roster.replace_all(self.name, [self._attached_client(client) for client in clients])
        self._on_state(self.name, True, self._attached)
        for client, other in doubles:
            self._on_double(client, other)

    def changed(self, change: link.ClientChanged) -> None:
        if change.attached:
            self._attached += 1
            other = self._roster.attach(self._attached_client(change.client))
            if other is not None:
                self._on_double(change.client.client, other)
        else:
            self._attached = max(0, self._attached - 1)
            self._roster.detach(change.client.client, self.name, change.reason)
        self._on_state(self.name, True, self._attached)

    def _attached_client(self, message: link.AttachedClient) -> AttachedClient:
        """What a client says of itself must not cost the link: a kind of task that we do not know is never asked."""
        return AttachedClient(
            client=message.client,
            combiner=self.name,
            kinds=frozenset(kind_from_wire(kind) for kind in message.kinds if kind in _KNOWN_KINDS),
            attributes=dict(message.attributes),
            since=message.since_unix_s,
        )


def _channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    return grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)


def _text(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error)
