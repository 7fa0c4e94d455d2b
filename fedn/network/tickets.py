"""Tickets: what the reducer says of a worker to the combiners, signed: its group, its rank, and where the group meets.

A ticket opens nothing by itself: it comes beside a role token, of the client that it names or of a combiner that hands
this client's stream on.
"""

import secrets
import time
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

import jwt

from fedn.network.tokens import Clock, bad_token, decode_signed, private_key, public_key

_ALGORITHM = "EdDSA"
MAX_SIZE = 4096
"""Workers of a group at the most."""


@dataclass(frozen=True, kw_only=True)
class WorkerTicket:
    """One worker's place in its group."""

    client: str
    """Name of the client that the worker is."""
    group: str
    size: int
    """Workers of the group."""
    rank: int
    entrance: str
    """Name of the combiner that the worker attaches to; that one alone may hand its stream on."""
    home: str
    """Name of the combiner where the group meets, and below, its address."""
    host: str
    port: int
    expires_at: float
    """Unix time in seconds."""


class TicketIssuer:
    """Makes tickets. Only the reducer has one.

    Args:
        private_key_pem: the federation's Ed25519 key, the same as for tokens.
        clock: Unix time in seconds.
    """

    def __init__(self, private_key_pem: bytes, federation: str, *, clock: Clock = time.time) -> None:
        self._key = private_key(private_key_pem)
        self._federation = federation
        self._clock = clock

    def issue(self, ticket: WorkerTicket) -> str:
        """The signed text, good until the ticket expires."""
        said = asdict(ticket)
        claims = {
            "iss": self._federation,
            "aud": _audience(self._federation),
            "sub": ticket.client,
            "iat": self._clock(),
            "exp": said.pop("expires_at"),
            "jti": secrets.token_hex(16),
        }
        return jwt.encode(claims | said, self._key, algorithm=_ALGORITHM)


class TicketVerifier:
    """Reads tickets. Every combiner has one.

    Args:
        public_key_pem: `TokenIssuer.public_key_pem`.
        clock: Unix time in seconds.
    """

    def __init__(self, public_key_pem: bytes, federation: str, *, clock: Clock = time.time) -> None:
        self._key = public_key(public_key_pem)
        self._federation = federation
        self._clock = clock

    def verify(self, text: str) -> WorkerTicket:
        """What the ticket says. Unauthenticated: `token_expired`, or `token_bad` (anything else)."""
        audience = (_audience(self._federation),)
        claims = decode_signed(text, self._key, _ALGORITHM, audience=audience, now=self._clock())
        values = {field.name: claims.get(field.name) for field in fields(WorkerTicket)}
        values["expires_at"] = float(claims["exp"])
        numbers = [values[name] for name in ("size", "rank", "port")]
        texts = [values[name] for name in ("client", "group", "entrance", "home", "host")]
        if not all(type(number) is int for number in numbers) or not all(isinstance(one, str) for one in texts):
            raise bad_token("it is no ticket of a worker")
        ticket = WorkerTicket(**{name: cast(Any, value) for name, value in values.items()})
        if not 0 <= ticket.rank < ticket.size <= MAX_SIZE:
            raise bad_token("its rank does not fit its group")
        return ticket


def _audience(federation: str) -> str:
    return f"{federation}/workers"
