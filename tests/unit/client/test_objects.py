"""Objects by digest: received in pieces, verified, bounded, found again."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from fedn.client.objects import HeldFile, ObjectCache
from fedn.client.slots import Slot
from fedn.models.digest import digest
from fedn.network.generated.common_pb2 import OBJECT_KIND_MODEL, OBJECT_KIND_PACKAGE
from fedn.protocol.errors import IntegrityError, InvalidInput, LimitExceeded

SMALL = b"small" * 100
LARGE = bytes(range(256)) * 8192  # 2 MiB: a file


def receive(cache: ObjectCache, data: bytes, start: int = 0, stop: int | None = None, name: str = "") -> str:
    object_id = name or digest(data)
    item = cache.begin(object_id, OBJECT_KIND_MODEL, len(data), start)
    assert item is not None
    for offset in range(start, len(data) if stop is None else stop, 100_000):
        cache.take(item, memoryview(data)[offset : min(offset + 100_000, stop or len(data))])
    return object_id


def content(held: Any) -> bytes:
    return held.path.read_bytes()[: held.size_bytes] if isinstance(held, HeldFile) else bytes(held)


@pytest.mark.parametrize("data", [SMALL, LARGE])
def test_objects_are_kept_by_digest(tmp_path: Path, data: bytes) -> None:
    cache = ObjectCache(tmp_path)
    object_id = receive(cache, data)
    assert content(cache.get(object_id)) == data
    assert cache.held() == [object_id]
    assert cache.begin(object_id, OBJECT_KIND_MODEL, len(data), 0) is None
    assert cache.get(digest(b"other")) is None


@pytest.mark.parametrize("data", [SMALL, LARGE])
def test_wrong_bytes_are_thrown_away(tmp_path: Path, data: bytes) -> None:
    cache = ObjectCache(tmp_path)
    with pytest.raises(IntegrityError, match="digest_mismatch"):
        receive(cache, data, name=digest(b"other"))
    assert cache.held() == [] and cache.partial() == []
    assert list(tmp_path.iterdir()) == []


def test_receiving_goes_on_after_a_pause_and_after_a_restart(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    object_id = digest(LARGE)
    receive(cache, LARGE, stop=500_000)
    cache.pause()
    assert cache.received(object_id) == 500_000
    receive(cache, LARGE, 500_000, 900_000)
    cache.close()
    again = ObjectCache(tmp_path)
    assert [(item.object_id, item.received, item.kind) for item in again.partial()] == [
        (object_id, 900_000, OBJECT_KIND_MODEL)
    ]
    receive(again, LARGE, 900_000)
    assert content(again.get(object_id)) == LARGE


def test_sender_may_start_over(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    receive(cache, LARGE, stop=500_000)
    receive(cache, LARGE)
    assert content(cache.get(digest(LARGE))) == LARGE


def test_sender_out_of_step_is_refused(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    with pytest.raises(InvalidInput, match="bad_frame"):
        cache.begin(digest(SMALL), OBJECT_KIND_MODEL, len(SMALL), 7)
    item = cache.begin(digest(SMALL), OBJECT_KIND_MODEL, len(SMALL), 0)
    assert item is not None
    with pytest.raises(InvalidInput, match="more bytes"):
        cache.take(item, memoryview(SMALL + b"!"))
    with pytest.raises(InvalidInput, match="bad_digest"):
        cache.begin("blake3:../../etc/passwd", OBJECT_KIND_MODEL, 1, 0)


def test_damaged_file_of_an_earlier_process_is_not_used(tmp_path: Path) -> None:
    object_id = receive(ObjectCache(tmp_path), LARGE)
    [path] = tmp_path.iterdir()
    damaged = bytearray(path.read_bytes())
    damaged[len(LARGE) // 2] ^= 1
    path.write_bytes(damaged)
    again = ObjectCache(tmp_path)
    assert again.held() == [object_id]
    assert again.get(object_id) is None
    assert again.held() == [] and list(tmp_path.iterdir()) == []


def test_least_recently_used_objects_go_first_but_never_one_in_use(tmp_path: Path) -> None:
    models = [bytes([number]) * (2 << 20) for number in range(4)]
    cache = ObjectCache(tmp_path, max_file_bytes=5 << 20)
    first, second = receive(cache, models[0]), receive(cache, models[1])
    cache.pin(first)
    third = receive(cache, models[2])
    assert cache.held() == [first, third]
    cache.get(first)
    fourth = receive(cache, models[3])
    assert cache.held() == [first, fourth]
    cache.unpin(first)
    assert second not in cache.held()
    assert len(list(tmp_path.iterdir())) == 2


def test_small_objects_are_bounded_too(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, max_memory_bytes=900)
    receive(cache, SMALL)
    newest = receive(cache, SMALL + b"!")
    assert cache.held() == [newest]


def test_object_that_does_not_fit_on_the_disk_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ObjectCache(tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(LimitExceeded, match="disk_full"):
        cache.begin(digest(LARGE), OBJECT_KIND_PACKAGE, len(LARGE), 0)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_in_spite_of_the_look_at_it_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ObjectCache(tmp_path)
    first = receive(cache, models_of(2)[0])

    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(LimitExceeded, match="disk_full"):
        cache.begin(digest(LARGE), OBJECT_KIND_MODEL, len(LARGE), 0)
    assert cache.held() == [first] and cache.partial() == []
    assert len(list(tmp_path.iterdir())) == 1


def models_of(number: int, size_bytes: int = 1 << 20) -> list[bytes]:
    return [bytes([index + 1]) * (size_bytes + index) for index in range(number)]


def test_models_take_turns_in_two_files(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    inodes: list[set[int]] = []
    for data in models_of(6):
        object_id = receive(cache, data)
        assert content(cache.get(object_id)) == data
        inodes.append({path.stat().st_ino for path in tmp_path.iterdir()})
    assert len(cache.held()) == 2
    assert inodes[1] == inodes[2] == inodes[5] and len(inodes[1]) == 2


def test_file_grows_for_a_larger_model_and_is_given_up_for_a_far_smaller_one(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    for size_bytes in (100_000, 200_000, 5 << 20, 150_000, 40 << 20, 41 << 20, 20_000, 30_000):
        data = bytes([size_bytes % 251]) * size_bytes
        assert content(cache.get(receive(cache, data))) == data
    assert len(list(tmp_path.iterdir())) == 2
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1 << 20


def test_model_that_a_task_needs_keeps_its_file(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    models = models_of(5)
    needed = [receive(cache, data) for data in models[:2]]
    for object_id in needed:
        cache.pin(object_id)
    for data in models[2:]:
        receive(cache, data)
    assert [content(cache.get(object_id)) for object_id in needed] == models[:2]
    for object_id in needed:
        cache.unpin(object_id)
    receive(cache, LARGE)
    assert len(cache.held()) == 2


def test_killed_while_a_model_replaces_another(tmp_path: Path) -> None:
    models = models_of(3)
    cache = ObjectCache(tmp_path)
    old, kept = receive(cache, models[0]), receive(cache, models[1])
    receive(cache, models[2], stop=300_000)
    again = ObjectCache(tmp_path)  # as after a kill: nothing was closed
    assert again.held() == [kept] and again.get(old) is None
    assert [(item.object_id, item.received) for item in again.partial()] == [(digest(models[2]), 300_000)]
    receive(again, models[2], 300_000)
    assert content(again.get(digest(models[2]))) == models[2]
    assert content(again.get(kept)) == models[1]


def test_whole_package_is_all_of_its_file(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    item = cache.begin(digest(LARGE), OBJECT_KIND_PACKAGE, len(LARGE), 0)
    assert item is not None
    cache.take(item, memoryview(LARGE)[:100])
    again = ObjectCache(tmp_path)
    [item] = again.partial()
    assert (item.kind, item.received) == (OBJECT_KIND_PACKAGE, 100)
    assert again.take(item, memoryview(LARGE)[100:])
    held = again.get(digest(LARGE))
    assert isinstance(held, HeldFile) and held.path.read_bytes() == LARGE
    for data in models_of(4):
        receive(again, data)
    assert digest(LARGE) in again.held()
    assert ObjectCache(tmp_path).get(digest(LARGE)) == held


@pytest.mark.parametrize("text", ["blake3:short", "", "../../etc/passwd"])
def test_file_whose_footer_names_no_object_is_thrown_away(tmp_path: Path, text: str) -> None:
    receive(ObjectCache(tmp_path), LARGE)
    [path] = tmp_path.iterdir()
    Slot(path).write_footer(b"fednmod1", 10, 5, text)
    assert ObjectCache(tmp_path).held() == [] and list(tmp_path.iterdir()) == []
