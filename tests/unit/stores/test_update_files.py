"""Kept updates as files: private, whole or not there, and told of in words when the disk has no room."""

import errno
import os
import stat
from pathlib import Path

import pytest

from fedn.models.pieces import Pieces
from fedn.protocol.errors import StoreUnavailable
from fedn.stores.updates.base import UpdateFacts
from fedn.stores.updates.eviction import LineageLength
from fedn.stores.updates.files import FileShelf
from fedn.stores.updates.store import UpdateStore

DATA = Pieces.of(b"0123456789")


def store_in(folder: Path) -> UpdateStore:
    return UpdateStore(FileShelf(folder), LineageLength(1), 1 << 20)


def facts(client: str) -> UpdateFacts:
    return UpdateFacts(
        session="s", client=client, round_index=0, update_id="u", base_model_id="b", num_examples=1, weight=1.0
    )


def test_nobody_else_may_read_what_is_kept(tmp_path: Path) -> None:
    store_in(tmp_path / "kept").insert(facts("a"), DATA)
    files = list((tmp_path / "kept").iterdir())
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o700


def test_what_a_crash_left_is_removed_and_what_is_whole_stays(tmp_path: Path) -> None:
    first = store_in(tmp_path)
    cut_off = [first.insert(facts(client), DATA).number for client in ("a", "b", "c")]
    whole = first.insert(facts("d"), DATA)
    (tmp_path / f"{cut_off[0]}.safetensors").write_bytes(b"0123")
    (tmp_path / f"{cut_off[1]}.json").write_bytes(b'{"session": "s"')
    (tmp_path / f"{cut_off[2]}.safetensors").unlink()
    (tmp_path / "77.safetensors").write_bytes(b"never told of")
    (tmp_path / "78.incoming").write_bytes(b"{}")
    (tmp_path / "79.json").write_bytes((tmp_path / f"{whole.number}.json").read_bytes())  # tells of another file
    again = store_in(tmp_path)
    assert again.clients("s") == ["d"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{whole.number}.json", f"{whole.number}.safetensors"]


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, "store_full"), (errno.EIO, "store_unavailable")])
def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    store = store_in(tmp_path)
    kept = store.insert(facts("a"), DATA)

    def fail(path: Path, target: Path) -> Path:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        with pytest.raises(StoreUnavailable) as caught:
            store.insert(facts("b"), DATA)
    assert caught.value.code == code
    assert store.clients("s") == ["a"]
    assert {path.stem for path in tmp_path.iterdir()} == {str(kept.number)}
    store.insert(facts("b"), DATA)
    assert store.clients("s") == ["a", "b"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnavailable, match="file"):
        FileShelf(tmp_path / "file" / "kept")
