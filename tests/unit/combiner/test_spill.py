"""Updates that wait on disk: what is there is whole, and goes without a trace."""

import os
from pathlib import Path

import pytest

from fedn.combiner.spill import SpillFile, bundle
from fedn.models.digest import digest
from fedn.network.frames import CHUNK_BYTES, decode_piece
from fedn.protocol.errors import LimitExceeded


def test_rows_are_mapped_in_their_order_and_outlive_the_file(tmp_path: Path) -> None:
    spill = SpillFile(tmp_path)
    rows = [os.urandom(100) for _ in range(3)]
    for row in rows:
        spill.append(memoryview(row))
    whole = spill.whole()
    with pytest.raises(ValueError, match="read already"):
        spill.append(memoryview(rows[0]))
    spill.close()
    spill.close()
    assert bytes(whole) == b"".join(rows)
    assert not list(tmp_path.iterdir())


def test_a_row_for_which_there_is_no_room_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spill = SpillFile(tmp_path)
    spill.append(memoryview(b"good"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(LimitExceeded, match="No space left") as caught:
            spill.append(memoryview(b"more"))
    assert caught.value.code == "spool_full"
    spill.append(memoryview(b"next"))
    assert bytes(spill.whole()) == b"goodnext"
    spill.close()


def test_nothing_spilled_is_nothing_to_read(tmp_path: Path) -> None:
    spill = SpillFile(tmp_path)
    assert bytes(spill.whole()) == b""
    spill.close()


@pytest.mark.parametrize("size", [10, CHUNK_BYTES, 2 * CHUNK_BYTES + 7])
def test_a_bundle_is_sent_like_any_object_from_any_offset(size: int) -> None:
    rows = [os.urandom(size) for _ in range(3)]
    data = b"".join(rows)
    stored = bundle([memoryview(row) for row in rows], "blake3")
    assert (stored.object_id, stored.size_bytes) == (digest(data), len(data))
    assert bytes(stored.bytes_in_pieces().copy()) == data
    assert stored.pieces[0] == next(iter(stored.pieces)) == stored.pieces[:1][0]
    for offset in (0, 1, size, len(data) - 1, len(data)):
        at, found = offset, b""
        for message in stored.messages(offset):
            piece = decode_piece(message)
            assert piece is not None and piece[0] == at
            found += piece[1]
            at += len(piece[1])
        assert found == data[offset:]
