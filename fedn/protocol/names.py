"""Names of things (clients, combiners, sessions) and digests, and the checks that both must pass."""

import re
import unicodedata

from fedn.protocol.errors import InvalidInput

ALGORITHMS = {"blake3": 64, "sha256": 64}
"""Digest algorithms and the number of hex digits of each."""

_DIGEST = re.compile(r"(blake3|sha256):([0-9a-f]{64})")
_MAX_NAME = 64


def check_name(name: str, *, what: str) -> str:
    """The name itself, if it may be one: 1 to 64 printable characters, no slash, no space at its ends.

    A name is shown to people and never used as a path, so any script is welcome. InvalidInput (`bad_name`) otherwise.
    """
    bad = (
        not 1 <= len(name) <= _MAX_NAME
        or name != name.strip()
        or "/" in name
        or name in {".", ".."}
        or any(unicodedata.category(character)[0] == "C" or character in "\u2028\u2029" for character in name)
    )
    if bad:
        raise InvalidInput(
            "bad_name",
            f"{name[:80]!r} cannot be the name of a {what}",
            fix=f"Use 1 to {_MAX_NAME} printable characters without '/', and no space at the ends.",
            where={what: name[:80]},
        )
    return name


def is_digest(text: str) -> bool:
    """Whether the text has the form `blake3:<64 hex>` or `sha256:<64 hex>`."""
    return _DIGEST.fullmatch(text) is not None


def check_digest(text: str) -> tuple[str, str]:
    """(algorithm, hex digits) of a digest. InvalidInput (`bad_digest`) where it is none."""
    match = _DIGEST.fullmatch(text)
    if match is None:
        raise InvalidInput(
            "bad_digest",
            f"{text[:80]!r} is not a digest",
            fix="A digest is blake3: or sha256: and 64 hex digits; see `fedn model list`.",
        )
    return match.group(1), match.group(2)
