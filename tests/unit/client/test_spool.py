"""The spool: results wait for their acknowledgement, over restarts, within bounds."""

from pathlib import Path
from typing import Any

import pytest

from fedn.client.spool import Spool
from fedn.models.digest import digest
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
