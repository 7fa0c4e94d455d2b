"""Who a caller is: role tokens, proofs that a site holds its key, and the reducer's signatures.

Role tokens are JSON web tokens signed with Ed25519 by the reducer; everybody else holds only the public key. What a
role may do stands in `access`, not here.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedn.network.private_files import create_or_load
from fedn.protocol.errors import IntegrityError, InvalidInput, Unauthenticated

LEEWAY_S = 30
"""Seconds that two clocks may differ."""
ASSERTION_TTL_S = 60
_MAX_TOKEN_CHARACTERS = 4096
_ALGORITHM = "EdDSA"
_ASSERTION_ALGORITHM = "ES256"

Clock = Callable[[], float]
"""Unix time in seconds."""


class Role(StrEnum):
    ADMIN = "admin"
    """Changes things: sessions, packages, seeds, who takes part. Also the reducer towards a combiner."""
    VIEWER = "viewer"
    """Sees everything, changes nothing."""
    COMBINER = "combiner"
    CLIENT = "client"


class Scope(Enum):
    """What a token opens."""

    ROLE = "what its role may do"
    LINK = "the reducer's links to combiners"
    """Made by the reducer for itself: opens these, and nothing that the role opens."""
    RELAY = "handing workers' streams on to one combiner"
    """Made for one combiner: opens another one's Relay, and nothing that the role opens."""


@dataclass(frozen=True)
class Claims:
    """What a valid token says."""

    subject: str
    """Name of the client, combiner or person."""
    role: Role
    key_id: str
    """`sha256:` of the subject's public key, to which its name is bound; empty for people."""
    expires_at: float
    """Unix time in seconds."""
    token_id: str
    scope: Scope = Scope.ROLE


class TokenIssuer:
    """Makes role tokens. Only the reducer has one.

    Args:
        private_key_pem: the federation's Ed25519 key (`create_or_load_signing_key`).
        federation: issuer and audience of each token.
        clock: Unix time in seconds.
    """

    def __init__(self, private_key_pem: bytes, federation: str, *, clock: Clock = time.time) -> None:
        self._key = private_key(private_key_pem)
        self._federation = federation
        self.clock = clock

    @property
    def public_key_pem(self) -> bytes:
        return _public_pem(self._key.public_key())

    def issue(self, subject: str, role: Role, ttl_s: float, key_id: str = "") -> str:
        """A token that says that its bearer is `subject`, for `ttl_s` seconds."""
        return self._signed(self._federation, subject, role, ttl_s, key_id)

    def issue_link(self, combiner: str, ttl_s: float) -> str:
        """A token with which the reducer dials this combiner (`Scope.LINK`)."""
        return self._signed(_link_audience(self._federation), combiner, Role.ADMIN, ttl_s, "")

    def issue_relay(self, combiner: str, home: str, ttl_s: float, key_id: str) -> str:
        """A token with which workers' streams of `combiner` are handed on to the combiner `home` (`Scope.RELAY`).

        Args:
            key_id: of whoever dials.
        """
        return self._signed(_relay_audience(self._federation, home), combiner, Role.COMBINER, ttl_s, key_id)

    def _signed(self, audience: str, subject: str, role: Role, ttl_s: float, key_id: str) -> str:
        now = self.clock()
        claims = {
            "iss": self._federation,
            "aud": audience,
            "sub": subject,
            "role": role.value,
            "key_id": key_id,
            "iat": now,
            "exp": now + ttl_s,
            "jti": secrets.token_hex(16),
        }
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM)


class TokenVerifier:
    """Checks role tokens. Everybody may have one.

    Args:
        public_key_pem: `TokenIssuer.public_key_pem`.
        federation: the only issuer and audience that counts.
        combiner: name of the combiner that checks: tokens for relaying to it count; empty: none of these does.
        clock: Unix time in seconds.
    """

    def __init__(self, public_key_pem: bytes, federation: str, *, combiner: str = "", clock: Clock = time.time) -> None:
        self._key = public_key(public_key_pem)
        self._federation = federation
        self._scopes = {federation: Scope.ROLE, _link_audience(federation): Scope.LINK}
        if combiner:
            self._scopes[_relay_audience(federation, combiner)] = Scope.RELAY
        self._clock = clock

    def verify(self, token: str) -> Claims:
        """What the token says.

        Raises:
            Unauthenticated: `token_missing` (empty), `token_expired` (more than 30 s ago), `token_bad` (anything else).
        """
        if not token:
            raise Unauthenticated(
                "token_missing",
                "no token was given",
                fix="Send the header `Authorization: Bearer TOKEN`; `fedn token create` makes one for a person.",
            )
        claims = decode_signed(token, self._key, _ALGORITHM, audience=tuple(self._scopes), now=self._clock())
        try:
            role, key_id = Role(claims.get("role", "")), claims.get("key_id", "")
        except ValueError as error:
            raise bad_token("it names no role that is known") from error
        if claims["iss"] != self._federation or not isinstance(key_id, str) or not claims["sub"]:
            raise bad_token("it was made for something else")
        return Claims(claims["sub"], role, key_id, float(claims["exp"]), claims["jti"], self._scopes[claims["aud"]])


def make_assertion(private_key_pem: bytes, name: str, audience: str, *, clock: Clock = time.time) -> str:
    """Proof for one minute that the caller holds the ECDSA P-256 key of `name`; buys a new token after enrolment.

    Args:
        private_key_pem: the site's own key (`tls.new_private_key`).
        name: the site's name, as enrolled.
        audience: the federation.
    """
    now = clock()
    claims = {"iss": name, "sub": name, "aud": audience, "iat": now, "exp": now + ASSERTION_TTL_S}
    return jwt.encode(claims | {"jti": secrets.token_hex(16)}, private_key_pem, algorithm=_ASSERTION_ALGORITHM)


def assertion_subject(assertion: str) -> str:
    """Name that an assertion claims, UNVERIFIED: only good for looking up the key to verify it with.

    Raises:
        Unauthenticated: (`token_bad`) it is no assertion at all.
    """
    try:
        claims = jwt.decode(assertion[:_MAX_TOKEN_CHARACTERS], options={"verify_signature": False})
    except jwt.InvalidTokenError as error:
        raise bad_token("it is not a JSON web token") from error
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise bad_token("it names nobody")
    return subject


def verify_assertion(assertion: str, public_key_pem: bytes, audience: str, *, clock: Clock = time.time) -> str:
    """The name whose key made the assertion.

    It may be used again within its minute: it travels over TLS only, and what it buys goes back to its sender.

    Raises:
        Unauthenticated: `token_expired` or `token_bad`.
    """
    claims = decode_signed(assertion, public_key_pem, _ASSERTION_ALGORITHM, audience=(audience,), now=clock())
    if claims["iss"] != claims["sub"] or claims["exp"] - claims["iat"] > ASSERTION_TTL_S:
        raise bad_token("it claims more than a site may claim for itself")
    return str(claims["sub"])


def create_or_load_signing_key(path: Path) -> bytes:
    """PEM of the Ed25519 key in a file of mode 0600, made where there is none."""
    return create_or_load(path, _new_signing_key)


class Signer:
    """Signs with the Ed25519 key in a file, which is made where there is none. Seals the trail.

    Raises:
        IntegrityError: (`bad_signing_key`) the file holds no such key.
    """

    def __init__(self, path: Path) -> None:
        self._key = private_key(create_or_load_signing_key(path))

    @cached_property
    def key_id(self) -> str:
        """`sha256:` of the raw public key."""
        return signing_key_id(self.public_key_pem)

    @cached_property
    def public_key_pem(self) -> bytes:
        return _public_pem(self._key.public_key())

    def sign(self, data: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(data)


def signing_key_id(public_key_pem: bytes) -> str:
    """`sha256:` of the raw Ed25519 public key in a PEM: what trail entries name as `key_id`."""
    return "sha256:" + hashlib.sha256(public_key(public_key_pem).public_bytes_raw()).hexdigest()


def verify_signature(public_key_pem: bytes, signature: bytes, data: bytes) -> None:
    """Returns where `signature` is that of `data`. IntegrityError (`bad_signature`) where it is not."""
    try:
        public_key(public_key_pem).verify(signature, data)
    except InvalidSignature as error:
        raise IntegrityError(
            "bad_signature",
            "a signature does not fit what it signs, or was made with another key",
            fix="Compare the key with the reducer's (GET /api/v1/trail/key); if it is the same, the data was changed.",
        ) from error


def _link_audience(federation: str) -> str:
    # A combiner that is shown such a token gets nothing with it at the reducer.
    return f"{federation}/link"


def _relay_audience(federation: str, home: str) -> str:
    # One combiner that is shown such a token gets nothing with it at another one.
    return f"{federation}/relay/{home}"


def decode_signed(token: str, key: Any, algorithm: str, *, audience: tuple[str, ...], now: float) -> dict[str, Any]:
    """Claims of a token whose signature, audience (one of those) and times are right."""
    if len(token) > _MAX_TOKEN_CHARACTERS:
        raise bad_token("it is too long")
    # Times are checked below, against the caller's clock and with a code of their own for `expired`.
    options: Any = {
        "require": ["iss", "aud", "sub", "jti", "iat", "exp"],
        "verify_exp": False,
        "verify_iat": False,
        "verify_nbf": False,
    }
    try:
        claims = jwt.decode(token, key, algorithms=[algorithm], audience=audience, options=options)
    except jwt.InvalidAudienceError as error:
        raise bad_token("it is meant for another federation, or another combiner") from error
    except jwt.InvalidTokenError as error:
        raise bad_token("its signature or form is wrong") from error
    if not all(isinstance(claims[name], str) for name in ("iss", "aud", "sub", "jti")):
        raise bad_token("its form is wrong")
    if not all(_is_time(claims[name]) for name in ("iat", "exp")):
        raise bad_token("its times are not numbers")
    if claims["iat"] > now + LEEWAY_S:
        raise bad_token("it was made in the future; compare the clocks")
    if claims["exp"] <= now - LEEWAY_S:
        raise Unauthenticated(
            "token_expired",
            f"the token expired {now - claims['exp']:.0f} seconds ago",
            fix="Get a new one; if it was fresh, compare the clocks of the two machines.",
        )
    return claims


def _is_time(value: object) -> bool:
    # The bounds refuse NaN and infinity, which some JSON readers let through.
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1 << 40


def bad_token(why: str) -> Unauthenticated:
    return Unauthenticated(
        "token_bad", f"the token is not valid: {why}", fix="Get a new one from the reducer of this federation."
    )


def _new_signing_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def private_key(pem: bytes) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _bad_key("cannot be read") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _bad_key("is not an Ed25519 key")
    return key


def _bad_key(what: str) -> IntegrityError:
    return IntegrityError(
        "bad_signing_key",
        f"the federation's signing key {what}",
        fix="Restore the key file from a backup: with another key the trail so far cannot be continued.",
    )


def public_key(pem: bytes) -> Ed25519PublicKey:
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInput("bad_public_key", "the public key cannot be read as PEM", fix="Fetch it again.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidInput("bad_public_key", "the public key is not an Ed25519 key", fix="Fetch it again.")
    return key


def _public_pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
