"""The model store in a folder: what it syncs, and what it does where a sync fails."""

import os
import shutil
from pathlib import Path

import pytest

from fedn.models.digest import digest
from fedn.protocol.errors import StoreUnavailable
from fedn.stores.files import FileModelStore


class Syncs:
    """Stands in for os.fsync: notes what is synced, and fails as often as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced: list[Path] = []
        self.failures = 0
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self._sync)

    def _sync(self, descriptor: int) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError(5, "the disk failed")
        self.synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        self._fsync(descriptor)


def _put(store: FileModelStore, data: bytes) -> str:
    store.put(digest(data), [data], len(data))
    return digest(data)


def _same_shard() -> tuple[bytes, bytes]:
    """Two objects whose digests begin alike."""
    first = b"0"
    number = next(n for n in range(1, 10_000) if digest(b"%d" % n)[:9] == digest(first)[:9])
    return first, b"%d" % number


def test_a_shard_is_made_durable_once_and_each_name_in_it_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, (first, second) = FileModelStore(tmp_path), _same_shard()
    syncs = Syncs(monkeypatch)
    shard = tmp_path / "objects" / "blake3" / digest(first)[7:9]
    _put(store, first)
    assert syncs.synced[1:] == [shard, shard.parent]
    syncs.synced.clear()
    _put(store, second)
    assert syncs.synced[1:] == [shard]
    syncs.synced.clear()
    _put(store, second)  # another writer's rename may not be durable yet
    assert syncs.synced == [shard]


def test_a_shard_that_somebody_removed_is_made_again(tmp_path: Path) -> None:
    store, (first, second) = FileModelStore(tmp_path), _same_shard()
    _put(store, first)
    shutil.rmtree(tmp_path / "objects" / "blake3" / digest(first)[7:9])
    object_id = _put(store, second)
    assert b"".join(store.read(object_id)) == second


def test_after_a_sync_that_failed_the_bytes_are_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileModelStore(tmp_path)
    syncs = Syncs(monkeypatch)
    data = os.urandom(3 << 20)
    with store.writer("blake3", len(data)) as writer:
        writer.write(data)
        (first,) = (tmp_path / "incoming").iterdir()
        syncs.failures = 2
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                writer.keep(digest(data))
        writer.keep(digest(data))
        # The kernel may have dropped what it could not write, and says so only once: the first file is not trusted.
        assert first not in syncs.synced
    assert b"".join(store.read(digest(data))) == data
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_write_that_failed_halfway_may_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileModelStore(tmp_path)
    data, write, room = os.urandom(3 << 20), os.pwrite, [1 << 20]

    def short(descriptor: int, view: memoryview, offset: int) -> int:
        if not room:
            return write(descriptor, view, offset)
        size = room.pop()
        if not size:
            raise OSError(28, "no space left")
        room.append(0)
        return write(descriptor, view[:size], offset)

    monkeypatch.setattr(os, "pwrite", short)
    with store.writer("blake3", len(data)) as writer:
        with pytest.raises(StoreUnavailable, match="store_full"):
            writer.write(data)
        writer.write(data)
        writer.keep(digest(data))
    assert b"".join(store.read(digest(data))) == data
