"""idx files, the format of MNIST and its kin, gzipped or not: strict in what they say, bounded in what they cost.

The format (as MNIST's page had it): two zero bytes, a byte for the type, a byte for the number of dimensions, each
dimension as 4 bytes big-endian, then the numbers, big-endian, the last dimension fastest. Nothing follows.
"""

import gzip
import io
import math
import struct
import zlib
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from fedn.protocol.errors import InvalidInput, LimitExceeded

Array = np.ndarray[Any, Any]

MAX_BYTES = 1 << 28
"""Default limit of a file's size, in bytes, unpacked: five times the largest of MNIST's."""
MAX_DIMENSIONS = 8

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}
_CODES = {np.dtype(name): code for code, name in _TYPES.items()}
_GZIP_MAGIC = b"\x1f\x8b"
_PIECE_BYTES = 1 << 20
_DAMAGE = (gzip.BadGzipFile, zlib.error, EOFError)


def read_idx(path: Path, *, max_bytes: int = MAX_BYTES) -> Array:
    """The array of an idx file, in this machine's byte order.

    Raises:
        InvalidInput: (`bad_idx_file`) damaged, cut short, too long, or of another format.
        LimitExceeded: (`idx_file_too_large`) more than `max_bytes` when unpacked.
        OSError: of the path.
    """
    return decode_idx(read_unpacked(path, max_bytes=max_bytes), source=str(path))


def read_unpacked(path: Path, *, max_bytes: int = MAX_BYTES) -> bytearray:
    """A file's content, unpacked where it is gzipped; raises as `read_idx`, but looks at nothing of what is inside."""
    if path.exists() and not path.is_file():
        _refuse("it is no plain file", str(path))
    with path.open("rb") as file:
        return unpack(file, source=str(path), max_bytes=max_bytes)


def unpack(file: IO[bytes], *, source: str, max_bytes: int = MAX_BYTES) -> bytearray:
    """What is left in a file that can seek, unpacked where it is gzipped; raises as `read_idx`."""
    start = file.tell()
    packed = file.read(2) == _GZIP_MAGIC
    file.seek(start)
    content = bytearray()
    stream = gzip.GzipFile(fileobj=file) if packed else file
    try:
        # One byte more than is allowed is enough to know, however much a bomb would unpack to.
        while piece := stream.read(min(_PIECE_BYTES, max_bytes + 1 - len(content))):
            content += piece
    except _DAMAGE as error:
        raise InvalidInput(
            "bad_idx_file",
            f"the gzipped file is damaged: {error}",
            fix="Get it again.",
            where={"file": source},
        ) from error
    if len(content) > max_bytes:
        raise LimitExceeded(
            "idx_file_too_large",
            f"the file holds more than the {max_bytes} bytes that are allowed",
            where={"file": source},
        )
    return content


def decode_idx(content: bytes | bytearray, *, source: str = "the bytes") -> Array:
    """The array in the bytes of an idx file that is not gzipped; one of single bytes shares their memory.

    Raises:
        InvalidInput: (`bad_idx_file`).
    """
    if len(content) < 4:
        _refuse(f"it has {len(content)} bytes, too few for a header", source)
    zeros, code, dimensions = struct.unpack_from(">HBB", content)
    if zeros != 0 or code not in _TYPES:
        _refuse(f"it begins with {bytes(content[:4]).hex(' ')}, which is no idx header", source)
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        _refuse(f"it says that it has {dimensions} dimensions; 1 to {MAX_DIMENSIONS} can be read", source)
    start = 4 + 4 * dimensions
    if len(content) < start:
        _refuse(f"it ends within its header, after {len(content)} bytes", source)
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    dtype = np.dtype(_TYPES[code]).newbyteorder(">")
    wanted = math.prod(shape) * dtype.itemsize
    if len(content) - start != wanted:
        _refuse(f"{'×'.join(map(str, shape))} numbers take {wanted} bytes, but it has {len(content) - start}", source)
    numbers = np.frombuffer(content, dtype, offset=start) if wanted else np.empty(0, dtype)
    return numbers.astype(dtype.newbyteorder("="), copy=False).reshape(shape)


def encode_idx(array: Array, *, packed: bool = False) -> bytes:
    """The bytes of an idx file; equal for equal arrays, gzipped ones too.

    Raises:
        InvalidInput: (`bad_idx_file`) a type or number of dimensions that the format, or `read_idx`, does not have.
    """
    code = _CODES.get(array.dtype.newbyteorder("="))
    if code is None or not 1 <= array.ndim <= MAX_DIMENSIONS:
        _refuse(f"an array of {array.dtype} with {array.ndim} dimensions cannot be one", "the array")
    header = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    content = header + array.astype(array.dtype.newbyteorder(">")).tobytes()
    if not packed:
        return content
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", mtime=0) as file:
        file.write(content)
    return buffer.getvalue()


def _refuse(fault: str, source: str) -> NoReturn:
    raise InvalidInput(
        "bad_idx_file", f"this is not an idx file: {fault}", fix="Get or write it again.", where={"file": source}
    )
