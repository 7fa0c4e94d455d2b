"""Models as files: safetensors and npz. Formats that carry code (pickle) are refused.

Not here: the bytes of the wire (fedn.models.wire) and where federations keep models (fedn.stores).
"""

import io
import math
import os
import secrets
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from fedn.models.wire import DTYPES, Tensors, decode, encode
from fedn.protocol.errors import InvalidInput, LimitExceeded

MAX_BYTES = 8 * 2**30
"""Default limit of a model's size, in bytes, unpacked."""

_ZIP_MAGIC = b"PK\x03\x04"
_EMPTY_ZIP_MAGIC = b"PK\x05\x06"
_PICKLE_MAGIC = b"\x80"
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_PICKLED_SUFFIXES = {".pt", ".pth", ".bin", ".pkl", ".pickle", ".joblib"}
_MAX_MEMBERS = 1_000_000
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError),  # of the archive
    *(ValueError, SyntaxError, tokenize.TokenError),  # of an array's header, a Python literal
)
"""What zipfile and NumPy raise when they read damaged files."""


def read_tensors(source: Path | str | bytes, *, max_bytes: int = MAX_BYTES) -> Tensors:
    """The tensors of a safetensors or npz file, told apart by content; names and order are the file's.

    Args:
        source: path, or the file's bytes.
        max_bytes: of the file, and of the tensors together when unpacked.

    Raises:
        InvalidInput: (`bad_model`, `bad_model_file`) damaged, or neither format; (`pickled_file`) a file that would
            run code when it is read.
        LimitExceeded: (`model_too_large`) more than max_bytes.
        FileNotFoundError, PermissionError: of the path.
    """
    if isinstance(source, bytes):
        _limit(len(source), max_bytes, "the bytes")
        return _read(io.BytesIO(source), "the bytes", max_bytes)
    path = Path(source)
    if path.suffix.lower() in _PICKLED_SUFFIXES:
        _refuse_pickle(str(path))
    with path.open("rb") as file:
        _limit(os.fstat(file.fileno()).st_size, max_bytes, str(path))
        return _read(file, str(path), max_bytes)


def write_tensors(path: Path | str, tensors: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Writes a file of the format that the suffix names, .safetensors or .npz; whole or not at all.

    npz has no bfloat16: such tensors are refused there.

    Raises:
        InvalidInput: (`bad_model_file`) another suffix, or a dtype or name that the format cannot hold.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        content: bytes | bytearray | memoryview = encode(tensors)
    elif path.suffix == ".npz":
        content = to_npz(tensors)
    else:
        _refuse(f"a model file ends in .safetensors or .npz, not in {path.suffix!r}", str(path))
    write_bytes(path, content)


def write_bytes(path: Path, content: bytes | bytearray | memoryview) -> None:
    """Writes a file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def to_npz(tensors: Mapping[str, np.ndarray[Any, Any]]) -> memoryview:
    """The bytes of an uncompressed npz file, equal for equal mappings (numpy.savez would write the time)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in tensors.items():
            if array.dtype == DTYPES["BF16"]:
                _refuse(f"npz has no bfloat16, which tensor {name!r} is; write .safetensors", "npz")
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    return buffer.getbuffer()


def _read(file: BinaryIO, source: str, max_bytes: int) -> Tensors:
    head = file.read(8)
    file.seek(0)
    if head.startswith((_ZIP_MAGIC, _EMPTY_ZIP_MAGIC)):
        return _read_npz(file, source, max_bytes)
    if head.startswith(_PICKLE_MAGIC):
        # A pickle of protocol 2 or later, or a safetensors header of such a length: there, a brace follows it.
        file.seek(8)
        brace = file.read(1)
        file.seek(0)
        if brace != b"{":
            _refuse_pickle(source)
    if head == _HDF5_MAGIC:
        _refuse("it is an HDF5 file", source, "Read it with its framework: fedn model seed --helper keras.")
    return decode(file.read())


def _read_npz(file: BinaryIO, source: str, max_bytes: int) -> Tensors:
    tensors: Tensors = {}
    left = max_bytes
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > _MAX_MEMBERS:
                raise LimitExceeded("model_too_large", f"It has {len(members)} tensors", where={"file": source})
            for member in members:
                if not member.filename.endswith(".npy"):
                    if member.filename.endswith("data.pkl"):
                        _refuse_pickle(source)
                    _refuse(f"its member {member.filename!r} is no array", source)
                name = member.filename.removesuffix(".npy")
                if name in tensors:
                    _refuse(f"it has the array {name!r} twice", source)
                with archive.open(member) as stream:
                    tensors[name] = _read_array(stream, name, source, left)
                left -= tensors[name].nbytes
    except _DAMAGE as error:
        raise InvalidInput(
            "bad_model_file", f"The npz file cannot be read: {error}", fix="Write it again.", where={"file": source}
        ) from error
    return tensors


def _read_array(stream: Any, name: str, source: str, max_bytes: int) -> np.ndarray[Any, Any]:
    """One array of at most max_bytes; its header is believed only as far as bytes follow it."""
    version = np.lib.format.read_magic(stream)
    if version not in {(1, 0), (2, 0)}:
        _refuse(f"array {name!r} has the npy version {version}", source)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(stream)
    little = dtype.newbyteorder("<")
    if little not in DTYPES.values():
        _refuse(f"array {name!r} has dtype {dtype}; models hold only {', '.join(DTYPES)}", source)
    if any(size < 0 for size in shape):
        _refuse(f"array {name!r} has the shape {shape}", source)
    size_bytes = math.prod(shape) * dtype.itemsize
    _limit(size_bytes, max_bytes, source)
    content = bytearray()
    while len(content) < size_bytes:
        piece = stream.read(min(size_bytes - len(content), 2**20))
        if not piece:
            _refuse(f"array {name!r} ends after {len(content)} of {size_bytes} bytes", source)
        content += piece
    flat: np.ndarray[Any, Any] = np.frombuffer(content, dtype) if content else np.empty(0, dtype)
    array = flat.reshape(shape, order="F" if fortran_order else "C")
    return np.asarray(array, dtype=little)


def _limit(size_bytes: int, max_bytes: int, source: str) -> None:
    if size_bytes > max_bytes:
        raise LimitExceeded(
            "model_too_large",
            f"The model has at least {size_bytes} bytes, and {max_bytes} are allowed",
            fix="Raise max_model_bytes if this model is meant.",
            where={"file": source},
        )


def _refuse(fault: str, source: str, fix: str = "Write it as safetensors or npz.") -> NoReturn:
    raise InvalidInput("bad_model_file", f"The model file cannot be used: {fault}", fix=fix, where={"file": source})


def _refuse_pickle(source: str) -> NoReturn:
    raise InvalidInput(
        "pickled_file",
        "The file is a pickle, which runs code when it is read",
        fix="Save the tensors instead, e.g. by safetensors.torch.save_file(model.state_dict(), …) or numpy.savez.",
        where={"file": source},
    )
