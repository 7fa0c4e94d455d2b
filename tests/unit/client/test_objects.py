"""Objects by digest: received in pieces, verified, bounded, found again."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from fedn.client.objects import HeldFile, ObjectCache
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
