"""The light clients' talk with the reducer: enrolment, tokens, assignments, over few shared connections."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from fedn.api.replies import api_path, call, payload_of
from fedn.api.transport import Transport
from fedn.network.backoff import Backoff
from fedn.network.join import JoinString
from fedn.network.tls import fetch_pinned_ca, make_csr
from fedn.network.tokens import make_assertion
from fedn.protocol.errors import IntegrityError, Unavailable
from fedn.protocol.rest import Assignment, AssignmentRequest, EnrolReply, EnrolRequest, TokenReply, TokenRequest

T = TypeVar("T")
_TIMEOUT_S = 30.0
_THREADS = 8
"""Calls at once: as many connections to the reducer."""


@dataclass(frozen=True, slots=True)
class Token:
    """A role token, and when it ends (Unix time in seconds)."""

    text: str
    expires_at: float


class Joining:
    """The reducer, as all light clients of a process see it. Calls block in threads, never the loop.

    Args:
        join: where the reducer is, how to trust it, and the enrolment secret.
    """

    def __init__(self, join: JoinString) -> None:
        self._join = join
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="fedn-swarm-rest")
        self._http: Transport | None = None
        self._federation = ""
        self._head, self._length = "", 0
        self.ca = b""
        """PEM that combiners are verified against; empty: no TLS. After `open`."""

    async def open(self) -> None:
        """Reaches the reducer, waiting while it is away. Unauthenticated (`wrong_ca`) where it is another one."""
        backoff = Backoff()
        while True:
            try:
                return await self._in_thread(self._open)
            except Unavailable:
                await asyncio.sleep(backoff.next_s())

    def _open(self) -> None:
        join = self._join
        self.ca = fetch_pinned_ca(join.url, join.ca_fingerprint, _TIMEOUT_S) if join.ca_fingerprint else b""
        self._http = Transport(join.url, ca=self.ca or None, timeout_s=_TIMEOUT_S, bearer=lambda: "")

    async def enrol(self, name: str, key_pem: bytes) -> Token:
        """Binds the name to the key, or to the same key again. Conflict (`name_taken`)."""
        return await self._in_thread(lambda: self._enrol(name, key_pem))

    async def renew(self, name: str, key_pem: bytes) -> Token:
        """A new token for the proof that the client has its key."""
        return await self._in_thread(lambda: self._renew(name, key_pem))

    async def assign(self, token: Token, preferred: str, avoid: Sequence[str]) -> Assignment:
        """Where the bearer of the token shall attach.

        Raises:
            IntegrityError: (`trail_rolled_back`) the trail is another one than before.
        """
        assignment = await self._in_thread(lambda: self._assign(token, preferred, avoid))
        self._check_trail(assignment.trail_head, assignment.trail_length)
        return assignment

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        if self._http is not None:
            self._http.close()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    @property
    def _reducer(self) -> Transport:
        assert self._http is not None, "it was not opened"
        return self._http

    def _enrol(self, name: str, key_pem: bytes) -> Token:
        csr = make_csr(key_pem, name).decode()
        request = payload_of(EnrolRequest, name=name, role="client", csr=csr)
        path = api_path("enrol")
        reply = call(self._reducer, "POST", path, EnrolReply, payload=request, bearer=self._join.secret)
        self._federation = reply.federation
        return Token(reply.token, reply.expires_at)

    def _renew(self, name: str, key_pem: bytes) -> Token:
        request = payload_of(TokenRequest, grant="assertion", assertion=make_assertion(key_pem, name, self._federation))
        reply = call(self._reducer, "POST", api_path("token"), TokenReply, payload=request, bearer="")
        return Token(reply.token, reply.expires_at)

    def _assign(self, token: Token, preferred: str, avoid: Sequence[str]) -> Assignment:
        request = payload_of(AssignmentRequest, preferred=preferred, avoid=tuple(avoid))
        return call(self._reducer, "POST", api_path("assignments"), Assignment, payload=request, bearer=token.text)

    def _check_trail(self, head: str, length: int) -> None:
        # Answers may overtake each other, so a trail is wrong here only where one length has two heads.
        if length == self._length and self._head not in {"", head}:
            raise IntegrityError(
                "trail_rolled_back",
                f"the reducer's trail has {length} entries and the head {head}; the swarm has seen {self._head}",
                fix="Ask the reducer's operator.",
            )
        if length > self._length:
            self._head, self._length = head, length
