"""Role tokens, assertions and signatures: what counts, and everything that must not."""

import base64
import json
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fedn.network import tls
from fedn.network.tokens import (
    Claims,
    Role,
    Scope,
    Signer,
    TokenIssuer,
    TokenVerifier,
    assertion_subject,
    create_or_load_signing_key,
    make_assertion,
    signing_key_id,
    verify_assertion,
    verify_signature,
)
from fedn.protocol.errors import IntegrityError, InvalidInput, Unauthenticated

NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def key(tmp_path: Path) -> bytes:
    return create_or_load_signing_key(tmp_path / "token.key")


@pytest.fixture
def issuer(key: bytes, clock: Clock) -> TokenIssuer:
    return TokenIssuer(key, "f", clock=clock)


@pytest.fixture
def verifier(issuer: TokenIssuer, clock: Clock) -> TokenVerifier:
    return TokenVerifier(issuer.public_key_pem, "f", clock=clock)


@pytest.mark.parametrize("role", Role)
def test_token_says_who_and_until_when(issuer: TokenIssuer, verifier: TokenVerifier, role: Role) -> None:
    claims = verifier.verify(issuer.issue("Ω 1", role, 60, key_id="sha256:1"))
    assert claims == Claims("Ω 1", role, "sha256:1", NOW + 60, claims.token_id)
    assert verifier.verify(issuer.issue("Ω 1", role, 60)).token_id != claims.token_id


def test_tokens_for_links_and_for_relaying_are_told_from_those_of_the_same_role(
    key: bytes, clock: Clock, verifier: TokenVerifier
) -> None:
    issuer = TokenIssuer(key, "f", clock=clock)
    assert verifier.verify(issuer.issue("a", Role.ADMIN, 60)).scope is Scope.ROLE
    link = verifier.verify(issuer.issue_link("a", 60))
    assert (link.subject, link.role, link.scope) == ("a", Role.ADMIN, Scope.LINK)
    relay = issuer.issue_relay("a", "home", 60, "sha256:1")
    claims = TokenVerifier(issuer.public_key_pem, "f", combiner="home", clock=clock).verify(relay)
    assert (claims.subject, claims.role, claims.key_id, claims.scope) == ("a", Role.COMBINER, "sha256:1", Scope.RELAY)
    another = TokenVerifier(issuer.public_key_pem, "f", combiner="another", clock=clock)
    for other in (verifier, another):
        with pytest.raises(Unauthenticated, match="token_bad"):
            other.verify(relay)


def test_token_expires_after_its_time_and_the_leeway(
    issuer: TokenIssuer, verifier: TokenVerifier, clock: Clock
) -> None:
    token = issuer.issue("a", Role.CLIENT, 60)
    clock.now = NOW + 89
    verifier.verify(token)
    clock.now = NOW + 90
    with pytest.raises(Unauthenticated, match="token_expired"):
        verifier.verify(token)


def test_token_made_in_the_future_is_refused(issuer: TokenIssuer, verifier: TokenVerifier, clock: Clock) -> None:
    token = issuer.issue("a", Role.CLIENT, 60)
    clock.now = NOW - 31
    with pytest.raises(Unauthenticated, match="token_bad"):
        verifier.verify(token)


def test_missing_token_is_told_apart(verifier: TokenVerifier) -> None:
    with pytest.raises(Unauthenticated, match="token_missing"):
        verifier.verify("")


def test_token_of_another_federation_or_key_is_refused(
    issuer: TokenIssuer, verifier: TokenVerifier, key: bytes, tmp_path: Path, clock: Clock
) -> None:
    other_key = create_or_load_signing_key(tmp_path / "other.key")
    for token in (
        TokenIssuer(key, "g", clock=clock).issue("a", Role.ADMIN, 60),
        TokenIssuer(other_key, "f", clock=clock).issue("a", Role.ADMIN, 60),
        make_assertion(tls.new_private_key(), "a", "f", clock=clock),
    ):
        with pytest.raises(Unauthenticated, match="token_bad"):
            verifier.verify(token)


def forge(claims: dict[str, object], key: bytes, algorithm: str = "EdDSA") -> str:
    return jwt.encode(claims, load_pem_private_key(key, None), algorithm=algorithm)  # type: ignore[arg-type]


GOOD = {"iss": "f", "aud": "f", "sub": "a", "role": "admin", "key_id": "", "iat": NOW, "exp": NOW + 60, "jti": "1"}


@pytest.mark.parametrize(
    "change",
    [
        {"role": "root"},
        {"role": None},
        {"role": ["admin"]},
        {"role": {"admin": 1}},
        {"key_id": 5},
        {"sub": ""},
        {"exp": "soon"},
        {"exp": True},
        {"exp": 1e300},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"iat": None},
        {"jti": 1},
        {"iss": "g"},
        {"aud": ["g"]},
        {"aud": 3},
    ],
)
def test_well_signed_nonsense_is_refused(verifier: TokenVerifier, key: bytes, change: dict[str, object]) -> None:
    verifier.verify(forge(GOOD, key))
    with pytest.raises(Unauthenticated, match="token_bad"):
        verifier.verify(forge({**GOOD, **change}, key))


@pytest.mark.parametrize("missing", ["iss", "aud", "sub", "role", "iat", "exp", "jti"])
def test_token_that_lacks_a_claim_is_refused(verifier: TokenVerifier, key: bytes, missing: str) -> None:
    with pytest.raises(Unauthenticated, match="token_bad"):
        verifier.verify(forge({name: value for name, value in GOOD.items() if name != missing}, key))


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_token_without_a_signature_or_signed_with_the_public_key_is_refused(
    issuer: TokenIssuer, verifier: TokenVerifier
) -> None:
    unsigned = f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{encoded(GOOD)}."
    header, body, signature = issuer.issue("a", Role.VIEWER, 60).split(".")
    promoted = f"{header}.{encoded(GOOD)}.{signature}"
    confused = f"{encoded({'alg': 'HS256', 'typ': 'JWT'})}.{body}.{signature}"
    for token in (unsigned, promoted, confused, "a.b.c", ".", "x" * 10_000, "é", f"{header}.{body}"):
        with pytest.raises(Unauthenticated, match="token_bad"):
            verifier.verify(token)


def test_assertion_proves_whose_key_it_is_for_a_minute(clock: Clock) -> None:
    key = tls.new_private_key()
    public = tls.public_key_pem(key)
    assertion = make_assertion(key, "c1", "f", clock=clock)
    assert assertion_subject(assertion) == "c1"
    assert verify_assertion(assertion, public, "f", clock=clock) == "c1"
    for public_key, audience in ((tls.public_key_pem(tls.new_private_key()), "f"), (public, "g")):
        with pytest.raises(Unauthenticated, match="token_bad"):
            verify_assertion(assertion, public_key, audience, clock=clock)
    clock.now = NOW + 90
    with pytest.raises(Unauthenticated, match="token_expired"):
        verify_assertion(assertion, public, "f", clock=clock)


def test_assertion_that_claims_to_live_long_or_for_another_is_refused(clock: Clock) -> None:
    key = tls.new_private_key()
    good = {"iss": "c1", "sub": "c1", "aud": "f", "iat": NOW, "exp": NOW + 60, "jti": "1"}
    for change in ({"exp": NOW + 3600}, {"iss": "c2"}):
        with pytest.raises(Unauthenticated, match="token_bad"):
            verify_assertion(forge({**good, **change}, key, "ES256"), tls.public_key_pem(key), "f", clock=clock)


@pytest.mark.parametrize("text", ["", "x", "a.b.c", encoded({}) + "." + encoded({}) + "."])
def test_rubbish_is_no_assertion(text: str) -> None:
    with pytest.raises(Unauthenticated, match="token_bad"):
        assertion_subject(text)


def test_signature_holds_for_what_was_signed_and_nothing_else(tmp_path: Path) -> None:
    signer = Signer(tmp_path / "trail.key")
    signature = signer.sign(b"hash")
    verify_signature(signer.public_key_pem, signature, b"hash")
    other = Signer(tmp_path / "other.key")
    for public, signed, data in (
        (signer.public_key_pem, signature, b"hash2"),
        (signer.public_key_pem, b"", b"hash"),
        (other.public_key_pem, signature, b"hash"),
    ):
        with pytest.raises(IntegrityError, match="bad_signature"):
            verify_signature(public, signed, data)


def test_signing_key_is_kept_privately_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "trail.key"
    first, again = Signer(path), Signer(path)
    assert first.key_id == again.key_id == signing_key_id(first.public_key_pem)
    assert path.stat().st_mode & 0o777 == 0o600


def test_key_that_is_none_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    for content in (b"rubbish", tls.new_private_key()):
        with pytest.raises(IntegrityError, match="bad_signing_key"):
            TokenIssuer(content, "f")
        with pytest.raises(InvalidInput, match="bad_public_key"):
            TokenVerifier(content, "f")
    with pytest.raises(InvalidInput, match="bad_public_key"):
        TokenVerifier(tls.public_key_pem(tls.new_private_key()), "f")
