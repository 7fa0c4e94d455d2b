"""Join strings and tokens: what was encoded comes back, and what was changed does not pass."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.network.join import PREFIX, JoinString
from fedn.network.tokens import Role, TokenIssuer, TokenVerifier, assertion_subject, create_or_load_signing_key
from fedn.protocol.errors import FednError, InvalidInput, Unauthenticated

HOSTS = st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z]{2,8}){0,2}", fullmatch=True)
JOINS = st.builds(
    JoinString,
    url=st.builds("https://{}:{}".format, HOSTS, st.integers(1, 65535)),
    ca_fingerprint=st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True),
    secret=st.text(st.characters(exclude_categories=["Cs"]), max_size=100),
)


@given(join=JOINS)
def test_join_string_comes_back_as_it_was(join: JoinString) -> None:
    assert JoinString.parse(join.encode()) == join


@given(join=JOINS, data=st.data())
def test_join_string_with_a_character_changed_is_refused(join: JoinString, data: st.DataObject) -> None:
    text = join.encode()
    # The last character of base64 may carry bits that mean nothing.
    position = data.draw(st.integers(len(PREFIX), len(text) - 2))
    character = data.draw(st.sampled_from("ABCXYZabcxyz0189-_").filter(lambda one: one != text[position]))
    with pytest.raises(InvalidInput):
        JoinString.parse(text[:position] + character + text[position + 1 :])


@given(join=JOINS, length=st.integers(0, 400))
def test_join_string_cut_off_is_refused(join: JoinString, length: int) -> None:
    text = join.encode()
    with pytest.raises(InvalidInput):
        JoinString.parse(text[: min(length, len(text) - 1)])


@given(text=st.text(max_size=200) | st.text(max_size=200).map(PREFIX.__add__) | st.binary(max_size=99).map(repr))
def test_any_text_is_a_join_string_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        JoinString.parse(text)


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> TokenIssuer:
    return TokenIssuer(create_or_load_signing_key(tmp_path_factory.mktemp("keys") / "token.key"), "f")


@given(text=st.text(max_size=300))
def test_any_text_is_refused_as_a_token(issuer: TokenIssuer, text: str) -> None:
    with pytest.raises(Unauthenticated):
        TokenVerifier(issuer.public_key_pem, "f").verify(text)
    with contextlib.suppress(FednError):
        assertion_subject(text)


@given(subject=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64), role=st.sampled_from(Role))
def test_token_comes_back_as_it_was_and_no_changed_one_does(issuer: TokenIssuer, subject: str, role: Role) -> None:
    verifier = TokenVerifier(issuer.public_key_pem, "f")
    token = issuer.issue(subject, role, 600, key_id="k")
    claims = verifier.verify(token)
    assert (claims.subject, claims.role, claims.key_id) == (subject, role, "k")
    header, body, signature = token.split(".")
    for changed in (
        f"{header}.{body[:-2]}.{signature}",
        f"{header}.{body}.{signature[::-1]}",
        f"{body}.{body}.{signature}",
    ):
        with pytest.raises(Unauthenticated):
            verifier.verify(changed)
