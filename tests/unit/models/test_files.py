import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fedn.models.files import read_tensors, to_npz, write_tensors
from fedn.models.wire import encode
from fedn.protocol.errors import InvalidInput, LimitExceeded
from tests.support.models import assert_same_model

MODEL = {"z": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array(5), "empty": np.zeros((0, 2), np.uint8)}


def npz(**members: bytes) -> bytes:
    """A zip archive with these members, `.npy` added to their names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_a_written_file_is_read_back_in_order(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    write_tensors(path, MODEL)
    assert_same_model(read_tensors(path), MODEL)
    assert_same_model(read_tensors(str(path)), MODEL)
    assert_same_model(read_tensors(path.read_bytes()), MODEL)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes(encode(MODEL))
    assert_same_model(read_tensors(path), MODEL)


def test_what_numpy_writes_is_read(tmp_path: Path) -> None:
    arrays = [np.zeros(3), np.asfortranarray(np.arange(6).reshape(2, 3)), np.ones(2, ">f4")]
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "model.npz", *arrays)
        tensors = read_tensors(tmp_path / "model.npz")
        assert list(tensors) == ["arr_0", "arr_1", "arr_2"]
        for array, tensor in zip(arrays, tensors.values(), strict=True):
            np.testing.assert_array_equal(tensor, array)
        assert tensors["arr_2"].dtype == np.dtype("<f4")


def test_numpy_reads_what_is_written_and_equal_models_give_equal_files() -> None:
    content = bytes(to_npz(MODEL))
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        assert_same_model(dict(archive), MODEL)
    assert content == bytes(to_npz(MODEL))


def test_npz_has_no_bfloat16() -> None:
    with pytest.raises(InvalidInput, match="bfloat16"):
        to_npz({"a": np.zeros(1, ml_dtypes.bfloat16)})


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_tensors(path, MODEL)
    before = path.read_bytes()
    with pytest.raises(InvalidInput):
        write_tensors(path, {"a": np.array(["text"])})
    with pytest.raises(InvalidInput, match=r"not in '.h5'"):
        write_tensors(tmp_path / "model.h5", MODEL)
    with pytest.raises(FileNotFoundError):
        write_tensors(tmp_path / "none" / "model.npz", MODEL)
    target = tmp_path / "folder.npz"
    target.mkdir()
    with pytest.raises(IsADirectoryError):
        write_tensors(target, MODEL)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder.npz", "model.safetensors"]


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".pickle", ".joblib", ".PT"])
def test_pickled_files_are_refused_by_name_unread(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InvalidInput, match="runs code") as caught:
        read_tensors(tmp_path / f"model{suffix}")
    assert caught.value.code == "pickled_file"


class Trap:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("the pickle was read",))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_are_refused_whatever_they_are_called(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps(Trap(), protocol)
    (tmp_path / "model.safetensors").write_bytes(content)
    for source in (content, tmp_path / "model.safetensors"):
        with pytest.raises(InvalidInput) as caught:
            read_tensors(source)
        assert caught.value.code == "pickled_file"


def test_a_torch_archive_is_refused_as_a_pickle() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    with pytest.raises(InvalidInput) as caught:
        read_tensors(buffer.getvalue())
    assert caught.value.code == "pickled_file"


def test_a_safetensors_header_whose_length_begins_like_a_pickle_is_read() -> None:
    # Headers are padded so that their length is 128 more than a multiple of 256: the first byte is that of a pickle.
    for name in ("short", "long" * 200):
        text = bytes(encode({name: np.zeros(1)}))[8:-8].rstrip(b" ")
        text += b" " * ((0x80 - len(text)) % 256)
        assert list(read_tensors(len(text).to_bytes(8, "little") + text + bytes(8))) == [name]


def test_object_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "model.npz", a=np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidInput, match="dtype object"):
        read_tensors(tmp_path / "model.npz")


FLOATS = "{'descr': '<f8', 'fortran_order': False, 'shape': (%s,), }"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"PK\x03\x04 broken", "cannot be read", id="broken zip"),
        pytest.param(npz(a=b"no array"), "cannot be read", id="no array"),
        pytest.param(npz(a=npy(FLOATS % 2, b"0" * 15)), "ends after 15 of 16", id="cut off"),
        pytest.param(npz(a=npy(FLOATS % -1)), "shape", id="negative size"),
        pytest.param(npz(a=npy(FLOATS % f"0, {2**62}, {2**62}")), "cannot be read", id="empty but too large"),
        pytest.param(npz(a=npy("{'descr': '<f8'")), "cannot be read", id="broken header"),
        pytest.param(npz(a=npy("__import__('os')")), "cannot be read", id="code for a header"),
        pytest.param(npz(a=b"\x93NUMPY\x03\x00" + bytes(9)), "npy version", id="unknown version"),
        pytest.param(
            npz(a=npy("{'descr': '<c8', 'fortran_order': False, 'shape': (), }")), "dtype complex", id="complex"
        ),
        pytest.param(b"\x89HDF\r\n\x1a\n", "HDF5", id="hdf5"),
    ],
)
def test_damaged_files_are_refused_with_the_reason(content: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        read_tensors(content)
    assert caught.value.code == "bad_model_file"


def test_members_that_are_no_arrays_or_come_twice_are_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", b"")
    with pytest.raises(InvalidInput, match="no array"):
        read_tensors(buffer.getvalue())
    buffer = io.BytesIO(npz(a=npy(FLOATS % 0)))
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.npy", npy(FLOATS % 0))
    with pytest.raises(InvalidInput, match="twice"):
        read_tensors(buffer.getvalue())


def test_a_zip_bomb_is_refused_by_what_it_unpacks_to() -> None:
    content = npz(a=npy(FLOATS % 2**20, bytes(2**23)), b=npy(FLOATS % 2**20, bytes(2**23)))
    assert len(content) < 2**15
    assert len(read_tensors(content, max_bytes=2**24)) == 2
    with pytest.raises(LimitExceeded) as caught:
        read_tensors(content, max_bytes=2**24 - 1)
    assert caught.value.code == "model_too_large"
    with pytest.raises(LimitExceeded):
        read_tensors(npz(a=npy(FLOATS % 2**50)), max_bytes=2**30)


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "model").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(LimitExceeded):
        read_tensors(tmp_path / "model")
    with pytest.raises(LimitExceeded):
        read_tensors(b"12345", max_bytes=4)
