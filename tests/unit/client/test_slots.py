"""Slots: files that are used again, with room on the disk before they are written."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from fedn.client.slots import FOOTER_BYTES, Slot, SlotFolder, read_footer

KIND, OTHER = b"testkind", b"otherone"


def test_footer_says_what_is_there_until_the_slot_is_given_back(tmp_path: Path) -> None:
    folder = SlotFolder(tmp_path)
    slot = folder.create(100_000)
    assert read_footer(slot.path, KIND) is None
    slot.store(b"content")
    slot.write_footer(KIND, 7, 3, "a name")
    footer = read_footer(slot.path, KIND)
    assert footer is not None
    assert (footer.first, footer.second, footer.text, footer.end) == (7, 3, "a name", slot.size_bytes - FOOTER_BYTES)
    assert read_footer(slot.path, OTHER) is None
    assert slot.path.read_bytes()[:7] == b"content"
    folder.give_back(slot)
    assert read_footer(slot.path, KIND) is None


def test_free_slot_is_taken_again_with_its_pages(tmp_path: Path) -> None:
    folder = SlotFolder(tmp_path)
    slot = folder.take(100_000)
    mapping, inode = slot.mapping, slot.path.stat().st_ino
    folder.give_back(slot)
    again = folder.take(90_000)
    assert again is slot and again.mapping is mapping
    folder.give_back(again)
    longer = folder.take(500_000)
    assert longer is slot and longer.size_bytes >= 500_000
    assert longer.path.stat().st_ino == inode
    assert longer.path.stat().st_blocks * 512 >= 500_000


def test_the_smallest_slot_that_is_large_enough_is_taken(tmp_path: Path) -> None:
    folder = SlotFolder(tmp_path, max_free=3)
    slots = {size: folder.create(size) for size in (100_000, 1_000_000, 300_000)}
    for slot in slots.values():
        folder.give_back(slot)
    assert folder.take(200_000) is slots[300_000]
    assert folder.take(200_000) is slots[1_000_000]
    assert folder.take(200_000) is slots[100_000]


def test_what_is_far_too_large_is_not_used_and_in_the_end_given_up(tmp_path: Path) -> None:
    folder = SlotFolder(tmp_path, max_free=1)
    large = folder.create(40 << 20)
    folder.give_back(large)
    small = folder.take(1 << 20)
    assert small is not large
    folder.give_back(small)
    assert list(tmp_path.iterdir()) == [small.path]


def test_unused_bytes_are_bounded(tmp_path: Path) -> None:
    folder = SlotFolder(tmp_path, max_free=9, max_free_bytes=1 << 20)
    slots = [folder.create(600_000) for _ in range(3)]
    for slot in slots:
        folder.give_back(slot)
    assert list(tmp_path.iterdir()) == [slots[-1].path]
    folder.close()
    assert list(tmp_path.iterdir()) == []


def test_names_are_not_given_twice_nor_after_a_restart(tmp_path: Path) -> None:
    first = SlotFolder(tmp_path)
    kept, gone = first.create(1), first.create(1)
    gone.unlink()
    assert first.create(1).path not in {kept.path, gone.path}
    second = SlotFolder(tmp_path)
    assert not (tmp_path / second.create(1).path.name).samefile(kept.path)


def test_no_room_is_an_error_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = SlotFolder(tmp_path)
    slot = folder.create(100_000)
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(OSError, match="No space") as caught:
            slot.reserve(10 << 20)
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(OSError, match="No space"):
            folder.create(10 << 20)
        folder.give_back(slot)
        with pytest.raises(OSError, match="No space"):
            folder.take(10 << 20)
    assert list(tmp_path.iterdir()) == []

    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)  # another program was quicker
    with pytest.raises(OSError, match="No space"):
        folder.create(100_000)
    assert list(tmp_path.iterdir()) == []


def test_another_process_may_make_a_slot_longer(tmp_path: Path) -> None:
    slot = SlotFolder(tmp_path).create(100_000)
    before = len(slot.mapping)
    Slot(slot.path).store(bytes(1 << 20))
    assert slot.size_bytes == before
    slot.refresh()
    assert slot.size_bytes > 1 << 20
