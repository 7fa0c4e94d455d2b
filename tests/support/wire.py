"""A client and a reducer of a few lines that speak the frames of `proto/fedn/v1` over gRPC: to test a combiner with."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np

from fedn.combiner.combiner import Combiner
from fedn.combiner.options import CombinerOptions, TlsFiles
from fedn.combiner.workers.peers import RelayDesk, RelayToken
from fedn.models.digest import digest
from fedn.models.wire import encode
from fedn.network.convert import metadata_to_wire, round_from_wire, round_to_wire, spec_to_wire
from fedn.network.frames import MAX_MESSAGE_BYTES, decode_piece, encode_pieces
from fedn.network.generated import client_pb2, combiner_pb2, common_pb2
from fedn.network.tickets import TicketIssuer, TicketVerifier
from fedn.network.tls import CertificateAuthority, grpc_channel_credentials, make_csr, new_private_key, public_key_id
from fedn.network.tokens import Role, TokenIssuer, TokenVerifier, create_or_load_signing_key
from fedn.protocol.errors import Unavailable
from fedn.protocol.rounds import LedgerState, RoundSpec
from fedn.protocol.tasks import RoundName, TaskKind, TaskSpec, UpdateMetadata

PATIENCE_S = 60.0
"""The machine is slow and shared; nothing waits so long in good order."""

FEDERATION = "test-federation"

_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),
]


class Trust:
    """Certificate authority and token issuer of a federation, as a reducer has them."""

    def __init__(self, folder: Path) -> None:
        self.authority = CertificateAuthority.create_or_load(folder / "ca", FEDERATION)
        signing_key = create_or_load_signing_key(folder / "signing.pem")
        self.issuer = TokenIssuer(signing_key, FEDERATION)
        self.ticket_issuer = TicketIssuer(signing_key, FEDERATION)
        self.verifier = TokenVerifier(self.issuer.public_key_pem, FEDERATION)
        self.tickets = TicketVerifier(self.issuer.public_key_pem, FEDERATION)
        self.ca = self.authority.certificate_pem

    def tls(self, name: str, role: Role, hosts: Iterable[str] = ("localhost", "127.0.0.1")) -> TlsFiles:
        key = new_private_key()
        wanted = list(hosts) if role is Role.COMBINER else []
        certificate = self.authority.sign(make_csr(key, name), name=name, role=role, hosts=wanted, valid_days=2)
        return TlsFiles(key, certificate, self.ca)

    def token(self, name: str, role: Role = Role.CLIENT, ttl_s: float = 3600.0, key_id: str | None = None) -> str:
        return self.issuer.issue(name, role, ttl_s, f"sha256:{name}" if key_id is None else key_id)

    def link_token(self, combiner: str = "c1", ttl_s: float = 3600.0) -> str:
        """What the reducer shows to this combiner."""
        return self.issuer.issue_link(combiner, ttl_s)

    def key_id(self, tls: TlsFiles) -> str:
        return public_key_id(tls.key)


class StubRelayDesk:
    """Gives one combiner tokens for relaying, without a reducer, which therefore fetches no stream."""

    def __init__(self, trust: Trust, combiner: str, files: TlsFiles | None) -> None:
        self._trust, self._combiner = trust, combiner
        self._key_id = trust.key_id(files) if files else ""

    async def relay_token(self, group: str, ticket: str) -> RelayToken:
        home = self._trust.tickets.verify(ticket).home
        return RelayToken(self._trust.issuer.issue_relay(self._combiner, home, 600, self._key_id), time.time() + 600)

    async def ask_detour(self, group: str, ticket: str, call: str, reason: str) -> None:
        raise Unavailable("reducer_away", "there is no reducer")


def make_combiner(
    trust: Trust, folder: Path, *, tls: bool = True, desk: Callable[[str], RelayDesk] | None = None, **changes: Any
) -> Combiner:
    """A combiner on a free port of this machine, not yet started.

    Args:
        desk: of the combiner's key id: the reducer that it asks about workers of groups elsewhere.
    """
    given = {"name": "c1", "federation": FEDERATION, "data_dir": folder, "bind": "127.0.0.1", "port": 0} | changes
    files = trust.tls(given["name"], Role.COMBINER) if tls else None
    return Combiner(
        CombinerOptions(**given),
        verifier=TokenVerifier(trust.issuer.public_key_pem, FEDERATION, combiner=given["name"]),
        tickets=trust.tickets,
        tls=files,
        desk=desk(trust.key_id(files) if files else "") if desk else StubRelayDesk(trust, given["name"], files),
    )


class WireStream:
    """One stream and its inbox. What arrives waits until it is expected."""

    method: str
    frame_in: Any

    def __init__(self, address: str, token: str | None, credentials: grpc.ChannelCredentials | None) -> None:
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(address, _CHANNEL_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(address, credentials, _CHANNEL_OPTIONS)
        metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        self.call = self._channel.stream_stream(self.method)(metadata=metadata)
        self.inbox: list[Any] = []
        self.objects: dict[str, bytearray] = {}
        """Objects that arrived, whole or in part."""
        self.object_offsets: list[tuple[str, int]] = []
        """What ObjectBegin said, in order."""
        self.ended = asyncio.Event()
        self._arrived = asyncio.Condition()
        self._current: str = ""
        self._reader = asyncio.create_task(self._read())
        self.reading = asyncio.Event()
        self.reading.set()

    async def _read(self) -> None:
        try:
            while True:
                await self.reading.wait()
                message = await self.call.read()
                if not isinstance(message, bytes):
                    return
                piece = decode_piece(message)
                if piece is not None:
                    offset, data = piece
                    self.objects[self._current][offset : offset + len(data)] = data
                    continue
                frame = self.frame_in.FromString(message)
                if frame.HasField("object"):
                    self._current = frame.object.object_id
                    self.object_offsets.append((self._current, frame.object.offset))
                    self.objects.setdefault(self._current, bytearray(frame.object.size_bytes))
                async with self._arrived:
                    self._sort_in(frame)
                    self._arrived.notify_all()
        except (grpc.RpcError, asyncio.InvalidStateError):
            return
        finally:
            async with self._arrived:
                self.ended.set()
                self._arrived.notify_all()

    def _sort_in(self, frame: Any) -> None:
        self.inbox.append(frame)

    async def write(self, frame: Any) -> None:
        await self.call.write(frame if isinstance(frame, bytes) else frame.SerializeToString())

    async def expect(self, *fields: str, where: Callable[[Any], bool] = lambda _: True) -> Any:
        """The next frame with one of these fields (for which `where` holds), taken out of the inbox; its content."""

        def find() -> Any:
            for frame in self.inbox:
                field = frame.WhichOneof("control")
                if field in fields and where(getattr(frame, field)):
                    return frame
            return None

        async with asyncio.timeout(PATIENCE_S), self._arrived:
            await self._arrived.wait_for(lambda: find() is not None or self.ended.is_set())
        frame = find()
        assert frame is not None, f"the stream ended before any of {fields}; inbox: {self.inbox}"
        self.inbox.remove(frame)
        return getattr(frame, frame.WhichOneof("control"))

    async def wait_ended(self) -> grpc.StatusCode:
        async with asyncio.timeout(PATIENCE_S):
            await self.ended.wait()
            return await self.call.code()

    async def ping(self) -> None:
        """Until all that was written before has been read by the combiner."""
        nonce = next(_nonces)
        await self.write(self._ping(nonce))
        await self.expect("pong", where=lambda pong: pong.nonce == nonce)

    def _ping(self, nonce: int) -> Any:
        raise NotImplementedError

    async def close(self) -> None:
        self.call.cancel()
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


_nonces = itertools.count(1)


class WireClient(WireStream):
    """A client that does what the test says."""

    method = "/fedn.v1.ClientService/Attach"
    frame_in = client_pb2.CombinerFrame

    def __init__(self, name: str, address: str, token: str | None, credentials: grpc.ChannelCredentials | None) -> None:
        super().__init__(address, token, credentials)
        self.name = name
        self.forgets = False
        """Whether what was said of a task is forgotten once it is asked again, by another attempt."""

    def _ping(self, nonce: int) -> client_pb2.ClientFrame:
        return client_pb2.ClientFrame(ping=common_pb2.Ping(nonce=nonce))

    def _sort_in(self, frame: Any) -> None:
        if self.forgets and frame.HasField("task"):
            replies = ("grant", "ack", "refused", "cancelled")
            kinds = ((old, old.WhichOneof("control")) for old in self.inbox)
            again = frame.task.task_id
            self.inbox = [old for old, kind in kinds if kind not in replies or getattr(old, kind).task_id != again]
        super()._sort_in(frame)

    async def hello(self, **fields: Any) -> Any:
        """Says hello; the Welcome, or the Bye."""
        hello = client_pb2.Hello(client=self.name, instance=f"{self.name}-{next(_nonces)}", **fields)
        await self.write(client_pb2.ClientFrame(hello=hello))
        return await self.expect("welcome", "bye")

    async def accept(self) -> common_pb2.Task:
        """The next task, accepted."""
        task = await self.expect("task")
        await self.write(client_pb2.ClientFrame(task_accepted=client_pb2.TaskAccepted(task_id=task.task_id)))
        return task

    def metadata(self, task: common_pb2.Task, **changes: Any) -> common_pb2.UpdateMetadata:
        given = {
            "task_id": task.task_id,
            "client": self.name,
            "round": round_from_wire(task.round),
            "base_model_id": task.model_id,
            "num_examples": 10,
        }
        return metadata_to_wire(UpdateMetadata(**(given | changes)))

    async def announce(
        self, task: common_pb2.Task, data: bytes, *, object_id: str | None = None, **changes: Any
    ) -> None:
        """Says that a result waits; `data` empty: the metadata is the whole result."""
        ready = client_pb2.Ready(
            metadata=self.metadata(task, **changes),
            object_id=(digest(data) if object_id is None else object_id) if data else "",
            size_bytes=len(data),
        )
        await self.write(client_pb2.ClientFrame(ready=ready))

    async def send(self, task: common_pb2.Task, data: bytes, offset: int = 0) -> None:
        for message in encode_pieces(data, offset):
            await self.write(message)
        await self.write(client_pb2.ClientFrame(upload_end=client_pb2.UploadEnd(task_id=task.task_id)))

    async def answer(self, task: common_pb2.Task, data: bytes, **changes: Any) -> Any:
        """Delivers a result; the Ack, the Refused, or the TaskCancelled."""
        await self.announce(task, data, **changes)
        return await self.deliver(task, data)

    async def deliver(self, task: common_pb2.Task, data: bytes) -> Any:
        """Sends what is granted, as often as it is, until the Ack, the Refused or the TaskCancelled."""

        def own(reply: Any) -> bool:
            return bool(reply.task_id == task.task_id)

        kinds = ("grant", "ack", "refused", "cancelled")
        while isinstance(reply := await self.expect(*kinds, where=own), client_pb2.Grant):
            await self.send(task, data, reply.offset)
        return reply

    async def fail(self, task: common_pb2.Task, message: str) -> None:
        problem = common_pb2.Problem(code="task_failed", message=message)
        failed = client_pb2.TaskFailed(task_id=task.task_id, round=task.round, problem=problem)
        await self.write(client_pb2.ClientFrame(task_failed=failed))


class WireReducer(WireStream):
    """A reducer that does what the test says."""

    method = "/fedn.v1.CombinerService/Link"
    frame_in = combiner_pb2.LinkFrame

    def _ping(self, nonce: int) -> combiner_pb2.ReducerFrame:
        return combiner_pb2.ReducerFrame(ping=common_pb2.Ping(nonce=nonce))

    async def hello(self, epoch: int = 1, federation: str = FEDERATION) -> Any:
        await self.write(combiner_pb2.ReducerFrame(hello=combiner_pb2.LinkHello(federation=federation, epoch=epoch)))
        return await self.expect("welcome", "problem")

    async def start(self, spec: RoundSpec, objects: Mapping[str, bytes] | None = None) -> Any:
        """Starts a round and pushes those objects that it needs; the RoundStatus, or the RoundRefused."""
        await self.write(combiner_pb2.ReducerFrame(start=spec_to_wire(spec)))
        status = await self.expect("status", "refused")
        if isinstance(status, combiner_pb2.RoundStatus):
            for object_id in status.needed_objects:
                if objects and object_id in objects:
                    await self.push(object_id, objects[object_id])
        return status

    async def push(self, object_id: str, data: bytes, kind: Any = common_pb2.OBJECT_KIND_MODEL) -> None:
        begin = common_pb2.ObjectBegin(object_id=object_id, kind=kind, size_bytes=len(data))
        await self.write(combiner_pb2.ReducerFrame(object=begin))
        for message in encode_pieces(data):
            await self.write(message)

    async def watch(self, name: RoundName, from_event: int = 1) -> Any:
        watch = combiner_pb2.WatchRound(round=round_to_wire(name), from_event=from_event)
        await self.write(combiner_pb2.ReducerFrame(watch=watch))
        return await self.expect("status", "refused")

    async def done(self, name: RoundName) -> combiner_pb2.RoundDone:
        event = await self.expect(
            "event", where=lambda event: event.HasField("done") and round_from_wire(event.round) == name
        )
        return event.done

    async def handed_up(self, number: int) -> combiner_pb2.RoundDone:
        event = await self.expect("event", where=lambda event: event.handed_up.number == number)
        return event.handed_up.result

    async def ledger(self, client: str, state: LedgerState) -> combiner_pb2.LedgerChange:
        wanted = combiner_pb2.LedgerState.Value(f"LEDGER_STATE_{state.name}")
        event = await self.expect(
            "event", where=lambda event: event.ledger.client == client and event.ledger.state == wanted
        )
        return event.ledger

    async def fetch(self, object_id: str, offset: int = 0) -> bytes | None:
        fetch = common_pb2.ObjectFetch(object_id=object_id, offset=offset, kind=common_pb2.OBJECT_KIND_MODEL)
        await self.write(combiner_pb2.ReducerFrame(fetch=fetch))
        reply = await self.expect("object", "missing")
        if isinstance(reply, common_pb2.ObjectMissing):
            return None
        # Pieces follow ObjectBegin in order; a Pong could overtake them, so the digest says when all are here.
        async with asyncio.timeout(PATIENCE_S):
            while digest(self.objects[object_id]) != object_id:
                await self.ping()
        return bytes(self.objects[object_id])

    async def order(self, what: str, name: RoundName, **fields: Any) -> None:
        """CloseRound, ExtendRound, CancelRound, CommitAck, HandUp or HandUpAck, by the field's name."""
        kinds = {
            "close": "CloseRound",
            "extend": "ExtendRound",
            "cancel": "CancelRound",
            "commit_ack": "CommitAck",
            "hand_up": "HandUp",
            "hand_up_ack": "HandUpAck",
        }
        order = getattr(combiner_pb2, kinds[what])(round=round_to_wire(name), **fields)
        await self.write(combiner_pb2.ReducerFrame(**{what: order}))


@dataclass
class Scene:
    """A running combiner, and streams to it."""

    trust: Trust
    combiner: Combiner
    tls: bool = True

    @property
    def address(self) -> str:
        return f"localhost:{self.combiner.port}"

    @property
    def credentials(self) -> grpc.ChannelCredentials | None:
        return grpc_channel_credentials(self.trust.ca) if self.tls else None

    def client(self, name: str, *, token: str | None = None) -> WireClient:
        return WireClient(name, self.address, token or self.trust.token(name), self.credentials)

    def reducer(self, *, token: str | None = None) -> WireReducer:
        return WireReducer(self.address, token or self.trust.link_token(self.combiner.options.name), self.credentials)


def model(value: float, size: int = 16, **extra: np.ndarray[Any, Any]) -> bytes:
    """A model of two tensors, filled with one value."""
    tensors = {"w": np.full(size, value, np.float32), "b": np.full(2, value, np.float32)}
    return bytes(encode(tensors | extra))


def round_spec(
    base: bytes,
    clients: Iterable[str],
    *,
    session: str = "s",
    index: int = 0,
    attempt: int = 0,
    epoch: int = 1,
    kind: TaskKind = TaskKind.TRAIN,
    **changes: Any,
) -> RoundSpec:
    """A round with one task for each client; long deadlines unless the test says otherwise."""
    name = RoundName(session=session, index=index, attempt=attempt, epoch=epoch)
    package_id = changes.pop("package_id", "")
    tasks = tuple(
        TaskSpec(
            task_id=f"{session}-{index}-{client}",
            client=client,
            kind=kind,
            model_id=digest(base) if base else "",
            package_id=package_id,
            parameters={"epochs": 1},
        )
        for client in clients
    )
    given: dict[str, Any] = {"deadline_s": 600.0, "disconnect_grace_s": 600.0, "upload_grace_s": 600.0}
    return RoundSpec(name=name, tasks=tasks, **(given | changes))


def scenario(**options: Any) -> Callable[[Callable[[Scene], Any]], Callable[..., None]]:
    """Makes an `async def test(scene)` a test on a running combiner with these options."""

    def decorate(body: Callable[[Scene], Any]) -> Callable[..., None]:
        async def run(trust: Trust, folder: Path) -> None:
            async with make_combiner(trust, folder, **options) as combiner:
                await body(Scene(trust, combiner, options.get("tls", True)))

        def test(trust: Trust, tmp_path: Path) -> None:
            asyncio.run(run(trust, tmp_path))

        test.__name__, test.__doc__, test.__module__ = body.__name__, body.__doc__, body.__module__
        return test

    return decorate
