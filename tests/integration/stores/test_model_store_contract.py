"""What every model store promises, asked of each back end."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from fedn.models.digest import digest
from fedn.protocol.errors import IntegrityError, InvalidInput, NotFound
from fedn.stores.base import ModelStore
from fedn.stores.memory import MemoryModelStore

MIB = 1 << 20
UNKNOWN = "blake3:" + "0" * 64


def _bytes(size: int) -> bytes:
    """Bytes that differ from place to place, so that a shifted piece would show."""
    return b"".join(index.to_bytes(4, "little") for index in range(size // 4 + 1))[:size]


def _put(store: ModelStore, data: bytes, algorithm: str = "blake3", chunk: int = MIB) -> str:
    object_id = digest(data, algorithm)
    store.put(object_id, (data[start : start + chunk] for start in range(0, len(data), chunk)), len(data))
    return object_id


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 7])
def test_an_object_comes_back_as_it_was_in_pieces_of_at_most_a_mebibyte(model_store: ModelStore, size: int) -> None:
    data = _bytes(size)
    object_id = _put(model_store, data)
    pieces = list(model_store.read(object_id))
    assert b"".join(pieces) == data
    assert all(0 < len(piece) <= MIB for piece in pieces)
    assert model_store.stat(object_id).size_bytes == size


def test_a_large_object_in_several_parts_comes_back(model_store: ModelStore) -> None:
    data = _bytes(40 * MIB + 3)
    object_id = _put(model_store, data, chunk=700_001)
    assert b"".join(model_store.read(object_id)) == data


@pytest.mark.parametrize("algorithm", ["blake3", "sha256"])
def test_both_digests_name_objects(model_store: ModelStore, algorithm: str) -> None:
    object_id = _put(model_store, b"weights", algorithm)
    assert object_id.startswith(algorithm + ":")
    assert b"".join(model_store.read(object_id)) == b"weights"
    assert [found.object_id for found in model_store.objects()] == [object_id]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_chunks_may_be_any_buffer(
    model_store: ModelStore, kind: Callable[[bytes], bytes | bytearray | memoryview]
) -> None:
    model_store.put(digest(b"abcdef"), [kind(b"abc"), kind(b""), kind(b"def")], 6)
    assert b"".join(model_store.read(digest(b"abcdef"))) == b"abcdef"


@pytest.mark.parametrize("offset", [0, 1, MIB - 1, MIB, 2 * MIB + 4, 2 * MIB + 5, 2 * MIB + 6])
def test_reading_starts_at_the_offset_and_past_the_end_there_is_nothing(model_store: ModelStore, offset: int) -> None:
    data = _bytes(2 * MIB + 5)
    object_id = _put(model_store, data)
    assert b"".join(model_store.read(object_id, offset)) == data[offset:]


def test_a_negative_offset_is_refused(model_store: ModelStore) -> None:
    object_id = _put(model_store, b"weights")
    with pytest.raises(InvalidInput) as caught:
        list(model_store.read(object_id, -1))
    assert caught.value.code == "bad_offset"


@pytest.mark.parametrize(
    ("sent", "announced"),
    [(b"wrong!!", 7), (b"weigh", 7), (b"weights and more", 7), (b"weights", 8), (b"weights", 6), (b"", 7)],
)
def test_bytes_that_do_not_fit_their_name_leave_nothing(model_store: ModelStore, sent: bytes, announced: int) -> None:
    with pytest.raises(IntegrityError) as caught:
        model_store.put(digest(b"weights"), [sent], announced)
    assert caught.value.code == "digest_mismatch"
    assert list(model_store.objects()) == []
    with pytest.raises(NotFound):
        model_store.stat(digest(b"weights"))


def test_a_written_object_is_named_by_its_bytes_and_there_once_it_is_kept(model_store: ModelStore) -> None:
    data = _bytes(2 * MIB + 5)
    with model_store.writer("sha256", len(data)) as writer:
        for start in range(0, len(data), 700_001):
            writer.write(memoryview(data)[start : start + 700_001])
        object_id = writer.digest()
        assert object_id == digest(data, "sha256")
        with pytest.raises(NotFound):
            model_store.stat(object_id)
        writer.keep(object_id)
        writer.keep(object_id)
    writer.close()
    assert b"".join(model_store.read(object_id)) == data
    with model_store.writer("sha256", len(data)) as again:
        again.write(data)
        again.keep(object_id)
    assert [found.object_id for found in model_store.objects()] == [object_id]


def test_what_was_written_and_not_kept_is_gone(model_store: ModelStore) -> None:
    with model_store.writer("blake3", 7) as writer:
        writer.write(b"weights")
    assert list(model_store.objects()) == []
    assert _put(model_store, b"weights") == digest(b"weights")


@pytest.mark.parametrize("written", [b"weigh", b"wrong!!", b"weights and more"])
def test_a_writer_keeps_nothing_under_a_name_that_is_not_its_own(model_store: ModelStore, written: bytes) -> None:
    def write() -> None:
        with model_store.writer("blake3", 7) as writer:
            writer.write(written)
            writer.keep(digest(b"weights"))

    with pytest.raises(IntegrityError) as caught:
        write()
    assert caught.value.code == "digest_mismatch"
    assert list(model_store.objects()) == []


def test_a_source_that_breaks_leaves_nothing_and_its_error_comes_through(model_store: ModelStore) -> None:
    def broken() -> Iterator[bytes]:
        yield b"wei"
        raise ConnectionResetError("the sender is gone")

    with pytest.raises(ConnectionResetError):
        model_store.put(digest(b"weights"), broken(), 7)
    assert list(model_store.objects()) == []
    assert _put(model_store, b"weights") == digest(b"weights")


def test_an_object_that_is_there_is_left_alone(model_store: ModelStore) -> None:
    object_id = _put(model_store, b"weights")
    before = model_store.stat(object_id)
    model_store.put(object_id, [b"not looked at"], 7)
    assert model_store.stat(object_id) == before
    assert b"".join(model_store.read(object_id)) == b"weights"


def test_what_is_not_there_is_not_found(model_store: ModelStore) -> None:
    for call in (
        lambda: model_store.stat(UNKNOWN),
        lambda: next(model_store.read(UNKNOWN)),
        lambda: next(model_store.read(UNKNOWN, 5)),
    ):
        with pytest.raises(NotFound) as caught:
            call()
        assert caught.value.code == "no_such_object"
    model_store.delete(UNKNOWN)


@pytest.mark.parametrize("name", ["", "weights", "blake3:" + "A" * 64, "md5:" + "0" * 64, "blake3:../../../etc/passwd"])
def test_a_name_that_is_no_digest_is_refused(model_store: ModelStore, name: str) -> None:
    for call in (
        lambda: model_store.put(name, [b"x"], 1),
        lambda: list(model_store.read(name)),
        lambda: model_store.stat(name),
        lambda: model_store.delete(name),
    ):
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.code == "bad_digest"


def test_objects_are_listed_until_they_are_deleted(model_store: ModelStore) -> None:
    names = {_put(model_store, bytes([index]) * (index + 1)): index + 1 for index in range(5)}
    listed = {found.object_id: found for found in model_store.objects()}
    assert {object_id: found.size_bytes for object_id, found in listed.items()} == names
    for object_id in names:
        assert abs(model_store.stat(object_id).stored_at - listed[object_id].stored_at) <= 1
        assert abs(time.time() - listed[object_id].stored_at) < 600
        model_store.delete(object_id)
        with pytest.raises(NotFound):
            model_store.stat(object_id)
    assert list(model_store.objects()) == []


def test_a_deleted_object_can_be_stored_again(model_store: ModelStore) -> None:
    object_id = _put(model_store, b"weights")
    model_store.delete(object_id)
    _put(model_store, b"weights")
    assert b"".join(model_store.read(object_id)) == b"weights"


def test_writers_of_the_same_object_at_once_all_succeed(open_model_store: Callable[[], ModelStore]) -> None:
    stores = [open_model_store() for _ in range(4)]
    data = _bytes(2 * MIB)
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda index: _put(stores[index % 4], data), range(8)))
    assert [found.object_id for found in stores[0].objects()] == list(names)
    assert b"".join(stores[1].read(names.pop())) == data


def test_an_object_is_there_when_the_store_is_opened_again(open_model_store: Callable[[], ModelStore]) -> None:
    first = open_model_store()
    if isinstance(first, MemoryModelStore):
        return  # it promises nothing beyond the process
    object_id = _put(first, b"weights")
    before = first.stat(object_id)
    first.close()
    second = open_model_store()
    assert second.stat(object_id) == before
    assert b"".join(second.read(object_id)) == b"weights"
