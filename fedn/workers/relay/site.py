"""A worker that is a client of a federation: enrolled with a key of its own, it asks the reducer for its place."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedn.api.membership import Membership
from fedn.network.dialing import Endpoint
from fedn.network.identity import Identity
from fedn.network.join import JoinString
from fedn.network.tokens import Role
from fedn.protocol.errors import InvalidInput, Unauthenticated, Unavailable
from fedn.protocol.rest import WorkerAssignment
from fedn.workers.relay.desk import Desk, Place

GROUP = "FEDN_WORKER_GROUP"
JOIN = "FEDN_WORKER_JOIN"
"""A join string; without its secret where the worker has enrolled before."""
NAME = "FEDN_WORKER_NAME"
"""Of the client that the worker is."""
DATA_DIR = "FEDN_WORKER_DATA_DIR"
"""Of that client: its key and certificate."""
RANK = "FEDN_WORKER_RANK"
"""Optional: the rank to ask for."""
COMBINER = "FEDN_WORKER_COMBINER"
"""Optional: where to attach, instead of the group's home."""

_TIMEOUT_S = 20.0


class SiteDesk:
    """Gives the place of one client in one group. Thread-safe.

    Args:
        identity: open; enrolled here if it is not, and closed with this.
        join: where the reducer is and how to trust it; its secret is needed for enrolments alone.
        rank: to ask for; None: as the reducer says.
        combiner: where to attach; empty: at the group's home.
    """

    def __init__(
        self, identity: Identity, join: JoinString, group: str, *, rank: int | None = None, combiner: str = ""
    ) -> None:
        self._identity = identity
        self._group, self._rank, self._combiner = group, rank, combiner
        self._membership = Membership(identity, join, "client", timeout_s=_TIMEOUT_S)
        self._lock = threading.Lock()

    def join(self, avoid: Sequence[str]) -> Place:
        with self._lock:
            found = self._joined(avoid)
        if found.status == "retry":
            raise Unavailable(found.code, found.reason, where={"group": self._group})
        return Place(self._endpoint(found), found.ticket, found.group, found.rank, found.size, found.expires_at)

    def renew(self) -> tuple[str, float]:
        with self._lock:
            reply = self._membership.renew()
        return reply.token, reply.expires_at

    def close(self) -> None:
        with self._lock:
            self._membership.close()
            self._identity.close()

    def _joined(self, avoid: Sequence[str]) -> WorkerAssignment:
        self._membership.enrol()
        try:
            found = self._ask(avoid)
        except Unauthenticated:
            self._membership.renew()  # clocks may differ, or the reducer has a new signing key
            found = self._ask(avoid)
        if found.status == "assigned":
            self._membership.use_token(found.token, found.expires_at)
        return found

    def _ask(self, avoid: Sequence[str]) -> WorkerAssignment:
        return self._membership.api.join_worker_group(
            self._group, self._rank, combiner=self._combiner, avoid=tuple(avoid)
        )

    def _endpoint(self, found: WorkerAssignment) -> Endpoint:
        # Whoever joined over TLS trusts the authority of the join string, whatever an answer says.
        ca = self._identity.ca_pem if self._membership.secure else found.ca.encode()
        return Endpoint(
            combiner=found.combiner,
            host=found.host,
            port=found.port,
            token=found.token,
            ca=ca,
            key=self._identity.key_pem if ca else None,
            certificate=self._identity.certificate_pem if ca else None,
        )


def desk_of(environment: Mapping[str, str]) -> Desk:
    """The desk of the worker that these variables describe.

    Raises:
        InvalidInput: (`no_worker_backend`) they do not.
        Conflict: (`data_dir_in_use`) another process is this client.
    """
    try:
        group, name = environment[GROUP], environment[NAME]
        join, folder = JoinString.parse(environment[JOIN]), Path(environment[DATA_DIR])
        rank = int(environment[RANK]) if RANK in environment else None
    except (KeyError, ValueError) as error:
        raise InvalidInput(
            "no_worker_backend",
            f"This process is not described as a worker of a group: {type(error).__name__} {error}",
            fix=f"Start it with `fedn worker run --backend grpc`, or set {GROUP}, {JOIN}, {NAME} and {DATA_DIR}.",
        ) from error
    identity = Identity(folder, name, Role.CLIENT)
    return SiteDesk(identity, join, group, rank=rank, combiner=environment.get(COMBINER, ""))
