"""The client's talk with the reducer: enrolment, tokens, assignment. Nothing of the stream to a combiner."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from fedn.api.membership import Membership
from fedn.network.dialing import Endpoint
from fedn.network.identity import Identity
from fedn.network.join import JoinString
from fedn.protocol.errors import Unauthenticated
from fedn.protocol.rest import Assignment

_TIMEOUT_S = 20.0


class Site:
    """This site as the reducer knows it. Calls block in threads, never the loop; each raises the FednError that it met.

    Args:
        identity: open; enrolled here if it is not.
        join: where the reducer is and how to trust it; its secret is needed for enrolments alone.
    """

    def __init__(self, identity: Identity, join: JoinString) -> None:
        self._identity = identity
        self._membership = Membership(identity, join, "client", timeout_s=_TIMEOUT_S)

    async def enrol(self) -> None:
        """Enrols, unless this site is enrolled already and its certificate lasts; raises as `Membership.enrol`."""
        await asyncio.to_thread(self._membership.enrol)

    async def assign(self, preferred: str, avoid: Sequence[str]) -> Assignment:
        """Asks where to attach."""
        return await asyncio.to_thread(self._assign, preferred, avoid)

    async def renew_token(self) -> tuple[str, float]:
        """A new token, and when it expires (Unix time in seconds)."""
        reply = await asyncio.to_thread(self._membership.renew)
        return reply.token, reply.expires_at

    async def download_package(self, package_id: str, target: Path) -> None:
        """Writes a compute package to a file, checked by its digest."""
        await asyncio.to_thread(lambda: self._membership.api.download_package(package_id, target))

    def endpoint(self, assignment: Assignment) -> Endpoint:
        """The combiner of an assignment, and how this site shows who it is."""
        # Whoever joined over TLS trusts the authority of the join string, whatever an assignment says.
        ca = self._identity.ca_pem if self._membership.secure else assignment.ca.encode()
        return Endpoint(
            combiner=assignment.combiner,
            host=assignment.host,
            port=assignment.port,
            token=assignment.token,
            ca=ca,
            key=self._identity.key_pem if ca else None,
            certificate=self._identity.certificate_pem if ca else None,
        )

    def close(self) -> None:
        self._membership.close()

    def _assign(self, preferred: str, avoid: Sequence[str]) -> Assignment:
        try:
            assignment = self._membership.api.assign(preferred=preferred, avoid=avoid)
        except Unauthenticated:
            self._membership.renew()  # clocks may differ, or the reducer has a new signing key
            assignment = self._membership.api.assign(preferred=preferred, avoid=avoid)
        if assignment.token:
            self._membership.use_token(assignment.token, assignment.expires_at)
        return assignment
