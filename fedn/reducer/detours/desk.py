"""What a combiner may ask about a worker that is attached to it and whose group meets at another combiner."""

import logging
from typing import Protocol

from fedn.network.dialing import Endpoint, OwnTls
from fedn.network.tickets import TicketVerifier, WorkerTicket
from fedn.network.tls import public_key_id
from fedn.network.tokens import Claims, TokenIssuer
from fedn.protocol.errors import Forbidden, NotFound
from fedn.protocol.rest import DetourRequest, RelayTokenReply, WorkerGroupView
from fedn.reducer.detours.stream import Detour
from fedn.reducer.events import EventLog
from fedn.reducer.registry import CombinerRecord, Registry
from fedn.reducer.worker_groups import WorkerGroups

log = logging.getLogger(__name__)

TOKEN_TTL_S = 600.0
"""Of a token for relaying, at the most. It opens streams; one that is open ends with the worker's ticket."""
_OWN_TOKEN_TTL_S = 60.0
"""Of those that the reducer dials with: each is for one stream, at once."""


class Streams(Protocol):
    """`Detours`."""

    def begin(self, detour: Detour, reason: str) -> None: ...


class RelayDesk:
    """Thread-safe.

    Args:
        tls: None: no TLS.
        ttl_s: life of a token for relaying, as far as that is below `TOKEN_TTL_S`.
    """

    def __init__(
        self,
        groups: WorkerGroups,
        registry: Registry,
        detours: Streams,
        tickets: TicketVerifier,
        tokens: TokenIssuer,
        *,
        tls: OwnTls | None,
        ttl_s: float,
    ) -> None:
        self._groups = groups
        self._registry = registry
        self._detours = detours
        self._tickets = tickets
        self._tokens = tokens
        self._tls = tls
        self._ttl_s = min(ttl_s, TOKEN_TTL_S)

    def token(self, caller: Claims, group: str, ticket: str) -> RelayTokenReply:
        """A token for relaying from the calling combiner to the group's home.

        Raises:
            Forbidden: (`not_attached_there`) the ticket is not of a worker at this combiner and in this group.
            NotFound: `no_such_worker_group`; (`not_home`) the group meets elsewhere by now; `no_such_combiner`.
            Unauthenticated: the ticket is not valid.
        """
        home = self._home(caller, group, ticket)
        token = self._tokens.issue_relay(caller.subject, home.name, self._ttl_s, caller.key_id)
        return RelayTokenReply(token=token, expires_at=self._tokens.clock() + self._ttl_s)

    def detour(self, caller: Claims, group: str, wanted: DetourRequest) -> None:
        """Begins to fetch a worker's stream from the calling combiner, and to hand it on to the group's home.

        Raises:
            LimitExceeded: (`too_many_detours`).
            As `token`.
        """
        home = self._home(caller, group, wanted.ticket)
        near = self._registry.get(caller.subject)
        key_id = "" if self._tls is None else public_key_id(self._tls.cert_pem)
        detour = Detour(
            near=self._endpoint(near, self._tokens.issue_link(near.name, _OWN_TOKEN_TTL_S)),
            far=self._endpoint(home, self._tokens.issue_relay(near.name, home.name, _OWN_TOKEN_TTL_S, key_id)),
            call=wanted.call,
        )
        self._detours.begin(detour, " ".join(wanted.reason.split()))  # one line, in logs too

    def _home(self, caller: Claims, group: str, text: str) -> CombinerRecord:
        ticket, view = self._tickets.verify(text), self._groups.get(group)
        if ticket.entrance != caller.subject or not _is_member(ticket, view):
            raise Forbidden(
                "not_attached_there",
                f"the ticket is for no worker of this group at the combiner {caller.subject!r}",
                fix="The worker gets another one when it asks again where to attach.",
                where={"group": group, "combiner": caller.subject, "client": ticket.client},
            )
        if view.home != ticket.home:
            raise NotFound(
                "not_home",
                f"the group is at home at the combiner {view.home!r}",
                fix="Ask the reducer again where it is.",
                where={"group": group, "combiner": ticket.home},
            )
        return self._registry.get(view.home)

    def _endpoint(self, record: CombinerRecord, token: str) -> Endpoint:
        tls = self._tls
        return Endpoint(
            combiner=record.name,
            host=record.host,
            port=record.port,
            token=token,
            ca=tls.ca_pem if tls else b"",
            key=tls.key_pem if tls else None,
            certificate=tls.cert_pem if tls else None,
        )


def _is_member(ticket: WorkerTicket, group: WorkerGroupView) -> bool:
    members = {member.rank: member.client for member in group.members}
    return ticket.group == group.name and members.get(ticket.rank) == ticket.client


def tell_of_detour(events: EventLog, detour: Detour, reason: str) -> None:
    """Publishes, and logs, that a combiner's workers go through the reducer, and what to do about it."""
    near, far = detour.near, detour.far
    log.warning(
        "workers at the combiner %s reach the combiner %s through the reducer, since %s cannot reach %s: %s. Let it "
        "reach that address, or give %s a public_host and public_port that can be reached.",
        *(near.combiner, far.combiner, near.combiner, far.address, reason, far.combiner),
    )
    events.publish(
        "worker_detour",
        combiner=near.combiner,
        home=far.combiner,
        address=far.address,
        reason=reason,
        fix=f"Let {near.combiner} reach {far.address}, or register an address of {far.combiner} that it can reach.",
    )
