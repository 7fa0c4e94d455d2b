"""A site (a combiner or a client) as the reducer knows it: its enrolment, its certificate, its token.

Calls block; whoever has an event loop makes them in a thread. Not here: what the site then asks the reducer for.
"""

import logging
import time
from collections.abc import Sequence
from typing import Literal

from fedn.api.client import APIClient
from fedn.network.identity import Identity
from fedn.network.join import JoinString
from fedn.network.tls import fetch_pinned_ca
from fedn.network.tokens import make_assertion
from fedn.protocol.errors import InvalidInput
from fedn.protocol.rest import TokenReply

_LOG = logging.getLogger(__name__)
_NEW_CERTIFICATE_BEFORE_S = 14 * 86400.0
_RENEW_TOKEN_BEFORE_S = 60.0


class Membership:
    """See the module.

    Args:
        identity: open; enrolled here if it is not.
        join: where the reducer is and how to trust it; its secret is needed for enrolments alone.
        hosts: names and addresses that a combiner's certificate must name.
        timeout_s: seconds without an answer until a call is given up.
    """

    def __init__(
        self,
        identity: Identity,
        join: JoinString,
        role: Literal["client", "combiner"],
        *,
        hosts: Sequence[str] = (),
        timeout_s: float,
    ) -> None:
        self._identity = identity
        self._join = join
        self._role: Literal["client", "combiner"] = role
        self._hosts = tuple(hosts)
        self._timeout_s = timeout_s
        self._api: APIClient | None = None
        self._expires_at = 0.0

    @property
    def secure(self) -> bool:
        """Whether the reducer is reached over TLS, by the authority that the join string names."""
        return bool(self._join.ca_fingerprint)

    def enrol(self) -> None:
        """Enrols, unless this site is enrolled already and its certificate lasts.

        Raises:
            Unauthenticated: `wrong_ca`, or the enrolment secret is wrong.
            Conflict: `name_taken`.
            InvalidInput: `secret_missing`.
            Unavailable: the reducer does not answer; try again.
        """
        if self._identity.enrolled and not self._ends_soon():
            return
        if not self._join.secret:
            raise InvalidInput(
                "secret_missing",
                f"this {self._role} is not enrolled, and its settings hold no enrolment secret",
                fix="Start it once with the join string that `fedn token create` prints at the reducer.",
            )
        ca = fetch_pinned_ca(self._join.url, self._join.ca_fingerprint, self._timeout_s) if self.secure else None
        with APIClient(self._join.url, ca=ca, timeout_s=self._timeout_s) as api:
            reply = api.enrol(
                name=self._identity.name,
                role=self._role,
                csr=self._identity.csr(),
                secret=self._join.secret,
                hosts=self._hosts,
            )
        self._identity.save_enrolment(
            federation=reply.federation,
            certificate=reply.certificate.encode(),
            ca=ca or reply.ca.encode(),  # the one that the join string names, whatever the answer says
            token_key=reply.token_key.encode(),
        )
        self.close()
        self.use_token(reply.token, reply.expires_at)
        _LOG.info("enrolled as the %s %s of the federation %s", self._role, self._identity.name, reply.federation)

    def _ends_soon(self) -> bool:
        return bool(self._join.secret) and self._identity.certificate_ends_at < time.time() + _NEW_CERTIFICATE_BEFORE_S

    @property
    def api(self) -> APIClient:
        """The reducer, with a token that lasts. For an enrolled site."""
        if time.time() > self._expires_at - _RENEW_TOKEN_BEFORE_S:
            self.renew()
        return self._opened()

    def renew(self) -> TokenReply:
        """A new token, for the proof that this site has its key."""
        identity = self._identity
        reply = self._opened().renew_token(make_assertion(identity.key_pem, identity.name, identity.federation))
        self.use_token(reply.token, reply.expires_at)
        return reply

    def use_token(self, token: str, expires_at: float) -> None:
        """Goes on with this token until `expires_at` (Unix time in seconds)."""
        self._opened().token, self._expires_at = token, expires_at

    def distrust_token(self) -> None:
        """The reducer refused the token: the next call gets a new one."""
        self._expires_at = 0.0

    def _opened(self) -> APIClient:
        if self._api is None:
            identity, secure = self._identity, self.secure
            self._api = APIClient(
                self._join.url,
                ca=identity.ca_path if secure else None,
                certificate=identity.certificate_path if secure else None,
                key=identity.key_path if secure else None,
                timeout_s=self._timeout_s,
            )
        return self._api

    def close(self) -> None:
        if self._api is not None:
            self._api.close()
            self._api = None
