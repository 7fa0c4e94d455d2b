"""The archive reader against what tarfile writes, and against noise."""

import contextlib
import gzip
import io
import json
import tarfile
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.plan.archive import ArchiveReader, PackageLimits
from fedn.plan.package import build_package, inspect_package, read_manifest, unpack_package
from fedn.protocol.errors import FednError

LIMITS = PackageLimits(max_packed_bytes=1 << 20, max_unpacked_bytes=1 << 22, max_files=100)
PART = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/\\:"), min_size=1, max_size=20
).filter(lambda part: part not in {".", ".."} and len(part.encode()) <= 60)
PATHS = st.lists(PART, min_size=1, max_size=5).map("/".join)


def distinct(files: dict[str, bytes]) -> bool:
    """No two paths that some file system would take for the same, and none below another."""
    folded = [unicodedata.normalize("NFC", path).casefold() for path in files]
    return len(set(folded)) == len(folded) and not any(
        other.startswith(path + "/") for path in folded for other in folded
    )


FILES = st.dictionaries(PATHS, st.binary(max_size=2000), max_size=6).filter(distinct)


def read(packed: bytes) -> dict[str, bytes]:
    reader = ArchiveReader(io.BytesIO(packed), LIMITS)
    return {member.path: b"".join(reader.pieces()) for member in reader if not member.is_folder}


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(files=FILES)
def test_reader_reads_what_tarfile_writes(format: int, files: dict[str, bytes]) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=format, encoding="utf-8") as tar:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            info.mtime = 1.5 if format == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(content))
    assert read(buffer.getvalue()) == files


@given(files=FILES.filter(lambda files: not any(path.casefold().startswith("fedn.yaml") for path in files)))
def test_folder_survives_packing(files: dict[str, bytes]) -> None:
    ignored = {"__pycache__", ".git", ".venv", ".DS_Store", ".fednignore"}
    files = {
        path: content
        for path, content in files.items()
        if not any(part in ignored or part.endswith(".pyc") for part in path.split("/"))
    }
    files["fedn.yaml"] = b"learner: a:B\n"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "in"
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        package = build_package(folder)
        out = unpack_package(package, Path(place) / "out")
        found = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert found == files


@given(noise=st.binary(max_size=3000))
def test_noise_is_refused_and_nothing_else_happens(noise: bytes) -> None:
    for content in (noise, gzip.compress(noise)):
        with pytest.raises(FednError):
            inspect_package(content, LIMITS)


@given(position=st.integers(0, 4095), value=st.integers(0, 255))
def test_changed_byte_is_noticed_or_harmless_but_never_escapes(position: int, value: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in (("fedn.yaml", b"learner: a:B\n"), ("ä" * 60, b"x" * 600)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    raw = bytearray(buffer.getvalue())
    raw[position] = value
    with tempfile.TemporaryDirectory() as place:
        inner = Path(place) / "inner"
        inner.mkdir()
        with contextlib.suppress(FednError):
            unpack_package(gzip.compress(bytes(raw), compresslevel=1), inner / "out", LIMITS)
        assert [path.name for path in Path(place).iterdir()] == ["inner"]
        assert {path.name for path in inner.iterdir()} <= {"out"}


@given(text=st.text(max_size=300))
def test_any_text_is_a_manifest_or_refused(text: str) -> None:
    with contextlib.suppress(FednError):
        read_manifest(text)


@given(
    content=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=10),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["entry_points", "train", "command", "learner", "name", "format", "python_env", "x"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_structure_is_a_manifest_or_refused(content: object) -> None:
    with contextlib.suppress(FednError):
        read_manifest(json.dumps(content))
