"""The spool: results wait for their acknowledgement, over restarts, within bounds."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from fedn.client.spool import Spool
from fedn.models.digest import digest
from fedn.protocol.errors import LimitExceeded
from fedn.protocol.tasks import RoundName, UpdateMetadata

DIGEST = digest(b"1")
ROUND = RoundName(session="s", index=3, attempt=0, epoch=1)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def metadata(task_id: str = "t1", **fields: Any) -> UpdateMetadata:
    return UpdateMetadata(task_id=task_id, client="alice", round=ROUND, base_model_id="base", **fields)


def test_results_are_found_again_after_a_restart(tmp_path: Path) -> None:
    Spool(tmp_path).put(metadata(num_examples=5, metrics={"loss": float("inf")}), digest(b"tensors"), b"tensors", 7)
    again = Spool(tmp_path)
    assert again.task_ids() == ["t1"]
    result = again.get("t1")
    assert result is not None
    assert (result.metadata, result.object_id, result.size_bytes) == (
        metadata(num_examples=5, metrics={"loss": float("inf")}),
        digest(b"tensors"),
        7,
    )
    with result.open() as view:
        assert bytes(view) == b"tensors"


def test_result_without_tensors_is_kept(tmp_path: Path) -> None:
    Spool(tmp_path).put(metadata(metrics={"acc": 0.5}), "", None, 0)
    result = Spool(tmp_path).get("t1")
    assert result is not None and result.size_bytes == 0
    assert result.metadata.metrics == {"acc": 0.5}


def test_large_result_is_taken_over_from_the_workers_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    slot = spool.work(1000)
    path = slot.path
    slot.store(b"x" * 1000)
    result = spool.put(metadata(), DIGEST, slot, 1000)
    assert (result.size_bytes, result.slot.path) == (1000, path)
    with result.open() as view:
        assert bytes(view) == b"x" * 1000


def test_result_answers_another_attempt(tmp_path: Path) -> None:
    result = Spool(tmp_path).put(metadata(), DIGEST, b"1", 1)
    other = ROUND.model_copy(update={"attempt": 2, "epoch": 4})
    assert result.for_round(other).metadata.round == other
    assert result.metadata.round == ROUND


def test_acknowledged_result_leaves_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.put(metadata(), DIGEST, b"1", 1)
    spool.remove("t1")
    spool.remove("never heard of")
    assert spool.get("t1") is None and Spool(tmp_path).task_ids() == []
    spool.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 100])
def test_damaged_and_half_written_files_are_thrown_away(tmp_path: Path, damage: bytes) -> None:
    spool = Spool(tmp_path)
    result = spool.put(metadata(), DIGEST, b"1", 1)
    result.slot.path.write_bytes(damage)
    spool.work(1000).store(b"half")
    assert Spool(tmp_path).task_ids() == []
    assert list(tmp_path.iterdir()) == []


def test_old_results_expire(tmp_path: Path) -> None:
    clock = Clock()
    spool = Spool(tmp_path, max_age_s=60, clock=clock)
    spool.put(metadata("old"), DIGEST, b"1", 1)
    clock.now += 61
    spool.put(metadata("new"), DIGEST, b"1", 1)
    assert spool.task_ids() == ["new"]
    clock.now += 61
    assert Spool(tmp_path, max_age_s=60, clock=clock).task_ids() == []


def test_oldest_results_make_room_but_the_newest_stays(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=150)
    for name in ("a", "b", "c"):
        spool.put(metadata(name), DIGEST, b"x" * 100, 100)
    assert spool.task_ids() == ["c"]
    spool.put(metadata("large"), DIGEST, b"x" * 1000, 1000)
    assert spool.task_ids() == ["large"]


def test_hostile_task_ids_stay_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    result = Spool(folder).put(metadata("../../escape"), DIGEST, b"1", 1)
    assert result.slot.path.parent == folder
    assert Spool(folder).task_ids() == ["../../escape"]


def test_acknowledged_result_leaves_its_file_to_the_next(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    inodes = set()
    for index, data in enumerate([b"a" * 100_000, b"b" * 90_000, b"c" * 10, b"d" * 100_000]):
        slot = spool.work(len(data))
        slot.store(data)
        result = spool.put(metadata(f"t{index}", metrics={"x": index}), digest(data), slot, len(data))
        with result.open() as view:
            assert bytes(view) == data
        [found] = [Spool(tmp_path).get(task_id) for task_id in Spool(tmp_path).task_ids()]
        assert found is not None and found.metadata.metrics == {"x": index} and found.size_bytes == len(data)
        inodes.add(result.slot.path.stat().st_ino)
        spool.remove(f"t{index}")
    assert len(inodes) == 1


def test_file_of_a_task_that_failed_is_used_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    slot = spool.work(100_000)
    slot.store(b"half")
    spool.discard(slot)
    assert spool.work(100_000) is slot
    assert Spool(tmp_path).task_ids() == []


def test_result_that_a_power_cut_damaged_is_not_offered(tmp_path: Path) -> None:
    result = Spool(tmp_path).put(metadata(), digest(b"content"), b"content", 7)
    result.slot.mapping[:7] = b"foreign"
    again = Spool(tmp_path)
    assert again.task_ids() == ["t1"]
    assert again.get("t1") is None
    assert again.task_ids() == [] and Spool(tmp_path).task_ids() == []


def test_of_two_results_of_a_task_the_newer_one_counts(tmp_path: Path) -> None:
    clock = Clock()
    spool = Spool(tmp_path, clock=clock)
    old = spool.put(metadata(), digest(b"old"), b"old", 3)
    footer_of_old = bytes(old.slot.mapping)
    clock.now += 1
    spool.put(metadata(), digest(b"new"), b"new", 3)
    old.slot.mapping[:] = footer_of_old  # killed before the old one was taken away
    again = Spool(tmp_path, clock=clock)
    result = again.get("t1")
    assert result is not None and result.object_id == digest(b"new")
    again.remove("t1")
    assert Spool(tmp_path, clock=clock).task_ids() == []


def test_large_metadata_are_kept(tmp_path: Path) -> None:
    metrics = {f"a metric with a long name, number {index}": float(index) for index in range(1000)}
    spool = Spool(tmp_path)
    slot = spool.work(100)
    slot.store(b"1")
    spool.put(metadata(metrics=metrics), DIGEST, slot, 1)
    found = Spool(tmp_path).get("t1")
    assert found is not None and found.metadata.metrics == metrics


def test_many_waiting_results_do_not_keep_their_files_open(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    results = [spool.put(metadata(f"t{index}"), DIGEST, b"1", 1) for index in range(60)]
    assert len(os.listdir("/proc/self/fd")) - before < 10
    for result in results:
        with result.open() as view:
            assert bytes(view) == b"1"


def test_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(LimitExceeded, match="disk_full"):
        spool.work(100_000)
    with pytest.raises(LimitExceeded, match="disk_full"):
        spool.put(metadata(), DIGEST, b"1", 1)
    assert list(tmp_path.iterdir()) == [] and spool.task_ids() == []


def test_full_disk_at_the_last_moment_loses_only_that_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)
    kept = spool.put(metadata("kept"), DIGEST, b"1", 1)
    slot = spool.work(100)
    usage = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    metrics = {f"a metric with a long name, number {index}": float(index) for index in range(1000)}
    slot.store(b"x" * 30_000)
    with pytest.raises(LimitExceeded, match="disk_full"):
        spool.put(metadata(metrics=metrics), DIGEST, slot, 30_000)
    assert list(tmp_path.iterdir()) == [kept.slot.path]
