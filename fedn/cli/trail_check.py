"""Checks a whole trail on this machine: chain and signatures. Trusts the reducer for nothing but the public key."""

import base64
import binascii
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from fedn.protocol.errors import IntegrityError, InvalidInput
from fedn.protocol.trail import TrailEntry, VerifiedTrail, verify_chain


def check_trail(
    entries: Iterable[TrailEntry], public_key_pem: str, *, federation: str, head: str | None
) -> VerifiedTrail:
    """What was found good.

    Raises:
        IntegrityError: (`trail_broken`, `trail_cut`) at the first entry that does not fit.
        InvalidInput: (`bad_public_key`) the key is no Ed25519 key in PEM.
    """
    try:
        key = load_pem_public_key(public_key_pem.encode())
    except ValueError as error:
        raise _bad_key(str(error)) from error
    if not isinstance(key, Ed25519PublicKey):
        raise _bad_key("it is a key of another kind")

    def check_signature(entry: TrailEntry) -> None:
        try:
            key.verify(base64.b64decode(entry.signature, validate=True), entry.hash.encode("ascii"))
        except (InvalidSignature, binascii.Error, ValueError) as error:
            raise IntegrityError(
                "trail_broken",
                f"trail entry {entry.index} is not signed by the reducer's key",
                fix="The state store was tampered with or damaged: restore it from a backup.",
                where={"index": entry.index, "hash": entry.hash},
            ) from error

    return verify_chain(entries, check_signature, federation=federation, expected_head=head)


def _bad_key(why: str) -> InvalidInput:
    return InvalidInput(
        "bad_public_key",
        f"the public key cannot be used: {why}",
        fix="Give the Ed25519 key as GET /api/v1/trail/key does.",
    )
