"""Join strings: all that a new site needs to know of a federation, in one line that can be copied.

`fedn1.` and base64url of a checksum and a JSON list: address of the reducer, fingerprint of its authority, enrolment
secret. The string is a secret: whoever has it may enrol.
"""

import base64
import binascii
import ipaddress
import json
import zlib
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fedn.network.tls import fingerprint
from fedn.plan.settings import SiteSettings
from fedn.protocol.errors import InvalidInput

PREFIX = "fedn1."
_MAX_CHARACTERS = 4096
_CHECKSUM_BYTES = 4
_FINGERPRINT_HEX = 64


@dataclass(frozen=True)
class JoinString:
    """What a join string says. Made from parts, or from the text by `parse`; both check it (InvalidInput)."""

    url: str
    """Address of the reducer: scheme, host and port. http only on this machine's own loopback."""
    ca_fingerprint: str
    """`sha256:` of the authority's certificate; empty for http."""
    secret: str = field(repr=False)
    """The enrolment secret; empty for a site that has enrolled before."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", _checked_url(self.url))
        secure = self.url.startswith("https:")
        if secure and not _is_fingerprint(self.ca_fingerprint):
            raise _bad(
                "bad_fingerprint", "the fingerprint of the reducer's authority is not `sha256:` and 64 hex digits"
            )
        if not secure and self.ca_fingerprint:
            raise _bad("bad_fingerprint", "an address without TLS comes with the fingerprint of an authority")

    def encode(self) -> str:
        """The text to hand over."""
        body = json.dumps([self.url, self.ca_fingerprint, self.secret], separators=(",", ":")).encode()
        return PREFIX + base64.urlsafe_b64encode(_checksum(body) + body).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> "JoinString":
        """Reads a join string; spaces and line breaks that copying left in it do no harm.

        Raises:
            InvalidInput: `not_a_join_string`, `join_string_too_new`, `join_string_damaged`, or what is wrong in it.
        """
        compact = "".join(text.split()).rstrip("=")
        if not compact.startswith("fedn") or "." not in compact[:12] or len(compact) > _MAX_CHARACTERS:
            raise _bad("not_a_join_string", f"this is no join string: one starts with {PREFIX!r}")
        if not compact.startswith(PREFIX):
            raise InvalidInput(
                "join_string_too_new",
                f"this fedn does not know join strings of the form {compact.partition('.')[0]!r}",
                fix="Use the same version of fedn here as at the reducer.",
            )
        url, ca_fingerprint, secret = _decoded(compact.removeprefix(PREFIX))
        return cls(url, ca_fingerprint, secret)


def join_of(settings: SiteSettings) -> JoinString:
    """What a combiner's or client's settings say of how to join: its join string, or the parts of one.

    The fingerprint may come from a certificate file (`ca_file`) instead.

    Raises:
        InvalidInput: what is wrong with it.
    """
    if settings.join is not None:
        return JoinString.parse(settings.join)
    known = settings.ca_fingerprint or ""
    if settings.ca_file is not None:
        try:
            known = fingerprint(settings.ca_file.read_bytes())
        except OSError as error:
            raise InvalidInput(
                "unreadable_file",
                f"the authority's certificate cannot be read: {error.strerror}",
                fix="Copy ca.crt from the reducer's data directory, or give --ca-fingerprint.",
                where={"field": "ca_file", "file": settings.ca_file},
            ) from error
    return JoinString(settings.reducer_url or "", known, settings.enrolment_secret or "")


def _decoded(text: str) -> tuple[str, str, str]:
    try:
        # The alphabet is checked here, since the decoder itself skips what it does not know.
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _damaged() from error
    checksum, body = raw[:_CHECKSUM_BYTES], raw[_CHECKSUM_BYTES:]
    if checksum != _checksum(body):
        raise _damaged()
    try:
        parts = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _damaged() from error
    if not isinstance(parts, list) or len(parts) != 3 or not all(isinstance(part, str) for part in parts):
        raise _damaged()
    return parts[0], parts[1], parts[2]


def _checksum(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, "big")


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise _bad_url(url) from error
    extra = parts.username or parts.password or parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme not in {"http", "https"} or not host or extra:
        raise _bad_url(url)
    if parts.scheme == "http" and not _is_loopback(host):
        raise _bad("url_without_tls", f"{url!r} has no TLS, which is allowed on this machine's own loopback only")
    return f"{parts.scheme}://{parts.netloc}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_fingerprint(text: str) -> bool:
    digits = text.removeprefix("sha256:")
    return text != digits and len(digits) == _FINGERPRINT_HEX and all(c in "0123456789abcdef" for c in digits)


def _bad_url(url: str) -> InvalidInput:
    return _bad("bad_url", f"{url[:200]!r} is no address of a reducer such as https://reducer.example.org:8090")


def _damaged() -> InvalidInput:
    return _bad("join_string_damaged", "the join string is damaged: part of it is missing or was changed in copying")


def _bad(code: str, message: str) -> InvalidInput:
    return InvalidInput(
        code, message, fix="Copy the whole join string again, or ask the reducer's operator: `fedn token create`."
    )
