"""Who belongs to the federation: names bound to keys, their certificates, and tokens for sites and people.

A site's private key stays at the site: what comes in is a signing request, what goes out a certificate and a token.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from fedn.network.tls import CertificateAuthority, public_key_id, public_key_pem
from fedn.network.tokens import Claims, Role, TokenIssuer, TokenVerifier, assertion_subject, verify_assertion
from fedn.protocol.errors import Conflict, NotFound, Unauthenticated
from fedn.protocol.names import check_name
from fedn.protocol.rest import EnrolReply, EnrolRequest, TokenReply
from fedn.stores.base import StateStore

SITES = "sites"
_CERTIFICATE_DAYS = 825
_SITE_ROLES = (Role.CLIENT, Role.COMBINER)


@dataclass(frozen=True)
class Site:
    """An enrolled client or combiner."""

    name: str
    role: Role
    key_id: str
    public_key: str
    """PEM."""
    enrolled_at: float
    """Unix time in seconds."""

    def document(self) -> dict[str, str | float]:
        return {
            "name": self.name,
            "role": self.role.value,
            "key_id": self.key_id,
            "public_key": self.public_key,
            "enrolled_at": self.enrolled_at,
        }


class Enrolment:
    """Thread-safe. `start` reads who is enrolled.

    Args:
        ttl_s: life of a token.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        state: StateStore,
        authority: CertificateAuthority,
        tokens: TokenIssuer,
        *,
        federation: str,
        ttl_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.federation = federation
        self._state = state
        self._authority = authority
        self._tokens = tokens
        self._verifier = TokenVerifier(tokens.public_key_pem, federation, clock=clock)
        self._token_key = tokens.public_key_pem.decode("ascii")
        self._ttl_s = ttl_s
        self._clock = clock
        self._writing = threading.Lock()
        """Orders what is written; `_lock` is never held while a store is waited for."""
        self._lock = threading.Lock()
        self._sites: dict[tuple[Role, str], Site] = {}
        self._counts: Counter[Role] = Counter()
        self._last_seen: dict[tuple[Role, str], float] = {}

    def start(self) -> None:
        for document in self._state.find(SITES, order_by="name"):
            site = Site(**{**document, "role": Role(document["role"])})
            self._sites[site.role, site.name] = site
            self._counts[site.role] += 1

    # Sites

    def enrol(self, request: EnrolRequest) -> EnrolReply:
        """Binds a name to a key. The same key may enrol again, for a new certificate.

        Raises:
            Conflict: (`name_taken`) the name is bound to another key.
            InvalidInput: `bad_name`, `bad_csr`, `bad_host`, `hosts_not_allowed`.
        """
        role = Role(request.role)
        name = check_name(request.name, what=role.value)
        csr = request.csr.encode()
        certificate = self._authority.sign(
            csr, name=name, role=role.value, hosts=request.hosts, valid_days=_CERTIFICATE_DAYS
        )
        site = self._bind(name, role, csr)
        expires_at = self._clock() + self._ttl_s
        return EnrolReply(
            name=name,
            role=role.value,
            federation=self.federation,
            certificate=certificate.decode("ascii"),
            ca=self.ca_pem,
            token=self._tokens.issue(name, role, self._ttl_s, site.key_id),
            expires_at=expires_at,
            token_key=self._token_key,
        )

    def _bind(self, name: str, role: Role, csr: bytes) -> Site:
        key_id = public_key_id(csr)
        with self._writing:
            bound = self._sites.get((role, name))
            if bound is not None and bound.key_id != key_id:
                raise Conflict(
                    "name_taken",
                    f"another {role.value} has enrolled under this name, with another key",
                    fix=f"Choose another name, or let an admin free it: DELETE /api/v1/{role.value}s/<name>.",
                    where={role.value: name},
                )
            if bound is None:
                bound = Site(name, role, key_id, public_key_pem(csr).decode("ascii"), self._clock())
                self._state.put(SITES, f"{role.value}/{name}", bound.document())
                with self._lock:
                    self._sites[role, name] = bound
                    self._counts[role] += 1
            return bound

    def sites(self, role: Role) -> list[Site]:
        """By name."""
        with self._lock:
            return sorted((site for site in self._sites.values() if site.role is role), key=lambda site: site.name)

    def count(self, role: Role) -> int:
        """Number of sites."""
        with self._lock:
            return self._counts[role]

    def site(self, role: Role, name: str) -> Site:
        """NotFound (`no_such_client`, `no_such_combiner`)."""
        with self._lock:
            found = self._sites.get((role, name))
        if found is None:
            raise NotFound(f"no_such_{role.value}", f"there is no such {role.value}", where={role.value: name})
        return found

    def last_seen(self, role: Role, name: str) -> float:
        """Unix time of the site's last call with a token; 0 where there was none since the reducer started."""
        return self._last_seen.get((role, name), 0.0)

    def forget(self, role: Role, name: str) -> None:
        """Frees a name. The site's tokens no longer count here; at a combiner, they end with their time.

        NotFound where there is no such site.
        """
        with self._writing:
            self.site(role, name)
            self._state.delete(SITES, f"{role.value}/{name}")
            with self._lock:
                del self._sites[role, name]
                self._counts[role] -= 1
                self._last_seen.pop((role, name), None)

    # Tokens

    @property
    def ca_pem(self) -> str:
        return self._authority.certificate_pem.decode("ascii")

    @property
    def ca_fingerprint(self) -> str:
        return self._authority.fingerprint

    def verify(self, token: str) -> Claims:
        """What a token says; that of a site counts only while its name is bound to its key.

        Raises:
            Unauthenticated: `token_missing`, `token_expired`, `token_bad`, `site_forgotten`.
        """
        claims = self._verifier.verify(token)
        if claims.role in _SITE_ROLES:
            place = (claims.role, claims.subject)
            with self._lock:
                bound = self._sites.get(place)
                if bound is None or bound.key_id != claims.key_id:
                    raise _forgotten(claims.role, claims.subject)
                self._last_seen[place] = self._clock()
        return claims

    def renew(self, assertion: str) -> TokenReply:
        """A new token for a site that proves its key.

        Raises:
            Unauthenticated: `token_bad`, `token_expired`, `site_forgotten` (nobody is enrolled under that name).
        """
        name = assertion_subject(assertion)
        with self._lock:
            candidates = [self._sites[role, name] for role in _SITE_ROLES if (role, name) in self._sites]
        if not candidates:
            raise _forgotten(Role.CLIENT, name)
        # A client and a combiner may share a name; their keys tell them apart.
        for site in candidates[:-1]:
            try:
                return self._renewed(assertion, site)
            except Unauthenticated:
                continue
        return self._renewed(assertion, candidates[-1])

    def _renewed(self, assertion: str, site: Site) -> TokenReply:
        verify_assertion(assertion, site.public_key.encode(), self.federation, clock=self._clock)
        return self._reply(site.name, site.role, self._ttl_s, site.key_id)

    def person_token(self, role: Role, *, ttl_s: float | None = None) -> TokenReply:
        """A token for whoever proved the admin secret; `role` is admin or viewer."""
        return self._reply(role.value, role, ttl_s or self._ttl_s)

    def client_token(self, claims: Claims) -> TokenReply:
        """A fresh token for the bearer of another."""
        return self._reply(claims.subject, claims.role, self._ttl_s, claims.key_id)

    def _reply(self, name: str, role: Role, ttl_s: float, key_id: str = "") -> TokenReply:
        return TokenReply(
            token=self._tokens.issue(name, role, ttl_s, key_id),
            expires_at=self._clock() + ttl_s,
            role=role.value,
            name=name,
            token_key=self._token_key,
        )


def _forgotten(role: Role, name: str) -> Unauthenticated:
    return Unauthenticated(
        "site_forgotten",
        f"no {role.value} of this name is enrolled with this key",
        fix="Enrol again with a join string; if the name is taken, choose another.",
        where={role.value: name},
    )
