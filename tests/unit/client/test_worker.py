"""A worker's tasks, without its process: what it reads, writes and says."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn import Learner, TaskContext
from fedn.client.coding import CodingRequest
from fedn.client.slots import SlotFolder
from fedn.client.worker import Worker
from fedn.client.worker_channel import INLINE_BYTES, Message
from fedn.models.digest import digest
from fedn.models.wire import decode, encode
from fedn.protocol.errors import InvalidInput

LARGE = 50_000


class Said:
    """Stands in for the channel to the agent."""

    def __init__(self) -> None:
        self.heads: list[dict[str, Any]] = []
        self.payload = b""

    def send(self, head: dict[str, Any], payload: bytes | memoryview = b"") -> None:
        self.heads.append(dict(head))
        self.payload = bytes(payload)


class Plus(Learner):
    """Adds one in place; returns as many values as `size` says where it does."""

    def train(self, weights: Any, context: TaskContext) -> Any:
        for array in weights:
            array += 1
        return weights, {}, {"num_examples": 3}

    def predict(self, weights: Any, context: TaskContext) -> Any:
        if "without" in context:
            raise InvalidInput("bad_dataset", "files are missing", fix="Put them there.", where={"folder": "/here"})
        return {"made": np.ones(context["size"], np.float32)}


class Place:
    """A worker, a model's file and a result's file."""

    def __init__(self, folder: Path, size: int = LARGE, room_bytes: int = 0) -> None:
        self.said = Said()
        self.worker = Worker(self.said)  # type: ignore[arg-type]
        self.worker._client, self.worker._work_dir = "alice", folder
        self.data = bytes(encode({"0": np.arange(size, dtype=np.float32)}))
        self.model = folder / "model"
        self.model.write_bytes(self.data)
        (folder / "spool").mkdir()
        self.slot = SlotFolder(folder / "spool").create(room_bytes or len(self.data) + 5000)

    def do(self, kind: str = "train", **parameters: Any) -> dict[str, Any]:
        head = {
            "op": "task",
            "task_id": "t",
            "kind": kind,
            "session": "s",
            "round": 0,
            "parameters": parameters,
            "step_budget": None,
            "seed": 1,
            "last_counted": None,
            "validate_incoming": False,
            "algorithm": "blake3",
            "model": {"path": str(self.model), "size": len(self.data)},
            "result": str(self.slot.path),
            "coding": CodingRequest(session="s", round=0, task_id="t").as_json(),
        }
        self.worker._task(Plus(), Message(head, bytearray()))
        return self.said.heads[-1]

    def result(self, said: dict[str, Any]) -> bytes:
        self.slot.refresh()
        with self.slot.view(said["size"]) as view:
            return bytes(view)


def test_large_result_lies_in_the_agents_file(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for _ in range(3):
        said = place.do()
        assert said["op"] == "done" and place.said.payload == b""
        made = place.result(said)
        assert digest(made) == said["object_id"]
        np.testing.assert_array_equal(decode(made)["0"], np.arange(LARGE) + 1)
    assert place.model.read_bytes() == place.data


def test_small_result_is_in_the_message(tmp_path: Path) -> None:
    place = Place(tmp_path, size=10)
    said = place.do()
    assert said["size"] == len(place.said.payload) <= INLINE_BYTES
    assert digest(place.said.payload) == said["object_id"]


def test_result_that_is_larger_than_its_file_makes_it_longer(tmp_path: Path) -> None:
    place = Place(tmp_path)
    said = place.do("predict", size=1_000_000)
    made = place.result(said)
    assert digest(made) == said["object_id"] and decode(made)["made"].shape == (1_000_000,)


def test_an_error_of_fedn_in_a_learners_code_says_what_where_and_what_to_do(tmp_path: Path) -> None:
    said = Place(tmp_path).do("predict", without="data")
    assert (said["code"], said["fix"]) == ("bad_dataset", "Put them there.")
    assert said["message"] == "files are missing (folder /here)"


def test_full_disk_is_one_clear_error_and_the_next_task_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path)

    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        said = place.do("predict", size=1_000_000)
    assert (said["op"], said["code"]) == ("failed", "disk_full")
    assert "cannot be written" in said["message"] and said["fix"]
    usage = shutil.disk_usage(tmp_path)._replace(free=0)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        assert place.do("predict", size=1_000_000)["code"] == "disk_full"
        assert place.do()["op"] == "done"  # room that was taken stays
    assert place.do("predict", size=1_000_000)["op"] == "done"


def test_model_that_cannot_be_read_fails_the_task(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.model.write_bytes(b"short")
    assert place.do()["code"] == "model_unreadable"
    place.model.unlink()
    assert place.do()["code"] == "model_unreadable"
