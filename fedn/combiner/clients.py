"""The clients that are attached now, by name.

Identity is name and key: a new stream of the same key replaces the old one, another key does not get the name.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fedn.combiner.objects import StoredObject
from fedn.combiner.traffic import Traffic
from fedn.combiner.uploads import UploadLane
from fedn.network.generated import client_pb2 as wire
from fedn.network.generated import combiner_pb2 as link
from fedn.network.generated import common_pb2 as common
from fedn.protocol.errors import Conflict, FednError, Unavailable


@dataclass(frozen=True)
class ClientInfo:
    """What a client said of itself. `key_id` is what its token says."""

    client: str
    instance: str
    key_id: str
    kinds: tuple[common.TaskKind, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict)
    spooled_tasks: frozenset[str] = frozenset()
    codecs: frozenset[str] = frozenset()
    """Names of those that it knows."""
    since_unix_s: float = field(default_factory=time.time)

    def as_wire(self) -> link.AttachedClient:
        return link.AttachedClient(
            client=self.client, kinds=self.kinds, attributes=self.attributes, since_unix_s=self.since_unix_s
        )


class Peer(Protocol):
    """An attached client as rounds see it."""

    @property
    def info(self) -> ClientInfo: ...

    @property
    def lane(self) -> UploadLane: ...

    def send(self, frame: wire.CombinerFrame) -> None:
        """A control message; it may overtake objects."""

    def send_lazily(self, frame: wire.CombinerFrame) -> None:
        """A control message that the client does not wait for: it may come a moment later, together with others."""

    def push(self, frame: wire.CombinerFrame, objects: Sequence[StoredObject], traffic: Traffic) -> None:
        """A message, after those of the objects that the client does not hold; their bytes are counted as they go."""

    def end(self, error: FednError, retry_after_s: float) -> None:
        """Says Bye, and ends the stream."""


class Listener(Protocol):
    """Who is told when clients come and go."""

    def client_attached(self, peer: Peer) -> None: ...

    def client_detached(self, peer: Peer, reason: str) -> None: ...


class Clients:
    """See the module. Belongs to one loop."""

    def __init__(self, max_clients: int) -> None:
        self.max_clients = max_clients
        self._peers: dict[str, Peer] = {}
        self._listeners: list[Listener] = []
        self.came = 0
        """Streams that were taken in so far."""

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[Peer]:
        return iter(tuple(self._peers.values()))

    def get(self, client: str) -> Peer | None:
        return self._peers.get(client)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Returns what ends the listening."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def attach(self, peer: Peer) -> None:
        """Takes a client in; an older stream of it is ended.

        Raises:
            Conflict: (`name_taken`) the name is attached with another key.
            Unavailable: (`combiner_full`).
        """
        info = peer.info
        old = self._peers.get(info.client)
        if old is not None:
            if old.info.key_id != info.key_id:
                raise Conflict(
                    "name_taken",
                    "another client of this name is attached, with another key",
                    fix="Give each client a name of its own (CLIENT_NAME_BASE makes one for each container).",
                    where={"client": info.client},
                )
            self.detach(old, "replaced")
            old.end(
                Conflict(
                    "replaced",
                    "a newer stream of this client took its place",
                    fix="Run one process for each data directory.",
                    where={"client": info.client},
                ),
                0.0,
            )
        elif len(self._peers) >= self.max_clients:
            raise Unavailable(
                "combiner_full",
                f"the combiner has its {self.max_clients} clients",
                fix="The client asks the reducer for another combiner; start one more, or raise max_clients.",
            )
        self._peers[info.client] = peer
        self.came += 1
        for listener in tuple(self._listeners):
            listener.client_attached(peer)

    def detach(self, peer: Peer, reason: str) -> None:
        """The stream is gone or replaced; nothing where the name belongs to a newer one."""
        if self._peers.get(peer.info.client) is not peer:
            return
        del self._peers[peer.info.client]
        peer.lane.close()
        for listener in tuple(self._listeners):
            listener.client_detached(peer, reason)
