"""What the reducer keeps in its data directory: the authority, keys, secrets, and its own certificate.

Keys and secrets never leave it: they are in no store and in no log.
"""

import secrets as random_bytes
from dataclasses import dataclass, field
from pathlib import Path

from fedn.network.private_files import PUBLIC, create_or_load, create_or_load_secret, make_private_folder, write_file
from fedn.network.tickets import TicketIssuer
from fedn.network.tls import REDUCER, CertificateAuthority, make_csr, new_private_key
from fedn.network.tokens import Signer, TokenIssuer, create_or_load_signing_key
from fedn.plan.settings import ReducerSettings
from fedn.protocol.errors import FednError

_CERTIFICATE_DAYS = 825
"""Of the reducer's own certificate, which is made anew at each start."""


@dataclass
class OwnCertificate:
    """How the reducer shows who it is: to those who call it, and to combiners that it dials."""

    ca_pem: bytes
    cert_pem: bytes
    key_pem: bytes = field(repr=False)
    ca_path: Path
    cert_path: Path
    key_path: Path


@dataclass(frozen=True)
class Secrets:
    enrolment: str = field(repr=False)
    admin: str = field(repr=False)


@dataclass(frozen=True)
class Keys:
    authority: CertificateAuthority
    tokens: TokenIssuer
    tickets: TicketIssuer
    trail: Signer
    certificate: OwnCertificate
    instance: str
    """Names this data directory; the lease is held in its name."""


def load_secrets(settings: ReducerSettings) -> Secrets:
    """The two secrets: those of the settings, or those made at the first start."""
    folder = settings.data_dir / "secrets"
    make_private_folder(settings.data_dir)
    return Secrets(
        enrolment=settings.enrolment_secret or create_or_load_secret(folder / "enrolment"),
        admin=settings.admin_secret or create_or_load_secret(folder / "admin"),
    )


def load_keys(settings: ReducerSettings) -> Keys:
    """Keys and certificates, made where there are none.

    Raises:
        Conflict: (`other_federation`) the data directory belongs to another federation.
        IntegrityError, InvalidInput: a file is damaged, or others may read it.
    """
    folder = settings.data_dir
    make_private_folder(folder)
    authority = CertificateAuthority.create_or_load(folder, settings.federation)
    signing_key = create_or_load_signing_key(folder / "tokens.key")
    return Keys(
        authority=authority,
        tokens=TokenIssuer(signing_key, settings.federation),
        tickets=TicketIssuer(signing_key, settings.federation),
        trail=Signer(folder / "trail.key"),
        certificate=_own_certificate(authority, settings),
        instance=create_or_load(folder / "instance", lambda: random_bytes.token_hex(8).encode()).decode(),
    )


def publish_authority(certificate: OwnCertificate, folder: Path) -> None:
    """Copies the authority's certificate, and nothing else, to a folder that sites see.

    Raises:
        FednError: (`cannot_write_file`) the folder cannot be written.
    """
    target = folder / "ca.crt"
    try:
        if not target.exists() or target.read_bytes() != certificate.ca_pem:
            write_file(target, certificate.ca_pem, mode=PUBLIC)
    except OSError as error:
        raise FednError(
            "cannot_write_file",
            f"the authority's certificate cannot be copied: {error.strerror}",
            fix="Let the user whom the reducer runs as write to the folder that trust_dir names.",
            where={"file": target},
        ) from error


def _own_certificate(authority: CertificateAuthority, settings: ReducerSettings) -> OwnCertificate:
    folder = settings.data_dir
    key_path, cert_path = folder / "reducer.key", folder / "reducer.crt"
    key = create_or_load(key_path, new_private_key)
    certificate = authority.sign(
        make_csr(key, settings.federation),
        name=settings.federation,
        role=REDUCER,
        hosts=settings.public_hosts,
        valid_days=_CERTIFICATE_DAYS,
    )
    write_file(cert_path, certificate, mode=PUBLIC)
    return OwnCertificate(
        ca_pem=authority.certificate_pem,
        cert_pem=certificate,
        key_pem=key,
        ca_path=folder / "ca.crt",
        cert_path=cert_path,
        key_path=key_path,
    )
