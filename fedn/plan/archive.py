"""Folders as tar.gz, written the same to the byte each time, and read as if an enemy had written them.

The reader takes plain files and folders only, checks every header before it uses it, and never holds more than one
piece in memory. It does not know what a compute package is: that is `package`.
"""

import gzip
import io
import re
import tarfile
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fedn.protocol.errors import InvalidInput, LimitExceeded

_BLOCK = 512
_PIECE_BYTES = 1 << 16
_MAX_HEADER_BYTES = 1 << 16
_MAX_PATH_BYTES = 1024
_MAX_DEPTH = 32
_PAX_RECORD = re.compile(rb"(\d{1,6}) ([^=]+)=")

_FILE_TYPES = {tarfile.REGTYPE, tarfile.AREGTYPE}
_REFUSED_TYPES = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.CONTTYPE: "a contiguous file",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


@dataclass(frozen=True)
class PackageLimits:
    """Bounds on a packed archive and on what it unpacks to."""

    max_packed_bytes: int = 256 << 20
    max_unpacked_bytes: int = 1 << 30
    """Of everything in the archive, headers included."""
    max_files: int = 10_000
    """Files and folders."""


@dataclass(frozen=True)
class Member:
    """One file or folder of an archive."""

    path: str
    """Relative, with slashes, free of `.`, `..` and empty parts."""
    is_folder: bool
    executable: bool
    size_bytes: int


def pack(files: list[tuple[str, Path]]) -> bytes:
    """A tar.gz of (path in the archive, file on disk) pairs: equal files give equal bytes, whoever packs them."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=6, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, path in sorted(files):
            with path.open("rb") as file:
                content = file.read()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class ArchiveReader:
    """Members of a tar.gz, in order; the content of the current one by `pieces`.

    Args:
        source: the packed bytes.
        limits: bounds; exceeding one raises at the member that does.

    Raises:
        InvalidInput: `bad_archive` (no tar.gz, damaged, cut off), `unsafe_path`, `unsafe_member`.
        LimitExceeded: (`package_too_large`).
    """

    def __init__(self, source: BinaryIO, limits: PackageLimits) -> None:
        self._stream = _Inflater(source, limits)
        self._limits = limits
        self._left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[Member]:
        count = 0
        known: dict[str, bool] = {}
        while (member := self._next()) is not None:
            count += 1
            if count > self._limits.max_files:
                raise _too_large(f"it holds more than {self._limits.max_files} files and folders")
            if member.path:
                _check_place(member, known)
                yield member
        self._stream.drain()

    def pieces(self) -> Iterator[bytes]:
        """Content of the current member, in pieces of at most 64 KiB."""
        while self._left:
            piece = self._stream.read(min(self._left, _PIECE_BYTES))
            self._left -= len(piece)
            yield piece

    def _next(self) -> Member | None:
        """The next file or folder, after the headers that only say something about it; None at the end."""
        for _ in self.pieces():
            pass
        self._stream.read(self._padding)
        self._padding = 0
        long_name: str | None = None
        size: int | None = None
        while True:
            block = self._stream.read(_BLOCK)
            if block == bytes(_BLOCK):
                return None
            info = _header(block)
            if info.type == tarfile.GNUTYPE_LONGNAME:
                long_name = _text(self._extension(info).rstrip(b"\0"))
            elif info.type == tarfile.XHDTYPE:
                name, size = _pax(self._extension(info))
                long_name = name if name is not None else long_name
            elif info.type == tarfile.XGLTYPE:
                # `git archive` writes a comment so. Anything that would change every member is refused.
                if _pax(self._extension(info)) != (None, None):
                    raise _bad_archive("a global header renames or resizes members")
            else:
                break
        return self._member(info, long_name, size)

    def _member(self, info: tarfile.TarInfo, long_name: str | None, size: int | None) -> Member:
        name = long_name if long_name is not None else info.name
        if info.type not in _FILE_TYPES and info.type != tarfile.DIRTYPE:
            raise InvalidInput(
                "unsafe_member",
                f"the archive holds {_REFUSED_TYPES.get(info.type, 'something that is no file')}, which is refused",
                fix="Pack plain files and folders only, for example with `fedn package create`.",
                where={"member": name[:200].encode("utf-8", "replace").decode()},
            )
        is_folder = info.type == tarfile.DIRTYPE
        size_bytes = 0 if is_folder else (size if size is not None else info.size)
        self._left, self._padding = size_bytes, -size_bytes % _BLOCK
        # `tar -c .` begins with the folder itself.
        path = "" if is_folder and name in {".", "./"} else _safe_path(name)
        return Member(path, is_folder, bool(info.mode & 0o100), size_bytes)

    def _extension(self, info: tarfile.TarInfo) -> bytes:
        if info.size > _MAX_HEADER_BYTES:
            raise _too_large("a header in it is unreasonably long")
        content = self._stream.read(info.size)
        self._stream.read(-info.size % _BLOCK)
        return content


class _Inflater:
    """Exactly as many unpacked bytes as asked for, and never more in memory than one piece on top."""

    def __init__(self, source: BinaryIO, limits: PackageLimits) -> None:
        self._source = source
        self._limits = limits
        self._inflate = zlib.decompressobj(wbits=31)
        self._packed = 0
        self._unpacked = 0
        self._buffer = bytearray()

    def read(self, size: int) -> bytes:
        """`size` bytes; InvalidInput (`bad_archive`) where the archive ends before."""
        while len(self._buffer) < size:
            if not self._more():
                raise _bad_archive("it is cut off")
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def drain(self) -> None:
        """Reads what follows the end mark, so that the checksum at the end of the gzip stream is verified."""
        while True:
            if self._buffer.count(0) != len(self._buffer):
                raise _bad_archive("something follows its end")
            self._buffer.clear()
            if not self._more():
                break
        if not self._inflate.eof:
            raise _bad_archive("it is cut off")
        if self._inflate.unused_data or self._source.read(1):
            raise _bad_archive("something follows its end")

    def _more(self) -> bool:
        """Unpacks one piece; False at the end of the stream."""
        if self._inflate.eof:
            return False
        packed = self._inflate.unconsumed_tail
        if not packed:
            packed = self._source.read(_PIECE_BYTES)
            self._packed += len(packed)
            if self._packed > self._limits.max_packed_bytes:
                raise _too_large(f"it is larger than {self._limits.max_packed_bytes} bytes")
        try:
            piece = self._inflate.decompress(packed, _PIECE_BYTES)
        except zlib.error as error:
            raise _bad_archive("it is no gzip file, or damaged") from error
        if not packed and not piece:
            return False
        self._unpacked += len(piece)
        if self._unpacked > self._limits.max_unpacked_bytes:
            raise _too_large(f"it unpacks to more than {self._limits.max_unpacked_bytes} bytes")
        self._buffer += piece
        return True


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        raise _bad_archive("a header in it is damaged") from error
    if info.size < 0:
        raise _bad_archive("a header in it is damaged")
    return info


def _pax(content: bytes) -> tuple[str | None, int | None]:
    """(path, size) that an extended header sets. The rest of what it may say (times, owners) does not matter here."""
    path, size, position = None, None, 0
    while position < len(content):
        match = _PAX_RECORD.match(content, position)
        end = position + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(content) or content[end - 1 : end] != b"\n":
            raise _bad_archive("an extended header in it is damaged")
        key, value = match[2], content[match.end() : end - 1]
        if key == b"path":
            path = _text(value)
        elif key == b"size":
            if not re.fullmatch(rb"\d{1,18}", value):
                raise _bad_archive("an extended header in it is damaged")
            size = int(value)
        elif key.startswith(b"GNU.sparse") or key == b"hdrcharset":
            raise _bad_archive("it uses sparse files or an odd character set")
        position = end
    return path, size


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _safe_path(name: str) -> str:
    """A relative path that stays where it is put, on any system."""
    parts = [part for part in name.rstrip("/").split("/") if part != "."]
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        size = 0
    safe = (
        0 < size <= _MAX_PATH_BYTES
        and 0 < len(parts) <= _MAX_DEPTH
        and all(0 < len(part.encode()) <= 255 and part != ".." for part in parts)
        and not any(unicodedata.category(character) in {"Cc", "Cs"} or character in "\\:" for character in name)
    )
    if not safe:
        raise InvalidInput(
            "unsafe_path",
            "a path in the archive is absolute, leads out of it, or has characters that no path should have",
            fix="Pack the folder's own files only, for example with `fedn package create`.",
            where={"member": ascii(name[:200])},
        )
    return "/".join(parts)


def _check_place(member: Member, known: dict[str, bool]) -> None:
    """Each path once, also where case is ignored, and nothing below a file. `known`: path to whether it is a folder."""
    folded = unicodedata.normalize("NFC", member.path).casefold()
    if folded in known and not (known[folded] and member.is_folder):
        raise _bad_archive(f"{member.path!r} is in it twice, or beside a name that differs only in case")
    parts = folded.split("/")
    for length in range(1, len(parts)):
        if not known.setdefault("/".join(parts[:length]), True):
            raise _bad_archive(f"{member.path!r} lies below a file")
    known[folded] = member.is_folder


def _bad_archive(why: str) -> InvalidInput:
    return InvalidInput(
        "bad_archive",
        f"this is no good tar.gz archive: {why}",
        fix="Pack it again, for example with `fedn package create`.",
    )


def _too_large(why: str) -> LimitExceeded:
    return LimitExceeded(
        "package_too_large",
        f"the archive is too large: {why}",
        fix="Leave data and environments out (.fednignore), or raise max_package_bytes.",
    )
