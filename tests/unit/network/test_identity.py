"""A site's identity on disk, and the private files that it is made of."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fedn.network import tls
from fedn.network.identity import FolderLock, Identity
from fedn.network.private_files import create_or_load, create_or_load_secret, write_file
from fedn.network.tls import CertificateAuthority
from fedn.network.tokens import Role, Signer
from fedn.protocol.errors import Conflict, IntegrityError, InvalidInput


@pytest.fixture
def ca(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority.create_or_load(tmp_path / "ca", "f")


@pytest.fixture
def token_key(tmp_path: Path) -> bytes:
    return Signer(tmp_path / "token.key").public_key_pem


def enrol(identity: Identity, ca: CertificateAuthority, token_key: bytes, federation: str = "f") -> bytes:
    certificate = ca.sign(identity.csr(), name=identity.name, role=identity.role, hosts=[], valid_days=30)
    identity.save_enrolment(federation=federation, certificate=certificate, ca=ca.certificate_pem, token_key=token_key)
    return certificate


def test_identity_is_the_same_after_a_restart(tmp_path: Path, ca: CertificateAuthority, token_key: bytes) -> None:
    with Identity(tmp_path / "site", "c1", Role.CLIENT) as first:
        key_id = first.key_id
        assert not first.enrolled
        certificate = enrol(first, ca, token_key)
        assert first.enrolled
    with Identity(tmp_path / "site", "c1", Role.CLIENT) as again:
        assert again.enrolled and again.key_id == key_id == tls.public_key_id(certificate)
        assert (again.federation, again.token_key_pem) == ("f", token_key)
        assert (again.certificate_pem, again.ca_pem) == (certificate, ca.certificate_pem)
        assert again.certificate_path.read_bytes() == certificate and again.ca_path.read_bytes() == ca.certificate_pem
        assert again.certificate_ends_at == tls.certificate_ends_at(certificate)
        assert again.key_path.stat().st_mode & 0o777 == 0o600


def test_identity_before_enrolment_knows_no_federation(tmp_path: Path) -> None:
    with Identity(tmp_path / "site", "c1", Role.CLIENT) as identity, pytest.raises(Conflict, match="not_enrolled"):
        _ = identity.federation


def test_name_may_change_before_enrolment_and_is_fixed_after_it(
    tmp_path: Path, ca: CertificateAuthority, token_key: bytes
) -> None:
    Identity(tmp_path / "site", "draft", Role.CLIENT).close()
    with Identity(tmp_path / "site", "c1", Role.CLIENT) as identity:
        enrol(identity, ca, token_key)
    for name, role in (("c2", Role.CLIENT), ("c1", Role.COMBINER)):
        with pytest.raises(Conflict, match="name_fixed"):
            Identity(tmp_path / "site", name, role)
    Identity(tmp_path / "site", "c1", Role.CLIENT).close()


def test_folder_is_used_by_one_at_a_time(tmp_path: Path) -> None:
    first = Identity(tmp_path / "site", "c1", Role.CLIENT)
    with pytest.raises(Conflict, match=f"pid {os.getpid()}.*data_dir_in_use"):
        Identity(tmp_path / "site", "c1", Role.CLIENT)
    first.close()
    Identity(tmp_path / "site", "c1", Role.CLIENT).close()


def test_folder_of_a_killed_process_is_free_again(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from fedn.network.identity import FolderLock; "
        "lock = FolderLock(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "site")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(Conflict, match=f"pid {process.pid}"):
            FolderLock(tmp_path / "site")
        process.kill()
    FolderLock(tmp_path / "site").release()


def test_enrolment_in_another_federation_is_refused(tmp_path: Path, ca: CertificateAuthority, token_key: bytes) -> None:
    with Identity(tmp_path / "site", "c1", Role.CLIENT) as identity:
        enrol(identity, ca, token_key)
        with pytest.raises(Conflict, match="other_federation"):
            enrol(identity, ca, token_key, federation="g")
        renewed = enrol(identity, ca, token_key)
        assert identity.certificate_pem == renewed


def test_certificate_of_another_key_is_refused(tmp_path: Path, ca: CertificateAuthority, token_key: bytes) -> None:
    request = tls.make_csr(tls.new_private_key(), "c1")
    other = ca.sign(request, name="c1", role=Role.CLIENT, hosts=[], valid_days=1)
    with Identity(tmp_path / "site", "c1", Role.CLIENT) as identity:
        for certificate in (other, b"rubbish"):
            with pytest.raises(IntegrityError, match="identity_damaged"):
                identity.save_enrolment(
                    federation="f", certificate=certificate, ca=ca.certificate_pem, token_key=token_key
                )
        assert not identity.enrolled


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", json.dumps({"name": "c1"})])
def test_damaged_record_is_told_and_the_folder_let_go(tmp_path: Path, content: str) -> None:
    Identity(tmp_path / "site", "c1", Role.CLIENT).close()
    (tmp_path / "site" / "identity.json").write_text(content)
    for _ in range(2):
        with pytest.raises(IntegrityError, match="identity_damaged"):
            Identity(tmp_path / "site", "c1", Role.CLIENT)


def test_lost_copies_of_certificates_come_back(tmp_path: Path, ca: CertificateAuthority, token_key: bytes) -> None:
    with Identity(tmp_path / "site", "c1", Role.CLIENT) as identity:
        certificate = enrol(identity, ca, token_key)
    identity.certificate_path.unlink()
    identity.ca_path.write_text("old")
    with Identity(tmp_path / "site", "c1", Role.CLIENT) as again:
        assert again.certificate_path.read_bytes() == certificate
        assert again.ca_path.read_bytes() == ca.certificate_pem


def test_bad_name_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="bad_name"):
        Identity(tmp_path / "site", "a/b", Role.CLIENT)
    assert not (tmp_path / "site").exists()


def test_private_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    create_or_load_secret(tmp_path / "secret")
    (tmp_path / "secret").chmod(0o644)
    with pytest.raises(InvalidInput, match="private_file_exposed"):
        create_or_load_secret(tmp_path / "secret")


def test_of_many_that_make_a_private_file_at_once_all_get_the_same(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)
    found: list[bytes] = []

    def make(number: int) -> None:
        barrier.wait()
        found.append(create_or_load(tmp_path / "secret", lambda: str(number).encode()))

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    with pytest.raises(IsADirectoryError):
        write_file(tmp_path / "place", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_secret_is_long_and_kept(tmp_path: Path) -> None:
    secret = create_or_load_secret(tmp_path / "secret")
    assert len(secret) == 43 and create_or_load_secret(tmp_path / "secret") == secret
