"""The key that the data owners of a federation share: made, written and read. A server never has it."""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from fedn.models.encrypted import RINGS, SCHEME
from fedn.network.private_files import read_private, write_file
from fedn.privacy.tenseal import Context, context_from, new_context
from fedn.protocol.errors import Conflict, InvalidInput

_VERSION = 2
"""1 had keys of other primes."""
_MAX_FILE_BYTES = 4 << 20
_FIELDS = {"fedn_key", "scheme", "degree", "key_id", "context"}


@dataclass(frozen=True)
class Key:
    """A secret key of CKKS. Who has it can read every model and update that is encrypted with it."""

    key_id: str
    """`sha256:` of its bytes; says nothing of them."""
    degree: int
    """Of its polynomials."""
    context: bytes = field(repr=False)
    """As TenSEAL writes parameters and secret key."""

    def open(self) -> Context:
        """Ready to encrypt and decrypt. InvalidInput (`bad_key_file`), Unavailable (`tenseal_missing`)."""
        return context_from(self.context, self.degree)


def create_key(degree: int) -> Key:
    """A new key of 128 bits of security.

    Raises:
        InvalidInput: (`bad_key_degree`) there are no parameters for the degree.
        Unavailable: (`tenseal_missing`).
    """
    if degree not in RINGS:
        raise InvalidInput(
            "bad_key_degree",
            f"there are no keys of degree {degree}",
            fix=f"Choose one of {', '.join(map(str, RINGS))}.",
        )
    context = new_context(degree)
    return Key(_key_id(context), degree, context)


def write_key(key: Key, path: Path) -> None:
    """Writes a file that only its owner may read (mode 600).

    Raises:
        Conflict: (`key_exists`) there is a file already: models may be encrypted with what is in it.
    """
    if path.exists():
        raise Conflict(
            "key_exists",
            "there is a file already, and a key that is lost cannot be made again",
            fix="Name another file.",
            where={"file": path},
        )
    text = base64.b64encode(key.context).decode("ascii")
    content = {"fedn_key": _VERSION, "scheme": SCHEME, "degree": key.degree, "key_id": key.key_id, "context": text}
    write_file(path, json.dumps(content, indent=1).encode() + b"\n")


def read_key(path: Path) -> Key:
    """The key of a file.

    Raises:
        InvalidInput: (`private_file_exposed`) others may read it; (`bad_key_file`) it is not there, or holds none.
    """
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise _bad(path, f"it has more than {_MAX_FILE_BYTES} bytes")
        content = json.loads(read_private(path))
    except OSError as error:
        raise _bad(path, f"it cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _bad(path, "it is no JSON") from error
    if not isinstance(content, dict) or content.keys() != _FIELDS or content["fedn_key"] != _VERSION:
        raise _bad(path, "it was not written by `fedn keys create` of this version")
    try:
        context = base64.b64decode(content["context"], validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise _bad(path, "its context is no base64") from error
    key = Key(_key_id(context), content["degree"], context)
    if content["scheme"] != SCHEME or key.degree not in RINGS or key.key_id != content["key_id"]:
        raise _bad(path, "it is damaged: its id is not that of its key")
    return key


def _key_id(context: bytes) -> str:
    return "sha256:" + hashlib.sha256(b"fedn key " + context).hexdigest()


def _bad(path: Path, why: str) -> InvalidInput:
    return InvalidInput(
        "bad_key_file",
        f"the file is no key: {why}",
        fix="Name the file that `fedn keys create` wrote, or a copy of it.",
        where={"file": path},
    )
