"""Updates that are made while they are sent are those that a client would have made at once."""

import asyncio
import mmap
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.models.digest import digest
from fedn.models.wire import decode, encode, read_spec
from fedn.network.frames import decode_piece
from fedn.network.generated import client_pb2 as wire
from fedn.protocol.errors import InvalidInput
from fedn.swarm.models import SharedModel
from fedn.swarm.updates import GeneratedUpdate, Sending

TENSORS: dict[str, np.ndarray[Any, Any]] = {
    "double": np.linspace(-1, 1, 7),
    "single": np.arange(1001, dtype=np.float32).reshape(7, 143),
    "half": np.ones(5, np.float16),
    "brain": np.full(9, 0.5, ml_dtypes.bfloat16),
    "steps": np.arange(3, dtype=np.int64),
    "mask": np.array([True, False, True]),
    "empty": np.empty((0, 4), np.float32),
}


def shared(content: bytes | bytearray) -> SharedModel:
    return SharedModel(digest(content), bytearray(content), read_spec(content))


MODEL = shared(encode(TENSORS))


def whole(update: GeneratedUpdate) -> bytes:
    return bytes(update.piece(0, update.size_bytes))


def test_the_constant_is_added_to_every_floating_point_number_and_to_nothing_else() -> None:
    made = decode(whole(GeneratedUpdate(MODEL, 0.25)))
    assert list(made) == list(TENSORS)
    for name, before in TENSORS.items():
        after = made[name]
        assert (after.dtype, after.shape) == (before.dtype, before.shape)
        if name in {"steps", "mask"}:
            np.testing.assert_array_equal(after, before)
        else:
            np.testing.assert_array_equal(after, before + before.dtype.type(0.25))


@given(st.lists(st.integers(1, 500), min_size=1))
def test_pieces_of_any_size_make_up_the_whole(sizes: list[int]) -> None:
    update = GeneratedUpdate(MODEL, -3.0)
    expected, start, made, turn = whole(update), 0, b"", 0
    while start < update.size_bytes:
        stop = min(start + sizes[turn % len(sizes)], update.size_bytes)
        made += update.piece(start, stop)
        start, turn = stop, turn + 1
    assert made == expected


def test_tensors_that_are_not_aligned_are_fine() -> None:
    header = (
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}}'
    )
    content = len(header).to_bytes(8, "little") + header + b"\x07" + np.array([1.0, 2.0], "<f4").tobytes()
    made = decode(whole(GeneratedUpdate(shared(content), 1.0)))
    assert made["a"].tolist() == [7]
    assert made["b"].tolist() == [2.0, 3.0]


@pytest.mark.parametrize("algorithm", ["blake3", "sha256"])
def test_the_digest_is_that_of_what_is_sent(algorithm: str) -> None:
    update = GeneratedUpdate(MODEL, 1.5)
    assert update.digest(algorithm) == digest(whole(update), algorithm)


def test_a_model_in_a_file_is_added_to_in_place() -> None:
    content = encode({"w": np.zeros(300_000, np.float32)})
    with mmap.mmap(-1, len(content)) as mapped:
        mapped[:] = bytes(content)
        update = GeneratedUpdate(SharedModel(digest(content), mapped, read_spec(mapped)), 2.0)
        assert float(decode(whole(update))["w"].max()) == 2.0
        assert update.digest("blake3") == digest(whole(update))
        del update


def test_two_threads_do_not_write_into_each_others_pieces() -> None:
    ones, twos = GeneratedUpdate(MODEL, 1.0), GeneratedUpdate(MODEL, 2.0)
    expected = twos.digest("blake3")

    async def run() -> list[str]:
        async with asyncio.TaskGroup() as group:
            hashing = group.create_task(asyncio.to_thread(lambda: [twos.digest("blake3") for _ in range(50)]))
            for _ in range(500):
                ones.piece(0, ones.size_bytes)
                await asyncio.sleep(0)
        return hashing.result()

    assert set(asyncio.run(run())) == {expected}


def test_what_is_granted_is_sent_from_its_offset_and_ended() -> None:
    update = GeneratedUpdate(MODEL, 1.0)
    sending = Sending("t", update, 1000, chunk_bytes=1500)
    messages = []
    while (message := sending.next_message()) is not None:
        messages.append(message)
    *pieces, last = messages
    position, made = 1000, b""
    for message in pieces:
        piece = decode_piece(message)
        assert piece is not None and piece[0] == position
        made += piece[1]
        position += len(piece[1])
    assert made == whole(update)[1000:]
    assert wire.ClientFrame.FromString(last).upload_end.task_id == "t"


def test_what_comes_on_credit_has_no_end() -> None:
    sending = Sending("t", GeneratedUpdate(MODEL, 1.0), 0, granted=False)
    assert decode_piece(sending.next_message() or b"") is not None
    assert sending.next_message() is None


def test_a_cut_comes_behind_its_offset() -> None:
    update = GeneratedUpdate(MODEL, 1.0)
    sending = Sending("t", update, 0, chunk_bytes=1000, cut_at=1500)
    assert sending.paced and not sending.cut
    sending.next_message()
    assert not sending.cut
    sending.next_message()
    assert sending.cut


def test_a_grant_beyond_the_end_is_refused() -> None:
    update = GeneratedUpdate(MODEL, 1.0)
    with pytest.raises(InvalidInput, match="a grant from"):
        Sending("t", update, update.size_bytes + 1)
