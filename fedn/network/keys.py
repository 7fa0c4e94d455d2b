"""Keys, signing requests and certificates as PEM: making them, reading them, and the ids that name them.

Every private key is ECDSA P-256, made where it is used, and never leaves that place: what travels is a signing request.
"""

import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedn.protocol.errors import IntegrityError, InvalidInput

_MAX_COMMON_NAME_BYTES = 64


def new_private_key() -> bytes:
    """A new ECDSA P-256 key, PEM (PKCS 8, not encrypted)."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def make_csr(key_pem: bytes, name: str) -> bytes:
    """A signing request (PEM) for one's own key. IntegrityError (`bad_private_key`) where the key is none."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject(name, ""))
    return builder.sign(load_key(key_pem), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def fingerprint(certificate_pem: bytes) -> str:
    """`sha256:` of a certificate's DER form. InvalidInput (`bad_certificate`) where it is none."""
    return "sha256:" + load_certificate(certificate_pem).fingerprint(hashes.SHA256()).hex()


def certificate_ends_at(certificate_pem: bytes) -> float:
    """Unix time in seconds at which a certificate expires. InvalidInput (`bad_certificate`) where it is none."""
    return load_certificate(certificate_pem).not_valid_after_utc.timestamp()


def public_key_id(pem: bytes) -> str:
    """`sha256:` of the public key (SubjectPublicKeyInfo, DER) in a private or public key, request or certificate (PEM).

    A name is bound to this id. InvalidInput (`bad_key`) where there is no P-256 key in it.
    """
    der = _any_public_key(pem).public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return "sha256:" + hashlib.sha256(der).hexdigest()


def public_key_pem(pem: bytes) -> bytes:
    """The public key (PEM) in a private key, request or certificate (PEM). InvalidInput (`bad_key`)."""
    return _any_public_key(pem).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """IntegrityError (`bad_private_key`) where it is no P-256 key."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _bad_private_key() from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _bad_private_key()
    return key


def load_certificate(pem: bytes) -> x509.Certificate:
    """InvalidInput (`bad_certificate`) where it is none."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise _bad_certificate() from error


def load_request(pem: bytes) -> x509.CertificateSigningRequest:
    """InvalidInput (`bad_csr`) where it is none, is for another kind of key, or is not signed with it."""
    try:
        request = x509.load_pem_x509_csr(pem)
        genuine = request.is_signature_valid
        p256(request.public_key())
    except (ValueError, InvalidSignature, UnsupportedAlgorithm, InvalidInput) as error:
        raise _bad_csr("cannot be read, or is not for an ECDSA P-256 key") from error
    if not genuine:
        raise _bad_csr("is not signed with its own key")
    return request


def subject(name: str, role: str) -> x509.Name:
    """Common name and, unless empty, role as organizational unit."""
    # X.509 allows 64 bytes; a longer name is cut, since identity is the key, and the subject is for people.
    common = name.encode()[:_MAX_COMMON_NAME_BYTES].decode(errors="ignore")
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if role:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role))
    return x509.Name(attributes)


def _any_public_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    if b"PRIVATE KEY-----" in pem:
        return load_key(pem).public_key()
    try:
        if b"CERTIFICATE REQUEST-----" in pem:
            return p256(x509.load_pem_x509_csr(pem).public_key())
        if b"CERTIFICATE-----" in pem:
            return p256(x509.load_pem_x509_certificate(pem).public_key())
        return p256(serialization.load_pem_public_key(pem))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInput("bad_key", "there is no readable key in this PEM", fix="Make it anew.") from error


def p256(key: object) -> ec.EllipticCurvePublicKey:
    """The key itself. InvalidInput (`bad_key`) where it is no P-256 key."""
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidInput("bad_key", "the key is not an ECDSA P-256 key", fix="Make it anew with fedn.")
    return key


def _bad_private_key() -> IntegrityError:
    return IntegrityError(
        "bad_private_key",
        "the private key is no ECDSA P-256 key in PEM",
        fix="Restore it from a backup.",
    )


def _bad_certificate() -> InvalidInput:
    return InvalidInput("bad_certificate", "this is no certificate in PEM", fix="Fetch it again from the reducer.")


def _bad_csr(what: str) -> InvalidInput:
    return InvalidInput("bad_csr", f"the signing request {what}", fix="Enrol with the key that fedn made.")
