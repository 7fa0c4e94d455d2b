"""A model store in a bucket of an S3 server (MinIO, AWS and the like), optionally under Object Lock.

An object is checked in a temporary file before a byte of it is sent, and S3 shows an object only when it is complete:
what can be read is what its name says. Under retention nobody, the owner included, can delete a model before its time.
"""

import contextlib
import datetime
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import minio
import urllib3
from minio.commonconfig import COMPLIANCE
from minio.error import MinioException, S3Error
from minio.retention import Retention

from fedn.protocol.errors import Conflict, FednError, InvalidInput, StoreUnavailable
from fedn.protocol.names import check_digest, is_digest
from fedn.stores.base import StoredObject
from fedn.stores.content import FULL_ERRNOS, PIECE_BYTES, check_offset, no_such_object, store_away, store_full, verified

_PART_BYTES = 16 << 20
"""One part of a multipart upload; S3 takes 10,000 of them."""
_PARALLEL_PARTS = 3
_SPOOL_BYTES = 32 << 20
"""Objects up to this size wait in memory, larger ones in a temporary file (see TMPDIR)."""
_CONNECTIONS = 16
_TIMEOUT = urllib3.Timeout(connect=5.0, read=60.0)
_RETRIES = urllib3.Retry(
    total=4, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504), respect_retry_after_header=False
)
"""About 3 s of attempts before a server counts as away."""

_MISSING = frozenset({"NoSuchKey", "NoSuchVersion", "NoSuchObject"})
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "ServiceQuotaExceeded"})
_REFUSED = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "AuthFailure"})
_UNSUPPORTED = frozenset({"NotImplemented", "MethodNotAllowed"})


class S3ModelStore:
    """Objects `<prefix><algorithm>/<hex digits>` in a bucket. Methods may be called from any thread.

    The server is connected to at the first call; the bucket is made where it is missing.

    Args:
        endpoint: host[:port], without a scheme.
        secure: HTTPS; its certificate is checked against `ca_file`, or the system's authorities where that is None.
        retention_days: objects cannot be deleted for so long (Object Lock, mode COMPLIANCE); None or 0: no lock.
        prefix: put before each object's name, for a bucket that others use too.

    Raises:
        InvalidInput: (`bad_endpoint`) endpoint, bucket name or keys are malformed.
        Conflict: (`bucket_without_object_lock`) at the first call: the bucket cannot retain anything.
    """

    def __init__(
        self,
        endpoint: str,
        bucket: str,
        access_key: str,
        secret_key: str,
        *,
        region: str | None = None,
        secure: bool = True,
        ca_file: Path | str | None = None,
        retention_days: int | None = None,
        prefix: str = "",
    ) -> None:
        self._bucket, self._prefix = bucket, prefix
        self._retention = datetime.timedelta(days=retention_days) if retention_days else None
        self._where = f"s3 {endpoint}/{bucket}"
        self._setup_lock = threading.Lock()
        self._is_set_up = False
        self._is_versioned = False
        self._http = _Http(
            num_pools=4,
            maxsize=_CONNECTIONS,
            timeout=_TIMEOUT,
            retries=_RETRIES,
            cert_reqs="CERT_REQUIRED",
            ca_certs=None if ca_file is None else str(ca_file),
        )
        try:
            self._client = minio.Minio(
                endpoint,
                access_key=access_key,
                secret_key=secret_key,
                region=region,
                secure=secure,
                http_client=self._http,
            )
        except ValueError as error:
            raise InvalidInput(
                "bad_endpoint",
                f"the address of the S3 server is malformed: {error}",
                fix="Give host or host:port; `secure` chooses between https and http.",
                where={"endpoint": endpoint},
            ) from error

    def put(self, object_id: str, chunks: Iterable[bytes | bytearray | memoryview], size_bytes: int) -> None:
        name = self._name(object_id)
        with self._calls():
            if self._find(name) is not None:
                return
        with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as spool:
            for chunk in verified(object_id, chunks, size_bytes):
                with self._calls():
                    spool.write(chunk)
            with self._calls():
                spool.seek(0)
                self._upload(name, cast(BinaryIO, spool), size_bytes)

    def read(self, object_id: str, offset: int = 0) -> Iterator[bytes]:
        check_offset(offset)
        name = self._name(object_id)
        position = offset
        while True:
            with self._calls(object_id):
                response = self._open(name, position)
            if response is None:
                return
            started_at = position
            try:
                for piece in response.stream(PIECE_BYTES):
                    position += len(piece)
                    yield piece
                return
            except urllib3.exceptions.HTTPError as error:
                # The connection broke. Go on where it broke, unless it broke before it had brought anything.
                if position == started_at:
                    raise store_away(self._where, error) from error
            finally:
                response.close()
                response.release_conn()

    def stat(self, object_id: str) -> StoredObject:
        with self._calls():
            found = self._find(self._name(object_id))
        if found is None:
            raise no_such_object(object_id)
        return _stored(object_id, found)

    def delete(self, object_id: str) -> None:
        name = self._name(object_id)
        with self._calls():
            if self._is_versioned:
                # Deleting without a version would only hide the object behind a marker.
                listed = self._client.list_objects(self._bucket, prefix=name, include_version=True)
                for version in [entry for entry in listed if entry.object_name == name]:
                    self._delete_version(object_id, name, version)
            else:
                self._client.remove_object(self._bucket, name)

    def objects(self) -> Iterator[StoredObject]:
        with self._calls():
            for found in self._client.list_objects(self._bucket, prefix=self._prefix, recursive=True):
                object_id = (found.object_name or "").removeprefix(self._prefix).replace("/", ":", 1)
                if is_digest(object_id):
                    yield _stored(object_id, found)

    def close(self) -> None:
        self._http.clear()

    def _name(self, object_id: str) -> str:
        algorithm, digits = check_digest(object_id)
        return f"{self._prefix}{algorithm}/{digits}"

    def _find(self, name: str) -> Any | None:
        try:
            return self._client.stat_object(self._bucket, name)
        except S3Error as error:
            if error.code in _MISSING:
                return None
            raise

    def _open(self, name: str, offset: int) -> Any | None:
        """A response with the bytes from `offset` on; None where there are none. S3Error where there is no object."""
        try:
            return self._client.get_object(self._bucket, name, offset=offset)
        except S3Error as error:
            if error.code == "InvalidRange":
                return None
            raise

    def _upload(self, name: str, data: BinaryIO, size_bytes: int) -> None:
        retention = None
        if self._retention is not None:
            retention = Retention(COMPLIANCE, datetime.datetime.now(datetime.UTC) + self._retention)
        self._client.put_object(
            self._bucket,
            name,
            data,
            size_bytes,
            part_size=_PART_BYTES,
            num_parallel_uploads=_PARALLEL_PARTS,
            retention=retention,
        )

    def _delete_version(self, object_id: str, name: str, version: Any) -> None:
        try:
            self._client.remove_object(self._bucket, name, version_id=version.version_id)
        except S3Error as error:
            until = self._retained_until(name, version.version_id)
            if until is None or until <= datetime.datetime.now(datetime.UTC):
                raise
            raise Conflict(
                "object_retained",
                "an object cannot be deleted before its retention ends",
                fix=f"Wait until {until.isoformat(timespec='seconds')}.",
                where={"object": object_id, "store": self._where},
            ) from error

    def _retained_until(self, name: str, version_id: str) -> datetime.datetime | None:
        try:
            retention = self._client.get_object_retention(self._bucket, name, version_id=version_id)
        except S3Error:
            return None
        return None if retention is None else retention.retain_until_date

    @contextlib.contextmanager
    def _calls(self, object_id: str = "") -> Iterator[None]:
        """For calls of the client: the bucket is made ready first, and the client's errors become ours."""
        try:
            with self._setup_lock:
                if not self._is_set_up:
                    self._set_up()
                    self._is_set_up = True
            yield
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            if object_id and isinstance(error, S3Error) and error.code in _MISSING:
                raise no_such_object(object_id) from None
            raise _translated(error, self._where) from error

    def _set_up(self) -> None:
        if not self._client.bucket_exists(self._bucket):
            try:
                self._client.make_bucket(self._bucket, object_lock=self._retention is not None)
            except S3Error as error:
                if error.code != "BucketAlreadyOwnedByYou":  # another process made it just now
                    raise
        try:
            self._is_versioned = self._client.get_bucket_versioning(self._bucket).status != "Off"
        except S3Error as error:
            if error.code not in _UNSUPPORTED:
                raise
        if self._retention is not None:
            self._check_object_lock()

    def _check_object_lock(self) -> None:
        try:
            self._client.get_object_lock_config(self._bucket)
        except S3Error as error:
            if error.code not in {"ObjectLockConfigurationNotFoundError", *_UNSUPPORTED}:
                raise
            raise Conflict(
                "bucket_without_object_lock",
                "models shall be retained, but the bucket was made without Object Lock",
                fix="Name a bucket that does not exist yet, so that it is made with Object Lock, or give no retention.",
                where={"store": self._where},
            ) from error


class _Http(urllib3.PoolManager):
    """Some servers send S3's errors as text/xml; the client reads only application/xml."""

    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> urllib3.BaseHTTPResponse:  # type: ignore[override]
        response = super().urlopen(method, url, redirect, **kw)
        if response.headers.get("content-type", "").partition(";")[0].strip() == "text/xml":
            response.headers["content-type"] = "application/xml"
        return response


def _stored(object_id: str, found: Any) -> StoredObject:
    return StoredObject(object_id, found.size, found.last_modified.timestamp())


def _translated(error: MinioException | urllib3.exceptions.HTTPError | OSError, where: str) -> FednError:
    if isinstance(error, S3Error) and error.code in _REFUSED:
        return StoreUnavailable(
            "store_refused",
            f"the model store refuses us: {error.message} ({error.code})",
            fix="Check the access key, the secret key and their rights on this bucket.",
            where={"store": where},
        )
    if isinstance(error, S3Error) and error.code in _FULL:
        return store_full(where, error.message)
    if isinstance(error, OSError) and error.errno in FULL_ERRNOS:
        return store_full(f"{tempfile.gettempdir()} (spool of {where})", error)
    return store_away(where, error)
