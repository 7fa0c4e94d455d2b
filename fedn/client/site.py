"""The client's talk with the reducer: enrolment, tokens, assignment. Nothing of the stream to a combiner."""

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from fedn.api.client import APIClient
from fedn.client.stream import Endpoint
from fedn.network.identity import Identity
from fedn.network.join import JoinString
from fedn.network.tls import fetch_pinned_ca
from fedn.network.tokens import make_assertion
from fedn.protocol.errors import InvalidInput, Unauthenticated
from fedn.protocol.rest import Assignment

_LOG = logging.getLogger(__name__)
_TIMEOUT_S = 20.0
_RENEW_BEFORE_S = 30.0
_NEW_CERTIFICATE_BEFORE_S = 7 * 86400.0


class Site:
    """This site as the reducer knows it. Calls block in threads, never the loop; each raises the FednError that it met.

    Args:
        identity: open; enrolled here if it is not.
        join: where the reducer is and how to trust it; its secret is needed for the first enrolment alone.
    """

    def __init__(self, identity: Identity, join: JoinString) -> None:
        self._identity = identity
        self._join = join
        self._api: APIClient | None = None
        self._expires_at = 0.0

    async def enrol(self) -> None:
        """Enrols, unless this site is enrolled already; again when its certificate comes to its end.

        Raises:
            Unauthenticated: `wrong_ca`, or the enrolment secret is wrong.
            Conflict: `name_taken`.
            InvalidInput: `secret_missing`.
            Unavailable: the reducer does not answer; try again.
        """
        if not self._identity.enrolled or self._ends_soon():
            await asyncio.to_thread(self._enrol)
        elif self._api is None:
            ca = self._identity.ca_path if self._join.ca_fingerprint else None
            self._api = self._connect(ca)

    async def assign(self, preferred: str, avoid: Sequence[str]) -> Assignment:
        """Asks where to attach."""
        return await asyncio.to_thread(self._assign, preferred, avoid)

    async def renew_token(self) -> tuple[str, float]:
        """A new token, and when it expires (Unix time in seconds)."""
        return await asyncio.to_thread(self._renew)

    async def download_package(self, package_id: str, target: Path) -> None:
        """Writes a compute package to a file, checked by its digest."""
        await asyncio.to_thread(self._opened().download_package, package_id, target)

    def endpoint(self, assignment: Assignment) -> Endpoint:
        """The combiner of an assignment, and how this site shows who it is."""
        # Whoever joined over TLS trusts the authority of the join string, whatever an assignment says.
        ca = self._identity.ca_pem if self._join.ca_fingerprint else assignment.ca.encode()
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
        if self._api is not None:
            self._api.close()

    def _ends_soon(self) -> bool:
        return bool(self._join.secret) and self._identity.certificate_ends_at < time.time() + _NEW_CERTIFICATE_BEFORE_S

    def _enrol(self) -> None:
        if not self._join.secret:
            raise InvalidInput(
                "secret_missing",
                "this site is not enrolled, and its settings hold no enrolment secret",
                fix="Start it once with the join string that `fedn token create` prints at the reducer.",
            )
        ca = None
        if self._join.ca_fingerprint:
            ca = fetch_pinned_ca(self._join.url, self._join.ca_fingerprint, _TIMEOUT_S)
        with APIClient(self._join.url, ca=ca, timeout_s=_TIMEOUT_S) as api:
            reply = api.enrol(
                name=self._identity.name, role="client", csr=self._identity.csr(), secret=self._join.secret
            )
        self._identity.save_enrolment(
            federation=reply.federation,
            certificate=reply.certificate.encode(),
            ca=ca or reply.ca.encode(),  # the one that the join string names, whatever the answer says
            token_key=reply.token_key.encode(),
        )
        self._api = self._connect(self._identity.ca_path if ca else None)
        self._api.token, self._expires_at = reply.token, reply.expires_at
        _LOG.info("enrolled as the client %s of the federation %s", self._identity.name, reply.federation)

    def _connect(self, ca: Path | None) -> APIClient:
        if ca is None:
            return APIClient(self._join.url, timeout_s=_TIMEOUT_S)
        return APIClient(
            self._join.url,
            ca=ca,
            certificate=self._identity.certificate_path,
            key=self._identity.key_path,
            timeout_s=_TIMEOUT_S,
        )

    def _assign(self, preferred: str, avoid: Sequence[str]) -> Assignment:
        api = self._opened()
        if time.time() > self._expires_at - _RENEW_BEFORE_S:
            self._renew()
        try:
            assignment = api.assign(preferred=preferred, avoid=avoid)
        except Unauthenticated:
            self._renew()  # clocks may differ, or the reducer has a new signing key
            assignment = api.assign(preferred=preferred, avoid=avoid)
        if assignment.token:
            api.token, self._expires_at = assignment.token, assignment.expires_at
        return assignment

    def _renew(self) -> tuple[str, float]:
        api = self._opened()
        reply = api.renew_token(make_assertion(self._identity.key_pem, self._identity.name, self._identity.federation))
        api.token, self._expires_at = reply.token, reply.expires_at
        return reply.token, reply.expires_at

    def _opened(self) -> APIClient:
        if self._api is None:
            raise RuntimeError("enrol first")
        return self._api
