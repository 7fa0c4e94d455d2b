"""Compute packages: built the same each time, and opened as if an enemy had packed them."""

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fedn.plan.package import (
    PackageLimits,
    PackageManifest,
    build_package,
    inspect_package,
    read_manifest,
    unpack_package,
)
from fedn.protocol.errors import Conflict, FednError, InvalidInput, InvalidSettings, LimitExceeded

MANIFEST = b"entry_points:\n  train: {command: python3 train.py}\n"


def project(folder: Path, **files: str) -> Path:
    contents = {"fedn.yaml": MANIFEST.decode(), "train.py": "print('train')\n", **files}
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


def names(package: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        return archive.getnames()


def archive(add: Callable[[tarfile.TarFile], None], *, manifest: bool = True) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        if manifest:
            put(tar, "fedn.yaml", MANIFEST)
        add(tar)
    return buffer.getvalue()


def put(tar: tarfile.TarFile, name: str, content: bytes = b"", type: bytes = tarfile.REGTYPE, link: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = type, len(content), link
    tar.addfile(info, io.BytesIO(content))


def assert_refused(package: bytes, folder: Path, code: str, limits: PackageLimits | None = None) -> None:
    for attempt in (
        lambda: inspect_package(package, limits),
        lambda: unpack_package(package, folder / "target", limits),
    ):
        with pytest.raises(FednError) as caught:
            attempt()
        assert caught.value.code == code
    assert list(folder.iterdir()) == []


# --- building


def test_equal_folders_give_equal_packages(tmp_path: Path) -> None:
    first = project(tmp_path / "a", **{"z/é.txt": "1", "b.py": "2"})
    second = project(tmp_path / "b", **{"b.py": "2", "z/é.txt": "1"})
    os.utime(second / "b.py", (0, 0))
    package = build_package(first)
    assert package == build_package(second)
    assert names(package) == ["b.py", "fedn.yaml", "train.py", "z/é.txt"]


def test_package_comes_out_as_it_went_in(tmp_path: Path) -> None:
    folder = project(tmp_path / "a", **{"deep/" + "long-name-" * 20 + ".txt": "content", "run.sh": "#!/bin/sh\n"})
    (folder / "run.sh").chmod(0o755)
    out = unpack_package(build_package(folder), tmp_path / "out")
    assert out == tmp_path / "out"
    for path in folder.rglob("*"):
        copy = out / path.relative_to(folder)
        assert copy.is_dir() if path.is_dir() else copy.read_bytes() == path.read_bytes()
    assert os.access(out / "run.sh", os.X_OK) and not os.access(out / "train.py", os.X_OK)


def test_a_projects_seed_and_the_sandboxs_data_are_no_part_of_its_code(tmp_path: Path) -> None:
    code = ("data/__init__.py", "data/loader.py", "fedn.yaml", "inner/seed.npz", "inner/seed/x.npz", "train.py")
    home = ("seed.npz", "seed.safetensors", "seed/seed.safetensors", "data/client-1/secret.csv", "data/client-12/x/y")
    folder = project(tmp_path / "a", **dict.fromkeys((*code[:2], *code[3:5], *home), ""))
    assert names(build_package(folder)) == sorted(code)
    (folder / ".fednignore").write_text("!seed.npz\n!/seed/\n")
    assert names(build_package(folder)) == sorted((*code, "seed.npz", "seed/seed.safetensors"))


def test_caches_and_what_fednignore_names_are_left_out(tmp_path: Path) -> None:
    rules = "# data\ndata/\n*.npz\n!keep.npz\n/only-here.txt\ndocs/**/*.md\nscratch?\n"
    files = {
        ".fednignore": rules,
        "data/x.csv": "",
        "sub/data/x.csv": "",
        "a.npz": "",
        "keep.npz": "",
        "only-here.txt": "",
        "sub/only-here.txt": "",
        "docs/a/b/c.md": "",
        "docs/c.md": "",
        "docs/c.txt": "",
        "scratch1": "",
        "scratch12": "",
        "__pycache__/m.pyc": "",
        "sub/.git/config": "",
    }
    kept = {"fedn.yaml", "train.py", "keep.npz", "sub/only-here.txt", "docs/c.txt", "scratch12"}
    assert set(names(build_package(project(tmp_path / "a", **files)))) == kept


def test_link_in_a_folder_is_refused_with_its_name(tmp_path: Path) -> None:
    folder = project(tmp_path / "a")
    (folder / "passwords").symlink_to("/etc/passwd")
    with pytest.raises(InvalidInput, match=r"passwords.*unsafe_member"):
        build_package(folder)


def test_folder_without_a_manifest_is_refused_and_the_right_one_named(tmp_path: Path) -> None:
    project(tmp_path / "a" / "client")
    with pytest.raises(InvalidInput, match="no_manifest") as caught:
        build_package(tmp_path / "a")
    assert str(tmp_path / "a" / "client") in caught.value.fix
    with pytest.raises(InvalidInput, match="no_manifest"):
        build_package(tmp_path / "nowhere")


def test_folder_that_is_too_large_is_refused(tmp_path: Path) -> None:
    folder = project(tmp_path / "a", **{"data.csv": "x" * 5000})
    for limits in (PackageLimits(max_unpacked_bytes=4000), PackageLimits(max_files=2)):
        with pytest.raises(LimitExceeded, match="fednignore"):
            build_package(folder, limits)


# --- what is accepted


def test_package_of_former_fedn_is_accepted_as_it_is(tmp_path: Path) -> None:
    text = b"""
python_env: python_env.yaml
entry_points:
  startup:
    command: python3 startup.py
  train:
    command: python3 train.py
  validate:
    command: python3 validate.py
"""

    def add(tar: tarfile.TarFile) -> None:
        put(tar, "client", type=tarfile.DIRTYPE)
        put(tar, "client/fedn.yaml", text)
        put(tar, "client/python_env.yaml", b"dependencies: []\n")

    package = archive(add, manifest=False)
    assert inspect_package(package).command("train") == ["python3", "train.py"]
    assert unpack_package(package, tmp_path / "out") == tmp_path / "out" / "client"


def test_archive_of_the_folder_itself_is_accepted(tmp_path: Path) -> None:
    folder = project(tmp_path / "a")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.GNU_FORMAT) as tar:
        tar.add(folder, arcname=".")
    assert (unpack_package(buffer.getvalue(), tmp_path / "out") / "train.py").exists()


def test_package_in_a_file_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "package.tgz"
    path.write_bytes(build_package(project(tmp_path / "a")))
    assert (unpack_package(path, tmp_path / "out") / "train.py").exists()


def test_folder_that_is_there_is_not_touched(tmp_path: Path) -> None:
    package = build_package(project(tmp_path / "a"))
    with pytest.raises(Conflict, match="folder_exists"):
        unpack_package(package, tmp_path / "a")


# --- what is refused


@pytest.mark.parametrize(
    "name",
    ["/etc/x", "../x", "a/../../x", "a/./../x", "a//b", "..", "a\\..\\b", "C:x", "a\nb", "x" * 300, "/".join("a" * 40)],
)
def test_path_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    assert_refused(archive(lambda tar: put(tar, name, b"x")), tmp_path, "unsafe_path")


@pytest.mark.parametrize(
    "type",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, b"Z"],
)
def test_member_that_is_no_plain_file_is_refused(tmp_path: Path, type: bytes) -> None:
    assert_refused(archive(lambda tar: put(tar, "x", type=type, link="fedn.yaml")), tmp_path, "unsafe_member")


def test_file_through_a_link_is_refused_at_the_link(tmp_path: Path) -> None:
    def add(tar: tarfile.TarFile) -> None:
        put(tar, "out", type=tarfile.SYMTYPE, link="/tmp")
        put(tar, "out/x", b"x")

    assert_refused(archive(add), tmp_path, "unsafe_member")


@pytest.mark.parametrize("second", ["fedn.yaml", "FEDN.yaml", "./fedn.yaml", "fedn.yaml/x"])
def test_manifest_cannot_be_there_twice_or_be_a_folder_too(tmp_path: Path, second: str) -> None:
    assert_refused(archive(lambda tar: put(tar, second, b"x")), tmp_path, "bad_archive")


def test_bomb_is_stopped_while_it_unpacks(tmp_path: Path) -> None:
    package = archive(lambda tar: put(tar, "zeros", bytes(64 << 20)))
    assert len(package) < 100_000
    assert_refused(package, tmp_path, "package_too_large", PackageLimits(max_unpacked_bytes=1 << 20))


def test_too_many_files_and_too_many_bytes_are_refused(tmp_path: Path) -> None:
    def add(tar: tarfile.TarFile) -> None:
        for number in range(20):
            put(tar, f"f{number}")

    assert_refused(archive(add), tmp_path, "package_too_large", PackageLimits(max_files=20))
    assert_refused(archive(add), tmp_path, "package_too_large", PackageLimits(max_packed_bytes=50))


def test_endless_header_is_refused(tmp_path: Path) -> None:
    def add(tar: tarfile.TarFile) -> None:
        put(tar, "././@LongLink", b"x" * (1 << 20), type=tarfile.GNUTYPE_LONGNAME)

    assert_refused(archive(add), tmp_path, "package_too_large")


def header(size_field: bytes) -> bytes:
    block = bytearray(tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = size_field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (header(b"\xff" * 12), "bad_archive"),
        (header(b"\x80" + b"\x7f" * 11), "bad_archive"),
        (b"x" * 512, "bad_archive"),
        (b"", "bad_archive"),
        (bytes(1024), "no_manifest"),
        (bytes(1024) + b"more", "bad_archive"),
    ],
)
def test_hostile_headers_are_refused(tmp_path: Path, content: bytes, code: str) -> None:
    assert_refused(gzip.compress(content), tmp_path, code)


@pytest.mark.parametrize("records", [b"13 path=../x\n", b"9 size=-1\n", b"99 path=x\n", b"0 path=x\n", b"junk"])
def test_hostile_extended_headers_are_refused(tmp_path: Path, records: bytes) -> None:
    def add(tar: tarfile.TarFile) -> None:
        put(tar, "header", records, type=tarfile.XHDTYPE)
        put(tar, "harmless", b"x")

    for attempt in (inspect_package, lambda data: unpack_package(data, tmp_path / "target")):
        with pytest.raises(InvalidInput):
            attempt(archive(add))
    assert list(tmp_path.iterdir()) == []


def test_archive_that_is_damaged_cut_off_or_followed_by_something_is_refused(tmp_path: Path) -> None:
    package = archive(lambda tar: put(tar, "x", os.urandom(2000)))
    damaged = bytearray(package)
    damaged[-5] ^= 1
    for content in (b"", b"PK\x03\x04", package[:-1], package[:200], bytes(damaged), package + b"x", package + package):
        assert_refused(content, tmp_path, "bad_archive")


def test_package_without_a_manifest_is_refused(tmp_path: Path) -> None:
    assert_refused(archive(lambda tar: put(tar, "a/b/fedn.yaml", MANIFEST), manifest=False), tmp_path, "no_manifest")

    def two(tar: tarfile.TarFile) -> None:
        put(tar, "a/fedn.yaml", MANIFEST)
        put(tar, "b/x")

    assert_refused(archive(two, manifest=False), tmp_path, "no_manifest")


# --- manifests


def test_manifest_says_everything() -> None:
    manifest = read_manifest(
        "name: digits\nlearner: pkg.mod:Learner\nhelper: sklearn\nformat: npz\nparameters: {epochs: 2}\n"
        "entry_points: {validate: {command: [python, 'a b.py']}, train: {command: 'python \"a b.py\" x'}}\n"
    )
    assert manifest.command("train") == ["python", "a b.py", "x"]
    assert manifest.command("validate") == ["python", "a b.py"]
    assert manifest.command("predict") is None
    assert (manifest.learner, manifest.helper, manifest.format) == ("pkg.mod:Learner", "sklearn", "npz")
    assert manifest.parameters == {"epochs": 2}


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("name: x\n", "(whole)"),
        ("", "(whole)"),
        ("learner: a:B\nentry_point: {}\n", "entry_point"),
        ("entry_points: {fit: {command: x}}\n", "entry_points.fit.[key]"),
        ("entry_points: {train: {cmd: x}}\n", "entry_points.train.command"),
        ("entry_points: {train: {command: ''}}\n", "entry_points.train"),
        ("entry_points: {train: {command: 'a \"b'}}\n", "entry_points.train"),
        ("entry_points: {train: {command: []}}\n", "entry_points.train"),
        ("learner: no class\n", "learner"),
        ("learner: a:B\nformat: pickle\n", "format"),
        ("learner: a:B\npython_env: ../x\n", "python_env"),
    ],
)
def test_manifest_that_cannot_work_is_refused_with_its_field(text: str, field: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        read_manifest(text)
    problems = {problem.where["field"]: problem for problem in caught.value.problems}
    assert field in problems and problems[field].code == "bad_manifest" and problems[field].fix


def test_python_env_must_be_in_the_package(tmp_path: Path) -> None:
    folder = project(tmp_path / "a", **{"fedn.yaml": "learner: a:B\npython_env: env.yaml\n"})
    with pytest.raises(InvalidInput, match="bad_manifest"):
        build_package(folder)
    (folder / "env.yaml").write_text("dependencies: []\n")
    assert inspect_package(build_package(folder)).python_env == "env.yaml"


def test_manifest_is_frozen() -> None:
    assert PackageManifest.model_config["frozen"] is True


def test_unpacked_folders_and_files_may_be_read_by_whoever_may_come_near(tmp_path: Path) -> None:
    folder = project(tmp_path / "a", **{"fedn.yaml": "learner: a:B\n", "inner/deep.py": "x = 1\n"})
    packed = build_package(folder)
    mask = os.umask(0o077)
    try:
        unpack_package(packed, tmp_path / "unpacked")
    finally:
        os.umask(mask)
    out = tmp_path / "unpacked"
    modes = {path.name: path.stat().st_mode & 0o777 for path in (out, *out.rglob("*"))}
    assert modes == {"unpacked": 0o755, "inner": 0o755, "deep.py": 0o644, "fedn.yaml": 0o644, "train.py": 0o644}
