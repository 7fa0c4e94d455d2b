"""How this combiner reaches the homes of groups at other combiners: by which token, and by which way."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from fedn.combiner.metrics import CombinerMetrics
from fedn.combiner.options import TlsFiles
from fedn.combiner.workers.ways import Detours, Way, dialled
from fedn.network.dialing import Endpoint
from fedn.network.tickets import WorkerTicket
from fedn.plan.logs import bind
from fedn.protocol.errors import FednError, Unavailable

_log = bind(__name__)

_RENEW_BEFORE_S = 60.0
_MAX_REASON = 500


class RelayToken(NamedTuple):
    """Opens Relay at one other combiner, and nothing else."""

    token: str
    expires_at: float
    """Unix time in seconds."""


class RelayDesk(Protocol):
    """The reducer, as a combiner asks it about a worker whose group meets elsewhere.

    Both raise a FednError where it is away, or refuses: the ticket is not of a worker that is attached here.
    """

    async def relay_token(self, group: str, ticket: str) -> RelayToken:
        """For the home that the ticket names."""

    async def ask_detour(self, group: str, ticket: str, call: str, reason: str) -> None:
        """Lets the reducer fetch the worker's stream by this call; `reason`: why the home is not reached from here."""


@dataclass(frozen=True)
class Handed:
    """A worker's stream that is to be handed on."""

    hello: bytes
    """Its first message."""
    ticket: WorkerTicket
    ticket_text: str


class Peers:
    """See the module. Belongs to one loop.

    Args:
        tls: this combiner's own, to show to others; None: no TLS.
        desk: None: this combiner is not registered with a reducer, and reaches nobody.
    """

    def __init__(
        self, tls: TlsFiles | None, desk: RelayDesk | None, detours: Detours, metrics: CombinerMetrics
    ) -> None:
        self._tls = tls
        self._desk = desk
        self._detours = detours
        self._metrics = metrics
        self._tokens: dict[str, RelayToken] = {}
        """By home."""
        self._not_reached: dict[str, str] = {}
        """Home to the address that was last tried in vain."""

    @asynccontextmanager
    async def way(self, handed: Handed) -> AsyncIterator[Way]:
        """A stream to the home: the direct one, or through the reducer where the home does not answer.

        One that goes through the reducer stays there until it ends; the worker's next one is tried directly first.

        Raises:
            Unavailable: (`home_unreachable`) by neither.
        """
        ticket = handed.ticket
        if self._desk is None:
            raise unreachable(ticket, "this combiner is not registered with a reducer")
        async with AsyncExitStack() as stack:
            try:
                endpoint = self._endpoint(ticket, await self._token(self._desk, handed))
            except FednError as error:
                raise unreachable(ticket, f"the reducer gives no token for it: {error.message}") from error
            try:
                way = await stack.enter_async_context(dialled(endpoint, handed.hello))
            except Unavailable as error:
                way = await self._through_reducer(stack, self._desk, handed, error.message)
            else:
                self._note_reached(ticket)
            yield way

    async def _through_reducer(self, stack: AsyncExitStack, desk: RelayDesk, handed: Handed, why: str) -> Way:
        ticket = handed.ticket

        async def ask(call: str) -> None:
            await desk.ask_detour(ticket.group, handed.ticket_text, call, why[:_MAX_REASON])

        try:
            way = await stack.enter_async_context(self._detours.fetched(handed.hello, ask))
        except FednError as error:
            raise unreachable(ticket, f"{why}; and not through the reducer: {error.message}") from error
        stack.enter_context(self._metrics.worker_streams_through_reducer.track_inprogress())
        self._note_detour(ticket, why)
        return way

    async def _token(self, desk: RelayDesk, handed: Handed) -> str:
        """A fresh one; an older one that still counts where the reducer is away."""
        home = handed.ticket.home
        held, now = self._tokens.get(home), time.time()
        if held is None or held.expires_at - _RENEW_BEFORE_S < now:
            try:
                held = self._tokens[home] = await desk.relay_token(handed.ticket.group, handed.ticket_text)
            except Unavailable:
                if held is None or held.expires_at < now:
                    raise
        return held.token

    def _endpoint(self, ticket: WorkerTicket, token: str) -> Endpoint:
        tls = self._tls
        return Endpoint(
            combiner=ticket.home,
            host=ticket.host,
            port=ticket.port,
            token=token,
            ca=tls.ca if tls else b"",
            key=tls.key if tls else None,
            certificate=tls.certificate if tls else None,
        )

    def _note_detour(self, ticket: WorkerTicket, why: str) -> None:
        address = f"{ticket.host}:{ticket.port}"
        if self._not_reached.get(ticket.home) != address:
            self._not_reached[ticket.home] = address
            _log.warning(
                f"the combiner {ticket.home} cannot be reached at {address} from here ({why}): workers of groups that "
                "meet there go through the reducer. Let this combiner reach that address, or give the other one a "
                "public_host and public_port that can be reached; workers go directly from their next connection on."
            )

    def _note_reached(self, ticket: WorkerTicket) -> None:
        if self._not_reached.pop(ticket.home, None) is not None:
            _log.info(f"the combiner {ticket.home} is reached at {ticket.host}:{ticket.port} again")


def unreachable(ticket: WorkerTicket, why: str) -> Unavailable:
    return Unavailable(
        "home_unreachable",
        f"the combiner where the group meets cannot be reached from here: {why}",
        fix="Let combiners reach each other's registered addresses, or let workers attach to the home itself.",
        where={"group": ticket.group, "combiner": ticket.home, "address": f"{ticket.host}:{ticket.port}"},
    )
