"""A model store in a bucket of an S3 server (MinIO, AWS and the like), optionally under Object Lock.

An object is checked in a temporary file before a byte of it is sent, and S3 shows an object only when it is complete:
what can be read is what its name says. Under retention nobody, the owner included, can delete a model before its time.
An upload that a crash cut off is never seen; the server's own rule for incomplete uploads removes its parts.
"""

import base64
import contextlib
import datetime
import hashlib
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

import minio
import urllib3
from minio.commonconfig import COMPLIANCE
from minio.error import MinioException, S3Error
from minio.helpers import check_bucket_name
from minio.retention import Retention

from fedn.protocol.errors import Conflict, FednError, InvalidInput, StoreUnavailable
from fedn.protocol.names import check_digest, is_digest
from fedn.stores.base import StoredObject
from fedn.stores.content import (
    FULL_ERRNOS,
    PIECE_BYTES,
    Buffer,
    Checked,
    check_offset,
    no_such_object,
    put_through,
    store_away,
    store_full,
)

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
_RETAINED_UNTIL = "x-amz-object-lock-retain-until-date"
_UNSUPPORTED = frozenset({"NotImplemented", "MethodNotAllowed"})


class S3ModelStore:
    """Objects `<prefix><algorithm>/<hex digits>` in a bucket. Methods may be called from any thread.

    The server is connected to at the first call; the bucket is made where it is missing. `stored_at` is good to a
    second.

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
            with_md5=self._retention is not None,
            num_pools=4,
            maxsize=_CONNECTIONS,
            timeout=_TIMEOUT,
            retries=_RETRIES,
            cert_reqs="CERT_REQUIRED",
            ca_certs=None if ca_file is None else str(ca_file),
        )
        try:
            if not endpoint:
                raise ValueError("it is empty")
            check_bucket_name(bucket, strict=True)
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
                f"the address of the S3 server or the bucket's name is malformed: {error}",
                fix="Give host or host:port; `secure` chooses between https and http.",
                where={"endpoint": endpoint, "bucket": bucket},
            ) from error

    def writer(self, algorithm: str, size_bytes: int) -> "_Writer":
        return _Writer(self, algorithm, size_bytes)

    def put(self, object_id: str, chunks: Iterable[Buffer], size_bytes: int) -> None:
        with self._calls():
            if self._is_there(self._name(object_id)):
                return
        put_through(self, object_id, chunks, size_bytes)

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

    def _is_there(self, name: str) -> bool:
        """Whether there is such an object; then it is retained as the setting wants it."""
        found = self._find(name)
        if found is not None:
            self._retain(name, found)
        return found is not None

    def _find(self, name: str, version_id: str | None = None) -> Any | None:
        try:
            return self._client.stat_object(self._bucket, name, version_id=version_id)
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
        self._client.put_object(
            self._bucket,
            name,
            data,
            size_bytes,
            part_size=_PART_BYTES,
            num_parallel_uploads=_PARALLEL_PARTS,
            retention=self._new_retention(),
        )
        if self._retention is not None:
            self._retain(name, self._client.stat_object(self._bucket, name))

    def _retain(self, name: str, found: Any) -> None:
        """Puts an object under retention that is not: it is older than the setting, or the server forgot to."""
        retention = self._new_retention()
        if retention is not None and not _is_retained(found):
            self._client.set_object_retention(self._bucket, name, retention, version_id=found.version_id)

    def _new_retention(self) -> Retention | None:
        if self._retention is None:
            return None
        return Retention(COMPLIANCE, datetime.datetime.now(datetime.UTC) + self._retention)

    def _delete_version(self, object_id: str, name: str, version: Any) -> None:
        try:
            self._client.remove_object(self._bucket, name, version_id=version.version_id)
        except S3Error as error:
            found = self._find(name, version.version_id)
            if found is None or not _is_retained(found):
                raise
            raise Conflict(
                "object_retained",
                "an object cannot be deleted before its retention ends",
                fix=f"Wait until {found.metadata[_RETAINED_UNTIL]}.",
                where={"object": object_id, "store": self._where},
            ) from error

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
            except S3Error:
                # Another process may have made it just now; servers say that in different ways.
                if not self._client.bucket_exists(self._bucket):
                    raise
        try:
            self._is_versioned = self._client.get_bucket_versioning(self._bucket).status is not None
        except S3Error as error:
            if error.code not in _UNSUPPORTED:
                raise
        if self._retention is not None:
            self._check_object_lock()

    def _check_object_lock(self) -> None:
        lockable = self._is_versioned  # Object Lock needs versions; some servers answer the question below anyhow
        try:
            self._client.get_object_lock_config(self._bucket)
        except S3Error as error:
            if error.code not in {"ObjectLockConfigurationNotFoundError", *_UNSUPPORTED}:
                raise
            lockable = False
        if not lockable:
            raise Conflict(
                "bucket_without_object_lock",
                "models shall be retained, but the bucket was made without Object Lock",
                fix="Name a bucket that does not exist yet, so that it is made with Object Lock, or give no retention.",
                where={"store": self._where},
            )


class _Writer:
    """Spools the object, checks it, and sends it once it is whole. Sending may be repeated."""

    def __init__(self, store: S3ModelStore, algorithm: str, size_bytes: int) -> None:
        self._store = store
        self._size_bytes = size_bytes
        self._checked = Checked(algorithm, size_bytes)
        self._spool = tempfile.SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115 (closed in `close`)

    def write(self, data: Buffer) -> None:
        view = self._checked.fitting(data)
        try:
            self._spool.seek(self._checked.received)
            self._spool.write(view)
        except OSError as error:
            raise _translated(error, self._store._where) from error
        self._checked.add(view)

    def digest(self) -> str:
        return self._checked.digest()

    def keep(self, object_id: str) -> None:
        self._checked.check(object_id)
        name = self._store._name(object_id)
        with self._store._calls():
            if not self._store._is_there(name):
                self._spool.seek(0)
                self._store._upload(name, cast(BinaryIO, self._spool), self._size_bytes)

    def close(self) -> None:
        self._spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Http(urllib3.PoolManager):
    """Mends two things between the client and servers.

    Some servers send S3's errors as text/xml; the client reads only application/xml. And S3 wants the MD5 of what is
    put under Object Lock (`with_md5`); the client sends it over HTTPS only.
    """

    def __init__(self, *, with_md5: bool, **options: Any) -> None:
        super().__init__(**options)
        self._with_md5 = with_md5

    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> urllib3.BaseHTTPResponse:  # type: ignore[override]
        if self._with_md5 and method == "PUT" and kw.get("body") and "content-md5" not in kw["headers"]:
            md5 = hashlib.md5(kw["body"], usedforsecurity=False).digest()
            kw["headers"]["content-md5"] = base64.b64encode(md5).decode()
        response = super().urlopen(method, url, redirect, **kw)
        if response.headers.get("content-type", "").partition(";")[0].strip() == "text/xml":
            response.headers["content-type"] = "application/xml"
        return response


def _stored(object_id: str, found: Any) -> StoredObject:
    return StoredObject(object_id, found.size, found.last_modified.timestamp())


def _is_retained(found: Any) -> bool:
    until = (found.metadata or {}).get(_RETAINED_UNTIL)
    return until is not None and datetime.datetime.fromisoformat(until) > datetime.datetime.now(datetime.UTC)


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
