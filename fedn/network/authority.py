"""The federation's certificate authority. Only the reducer has one; everybody else trusts this one and no other."""

import datetime as dt
import ipaddress
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from fedn.network.keys import fingerprint, load_certificate, load_key, load_request, new_private_key, p256, subject
from fedn.network.private_files import PUBLIC, create_or_load, write_file
from fedn.network.tokens import Role
from fedn.protocol.errors import Conflict, IntegrityError, InvalidInput

REDUCER = "reducer"
"""Role in the certificate of the reducer itself, which needs no token role of its own."""

_CA_DAYS = 3650
_CLOCK_SKEW = dt.timedelta(hours=1)
_MAX_HOSTS = 64
_HOST = r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?"

Clock = Callable[[], dt.datetime]


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class CertificateAuthority:
    """Signs the certificates of one federation. Only the reducer has one."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, clock: Clock) -> None:
        self._certificate = certificate
        self._key = key
        self._clock = clock

    @classmethod
    def create_or_load(cls, folder: Path, federation: str, *, clock: Clock = _utc_now) -> "CertificateAuthority":
        """The authority kept in a folder as `ca.key` (mode 0600) and `ca.crt`, made where there is none.

        Raises:
            Conflict: (`other_federation`) the folder belongs to another federation.
            IntegrityError: (`bad_ca`) the files are damaged, do not belong together, or the certificate has expired.
        """
        key = load_key(create_or_load(folder / "ca.key", new_private_key))
        path = folder / "ca.crt"
        if not path.exists():
            write_file(path, _pem(_self_signed(key, federation, clock())), mode=PUBLIC)
        try:
            certificate = load_certificate(path.read_bytes())
        except InvalidInput as error:
            raise _bad_ca(path, "cannot be read") from error
        if certificate.public_key() != key.public_key():
            raise _bad_ca(path, "does not belong to ca.key")
        if certificate.not_valid_after_utc <= clock():
            raise _bad_ca(path, f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
        if certificate.subject != subject(federation, "ca"):
            raise Conflict(
                "other_federation",
                f"the folder holds the authority of another federation than {federation!r}",
                fix="Give each federation a data directory of its own, or the name that this one was made with.",
                where={"folder": folder},
            )
        return cls(certificate, key, clock)

    @property
    def certificate_pem(self) -> bytes:
        return _pem(self._certificate)

    @property
    def fingerprint(self) -> str:
        """`sha256:` of the certificate's DER form; what join strings carry."""
        return fingerprint(self.certificate_pem)

    def sign(self, csr_pem: bytes, *, name: str, role: str, hosts: Sequence[str], valid_days: int) -> bytes:
        """A certificate (PEM) for the key of a signing request; nothing else that the request asks for counts.

        Args:
            csr_pem: signing request; it must prove that its sender holds the P-256 key.
            name: becomes the subject's common name (cut to 64 bytes).
            role: becomes the subject's organizational unit. A `client` may only open connections, never accept them.
            hosts: DNS names and IP addresses at which the holder will be found.
            valid_days: from now; never beyond the authority's own end.

        Raises:
            InvalidInput: `bad_csr`; `bad_host`; `hosts_not_allowed` (a client asks for names).
        """
        request = load_request(csr_pem)
        serves = role != Role.CLIENT
        if hosts and not serves:
            raise InvalidInput(
                "hosts_not_allowed",
                "a client's certificate cannot name hosts: clients accept no connections",
                fix="Enrol without hosts.",
                where={"client": name},
            )
        now = self._clock()
        ends = min(now + dt.timedelta(days=valid_days), self._certificate.not_valid_after_utc)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if serves else [])]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject(name, role))
            .issuer_name(self._certificate.subject)
            .public_key(p256(request.public_key()))
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_SKEW)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(request.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(_alternative_names(hosts)), critical=False)
        return _pem(builder.sign(self._key, hashes.SHA256()))


def _self_signed(key: ec.EllipticCurvePrivateKey, federation: str, now: dt.datetime) -> x509.Certificate:
    name = subject(federation, "ca")
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + dt.timedelta(days=_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def check_host(host: str) -> str:
    """The host itself, if it is a host name or an IP address; InvalidInput (`bad_host`) otherwise."""
    _alternative_name(host)
    return host


def _alternative_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    if len(hosts) > _MAX_HOSTS:
        raise InvalidInput("bad_host", f"{len(hosts)} hosts in one certificate", fix=f"Use {_MAX_HOSTS} at the most.")
    return [_alternative_name(host) for host in dict.fromkeys(hosts)]


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        ascii_host = host.encode("idna").decode("ascii") if not host.isascii() else host
    except UnicodeError:
        ascii_host = ""
    labels = ascii_host.split(".")
    if len(ascii_host) > 253 or not all(len(label) <= 63 and re.fullmatch(_HOST, label) for label in labels):
        raise InvalidInput(
            "bad_host",
            f"{host[:80]!r} is neither a host name nor an IP address",
            fix="Give names such as reducer.example.org (no wildcard, no port) or addresses such as 10.0.0.7.",
        )
    return x509.DNSName(ascii_host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _bad_ca(path: Path, what: str) -> IntegrityError:
    return IntegrityError(
        "bad_ca",
        f"the certificate of the federation's authority {what}",
        fix="Restore ca.key and ca.crt from a backup. With a new authority every site has to enrol again.",
        where={"file": path},
    )
