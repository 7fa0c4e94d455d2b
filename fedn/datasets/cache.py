"""Files of public data sets, downloaded once for each user: checked by digest whenever they are read.

A file comes into the cache whole, by a rename, so that nobody reads half of one. Who downloads holds the folder's lock:
two clients that start at once download once. What does not have its digest (a disk fault, another's doing) is
downloaded anew, never used.
"""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError

from fedn.datasets.idx import read_unpacked, unpack
from fedn.protocol.errors import FednError, IntegrityError, InvalidInput, LimitExceeded, Unavailable

CACHE_VARIABLE = "FEDN_DATASETS_CACHE"

_MAX_PACKED_BYTES = 1 << 26
_CONNECT_S, _SILENCE_S = 10.0, 30.0
"""Seconds to connect, and without a byte, until a server is given up."""
_REDIRECTS = 5
_PIECE_BYTES = 1 << 18
_PART = ".part-"
_ELSEWHERE = (
    "Where there is no internet: on Debian and Ubuntu, apt-get install dataset-fashion-mnist; or put the four files "
    "into the site's data directory, or into a folder fashion-mnist (or mnist) of the folder that FEDN_DATASETS_DIR "
    "names; or name a mirror by FEDN_DATASETS_URL."
)


def cache_folder(environ: Mapping[str, str]) -> Path:
    """FEDN_DATASETS_CACHE; else `fedn/datasets` in XDG_CACHE_HOME, or in ~/.cache. It may not be there yet.

    Raises:
        FednError: (`dataset_cache_unusable`) this user has no home directory.
    """
    if stated := environ.get(CACHE_VARIABLE):
        return Path(stated)
    base = environ.get("XDG_CACHE_HOME", "")
    try:
        # The specification says that a relative one must be ignored.
        root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    except RuntimeError as error:
        raise _unusable(Path("~/.cache"), str(error)) from error
    return root / "fedn" / "datasets"


def cached_file(folder: Path, name: str, urls: Sequence[str], sha256: str) -> bytearray:
    """The unpacked content of a gzipped file in `folder`, downloaded from the first of `urls` that has it right.

    Args:
        folder: of the cache; made where it is not there.
        name: of the file, there and below each URL.
        urls: http or https.
        sha256: hexadecimal, of the unpacked content.

    Raises:
        Unavailable: (`dataset_unavailable`) no URL gave it.
        IntegrityError: (`dataset_damaged`) what was downloaded does not have the digest.
        InvalidInput: (`bad_dataset_url`).
        FednError: (`dataset_cache_unusable`) the folder cannot be written.
    """
    path = folder / name
    if (content := _checked(path, sha256)) is not None:
        return content
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(folder):
            content = _checked(path, sha256)  # another process may have been quicker
            return _download(path, urls, sha256) if content is None else content
    except OSError as error:
        raise _unusable(folder, error.strerror or str(error)) from error


def _checked(path: Path, sha256: str) -> bytearray | None:
    """The content of a file that is there and has its digest."""
    try:
        content = read_unpacked(path)
    except (OSError, InvalidInput, LimitExceeded):
        return None
    return content if hashlib.sha256(content).hexdigest() == sha256 else None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Only one process at a time; what a killed one left half-written is removed."""
    with (folder / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.glob(f"{_PART}*"):
            left.unlink(missing_ok=True)
        yield


def _download(path: Path, urls: Sequence[str], sha256: str) -> bytearray:
    faults: list[FednError] = []
    for url in urls:
        descriptor, temporary = tempfile.mkstemp(prefix=_PART, dir=path.parent)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                _fetch(f"{url}/{path.name}", file)
                content = _taken(file, f"{url}/{path.name}", sha256)
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            os.replace(temporary, path)
            return content
        except (Unavailable, IntegrityError) as error:
            faults.append(error)
        finally:
            Path(temporary).unlink(missing_ok=True)
    damaged = next((fault for fault in faults if isinstance(fault, IntegrityError)), None)
    if damaged is not None:
        raise damaged
    reasons = "; ".join(fault.message for fault in faults)
    raise Unavailable("dataset_unavailable", f"{path.name} cannot be downloaded: {reasons}", fix=_ELSEWHERE)


def _fetch(url: str, file: IO[bytes]) -> None:
    """Writes what a URL gives into a file. Raises Unavailable, or InvalidInput (`bad_dataset_url`)."""
    try:
        parts = urlsplit(url)
        host, scheme = parts.hostname, parts.scheme
    except ValueError:
        host, scheme = None, ""
    if scheme not in {"http", "https"} or not host:
        raise InvalidInput(
            "bad_dataset_url",
            f"{url!r} is no address to download from",
            fix="Give FEDN_DATASETS_URL as https://host/folder; the data sets are folders in it.",
        )
    proxy = None if proxy_bypass(host) else getproxies().get(scheme)
    retries = urllib3.Retry(total=_REDIRECTS, connect=1, read=0, redirect=_REDIRECTS, status=0, other=0)
    timeout = urllib3.Timeout(connect=_CONNECT_S, read=_SILENCE_S)
    pool = urllib3.ProxyManager(proxy) if proxy else urllib3.PoolManager()
    try:
        with pool:
            answer = pool.request("GET", url, preload_content=False, retries=retries, timeout=timeout)
            try:
                if answer.status != 200:
                    raise Unavailable("dataset_unavailable", f"{url} answers with status {answer.status}")
                size = 0
                # As it comes: a server that says "Content-Encoding: gzip" means the file that we want.
                for piece in answer.stream(_PIECE_BYTES, decode_content=False):
                    size += len(piece)
                    if size > _MAX_PACKED_BYTES:
                        raise Unavailable("dataset_unavailable", f"{url} gives more than {_MAX_PACKED_BYTES} bytes")
                    file.write(piece)
            finally:
                answer.close()
    except HTTPError as error:
        raise Unavailable("dataset_unavailable", f"{url}: {error}") from error


def _taken(file: IO[bytes], url: str, sha256: str) -> bytearray:
    """The unpacked content of a downloaded file. IntegrityError (`dataset_damaged`) where it is not what it must be."""
    file.flush()
    file.seek(0)
    try:
        content = unpack(file, source=url)
    except (InvalidInput, LimitExceeded) as error:
        raise _damaged(url, error.message) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise _damaged(url, f"its SHA-256 is {found}, not {sha256}")
    return content


def _damaged(url: str, fault: str) -> IntegrityError:
    return IntegrityError(
        "dataset_damaged",
        f"what was downloaded is not the data set: {fault}",
        fix=f"A proxy may have answered instead, or the mirror has other files. {_ELSEWHERE}",
        where={"url": url},
    )


def _unusable(folder: Path, why: str) -> FednError:
    return FednError(
        "dataset_cache_unusable",
        f"downloaded data sets cannot be kept: {why}",
        fix=f"Set {CACHE_VARIABLE} to a folder that this user may write. {_ELSEWHERE}",
        where={"folder": folder},
    )
