"""What only S3 has: Object Lock, versions, TLS, credentials, a bucket that others use too."""

import datetime
import ipaddress
import uuid
from pathlib import Path

import minio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedn.models.digest import digest
from fedn.protocol.errors import Conflict, InvalidInput, NotFound, StoreUnavailable
from fedn.stores.s3 import S3ModelStore
from tests.integration.stores.conftest import s3_store
from tests.support import servers

DATA = b"weights"
NAME = digest(DATA)


@pytest.fixture
def bucket() -> str:
    return f"test-{uuid.uuid4().hex}"


def _client(account: servers.S3Account) -> minio.Minio:
    return minio.Minio(account.endpoint, access_key=account.access_key, secret_key=account.secret_key, secure=False)


def test_a_retained_object_cannot_be_deleted(s3_moto: servers.S3Account, bucket: str) -> None:
    store = s3_store(s3_moto, bucket, retention_days=30)
    store.put(NAME, [DATA], len(DATA))
    with pytest.raises(Conflict) as caught:
        store.delete(NAME)
    assert caught.value.code == "object_retained"
    assert b"".join(store.read(NAME)) == DATA
    (listed,) = _client(s3_moto).list_objects(bucket, recursive=True)
    assert listed.object_name is not None
    headers = _client(s3_moto).stat_object(bucket, listed.object_name).metadata
    assert headers is not None and headers["x-amz-object-lock-mode"] == "COMPLIANCE"
    until = datetime.datetime.fromisoformat(headers["x-amz-object-lock-retain-until-date"])
    left = until - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(days=29) < left <= datetime.timedelta(days=30)
    store.close()


def test_a_large_retained_object_is_retained_too(s3_moto: servers.S3Account, bucket: str) -> None:
    store = s3_store(s3_moto, bucket, retention_days=30)
    data = b"x" * (20 << 20)
    store.put(digest(data), [data], len(data))
    with pytest.raises(Conflict):
        store.delete(digest(data))
    store.close()


def test_an_object_from_before_the_setting_is_retained_when_it_is_put_again(
    s3_moto: servers.S3Account, bucket: str
) -> None:
    retaining = s3_store(s3_moto, bucket, retention_days=1)
    retaining.delete(NAME)  # makes the bucket with Object Lock
    plain = s3_store(s3_moto, bucket)
    plain.put(NAME, [DATA], len(DATA))
    retaining.put(NAME, [DATA], len(DATA))
    with pytest.raises(Conflict):
        plain.delete(NAME)
    plain.close()
    retaining.close()


def test_deleting_where_versions_are_kept_leaves_no_version(s3_moto: servers.S3Account, bucket: str) -> None:
    s3_store(s3_moto, bucket, retention_days=1).delete(NAME)  # makes the bucket, with Object Lock and so with versions
    store = s3_store(s3_moto, bucket)
    for _ in range(2):
        store.put(NAME, [DATA], len(DATA))
        store.delete(NAME)
    assert list(_client(s3_moto).list_objects(bucket, recursive=True, include_version=True)) == []
    store.close()


def test_a_hidden_object_is_missing_and_stored_again(s3_moto: servers.S3Account, bucket: str) -> None:
    store = s3_store(s3_moto, bucket, retention_days=1)
    store.put(NAME, [DATA], len(DATA))
    (listed,) = _client(s3_moto).list_objects(bucket, recursive=True)
    assert listed.object_name is not None
    _client(s3_moto).remove_object(bucket, listed.object_name)  # puts a delete marker before it
    with pytest.raises(NotFound):
        store.stat(NAME)
    store.put(NAME, [DATA], len(DATA))
    assert b"".join(store.read(NAME)) == DATA
    store.close()


@pytest.mark.parametrize("fixture", ["s3_moto", "s3_rclone"])
def test_retention_in_a_bucket_that_cannot_retain_is_refused(
    request: pytest.FixtureRequest, fixture: str, bucket: str
) -> None:
    account = request.getfixturevalue(fixture)
    _client(account).make_bucket(bucket)
    store = s3_store(account, bucket, retention_days=30)
    with pytest.raises(Conflict) as caught:
        store.put(NAME, [DATA], len(DATA))
    assert caught.value.code == "bucket_without_object_lock"
    store.close()


def test_what_others_keep_in_the_bucket_is_not_ours(s3_rclone: servers.S3Account, bucket: str) -> None:
    ours, theirs = s3_store(s3_rclone, bucket, prefix="a/"), s3_store(s3_rclone, bucket, prefix="b/")
    theirs.put(NAME, [DATA], len(DATA))
    assert list(ours.objects()) == []
    with pytest.raises(NotFound):
        ours.stat(NAME)
    ours.delete(NAME)
    assert b"".join(theirs.read(NAME)) == DATA
    ours.close()
    theirs.close()


def test_wrong_keys_are_named_as_such(s3_rclone: servers.S3Account, bucket: str) -> None:
    store = s3_store(servers.S3Account(s3_rclone.endpoint, s3_rclone.access_key, "wrong-secret"), bucket)
    with pytest.raises(StoreUnavailable) as caught:
        store.put(NAME, [DATA], len(DATA))
    assert caught.value.code == "store_refused"
    store.close()


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9000", "host:9000/path", ""])
def test_a_malformed_endpoint_is_refused_at_once(endpoint: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        S3ModelStore(endpoint, "models", "tester", "tester-secret")
    assert caught.value.code == "bad_endpoint"


def test_the_servers_certificate_is_checked_against_the_given_authority(tmp_path: Path, bucket: str) -> None:
    certificate, key = _self_signed(tmp_path)
    server = servers.rclone_server(tmp_path, ("tester", "tester-secret"), tls=(certificate, key))
    with server:
        account = ("tester", "tester-secret")
        trusting = S3ModelStore(f"127.0.0.1:{server.port}", bucket, *account, ca_file=certificate)
        trusting.put(NAME, [DATA], len(DATA))
        assert b"".join(trusting.read(NAME)) == DATA
        trusting.close()
        stranger = S3ModelStore(f"127.0.0.1:{server.port}", bucket, *account)
        with pytest.raises(StoreUnavailable) as caught:
            stranger.stat(NAME)
        assert "CERTIFICATE_VERIFY_FAILED" in caught.value.message
        stranger.close()


def _self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "server.crt", folder / "server.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file
