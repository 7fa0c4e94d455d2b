"""Join strings: what they carry, and what people are told when one is wrong."""

from pathlib import Path

import pytest

from fedn.network.join import JoinString, join_of
from fedn.network.tls import CertificateAuthority
from fedn.plan.settings import ClientSettings
from fedn.protocol.errors import InvalidInput

FINGERPRINT = "sha256:" + "ab" * 32
JOIN = JoinString("https://reducer.example.org:8090", FINGERPRINT, "s3cret-äöü")


def test_text_carries_everything_and_shows_no_secret() -> None:
    text = JOIN.encode()
    assert text.startswith("fedn1.") and JoinString.parse(text) == JOIN
    assert JOIN.secret not in repr(JOIN) and JOIN.secret not in str(JOIN)


def test_line_breaks_from_copying_do_no_harm() -> None:
    text = JOIN.encode()
    assert JoinString.parse(f"  {text[:20]}\n   {text[20:]}\n") == JOIN


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "not_a_join_string"),
        ("https://reducer:8090", "not_a_join_string"),
        ("fedn1", "not_a_join_string"),
        ("fedn2.abc", "join_string_too_new"),
        ("fedn1.", "join_string_damaged"),
        ("fedn1.!!!", "join_string_damaged"),
        ("fedn1.abc", "join_string_damaged"),
        ("fedn1." + "A" * 5000, "not_a_join_string"),
        (JOIN.encode()[:-3], "join_string_damaged"),
        (JOIN.encode() + "AAAA", "join_string_damaged"),
    ],
)
def test_wrong_text_is_explained(text: str, code: str) -> None:
    with pytest.raises(InvalidInput, match=code) as caught:
        JoinString.parse(text)
    assert caught.value.fix


@pytest.mark.parametrize(
    "url",
    ["", "reducer:8090", "ftp://r", "https://", "https://u:p@r", "https://r/path", "https://r:99999", "https://[::1"],
)
def test_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="bad_url"):
        JoinString(url, FINGERPRINT, "s")


def test_address_without_tls_is_for_loopback_only() -> None:
    assert JoinString("http://127.0.0.1:8090/", "", "s").url == "http://127.0.0.1:8090"
    with pytest.raises(InvalidInput, match="url_without_tls"):
        JoinString("http://reducer:8090", "", "s")
    with pytest.raises(InvalidInput, match="bad_fingerprint"):
        JoinString("http://localhost:8090", FINGERPRINT, "s")
    with pytest.raises(InvalidInput, match="bad_fingerprint"):
        JoinString("https://reducer:8090", "", "s")


def test_settings_say_it_by_a_string_by_parts_or_by_a_certificate(tmp_path: Path) -> None:
    ca = CertificateAuthority.create_or_load(tmp_path, "f")
    assert join_of(ClientSettings(join=JOIN.encode())) == JOIN
    parts = ClientSettings(reducer_url="https://r:1", ca_fingerprint=FINGERPRINT, enrolment_secret="s")
    assert join_of(parts) == JoinString("https://r:1", FINGERPRINT, "s")
    by_file = ClientSettings(reducer_url="https://r:1", ca_file=tmp_path / "ca.crt")
    assert join_of(by_file) == JoinString("https://r:1", ca.fingerprint, "")
    with pytest.raises(InvalidInput, match="unreadable_file"):
        join_of(ClientSettings(reducer_url="https://r:1", ca_file=tmp_path / "none.crt"))
