"""What updates leave out: applied once, whatever is repeated, refused or lost."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.client.feedback import FeedbackFolder
from fedn.models.codecs.chain import Chain
from fedn.models.codecs.delta import Delta
from fedn.models.codecs.encode import encode
from fedn.models.codecs.int8 import Int8
from fedn.models.codecs.payload import Payload
from fedn.models.codecs.topk import TopK
from fedn.models.wire import decode, read_spec
from fedn.models.wire import encode as to_bytes
from fedn.protocol.errors import InvalidInput, TaskFailed

BASE = {"w": np.zeros(50, np.float32), "n": np.zeros(2, np.int64)}
CHAIN = Chain([Delta(), TopK(fraction=0.1)])
ENCODING = CHAIN.of(read_spec(to_bytes(BASE)), "blake3:" + "0" * 64)


def update(values: float) -> dict[str, Any]:
    return {**BASE, "w": np.arange(1, 51, dtype=np.float32) * np.float32(values)}


def make(folder: Path, values: float, round_index: int, task: str, session: str = "s", encoding: Any = ENCODING) -> Any:
    """The values that an update sends, after whatever the folder adds to them."""
    with FeedbackFolder(folder).update(encoding, session=session, round_index=round_index, task_id=task) as feedback:
        data = encode(encoding, update(values), feedback=feedback)
    return decode(Payload(encoding, data).decode())["w"]


def sent_with(before: Any, values: float) -> Any:
    """(what is sent, what is left out) of an update, where so much was left out before."""
    whole = update(values)["w"] + before
    order = np.lexsort((np.arange(50), -np.abs(whole)))[:5]
    sent = np.zeros_like(whole)
    sent[order] = whole[order]
    return sent, whole - sent


def test_what_is_left_out_comes_with_the_next_update_once_the_last_is_acknowledged(tmp_path: Path) -> None:
    left = np.zeros(50, np.float32)
    for index in range(4):
        expected, left = sent_with(left, 1.0)
        np.testing.assert_array_equal(make(tmp_path, 1.0, index, f"t{index}"), expected)
        FeedbackFolder(tmp_path).note_outcome(f"t{index}", counted=True)


def test_the_same_task_made_again_goes_on_from_where_it_did_before(tmp_path: Path) -> None:
    first = make(tmp_path, 1.0, 0, "t0")
    FeedbackFolder(tmp_path).note_outcome("t0", counted=True)
    np.testing.assert_array_equal(make(tmp_path, 1.0, 0, "t0"), first)
    FeedbackFolder(tmp_path).note_outcome("t0", counted=True)
    second = make(tmp_path, 1.0, 1, "t1")
    np.testing.assert_array_equal(make(tmp_path, 1.0, 1, "t1"), second)
    np.testing.assert_array_equal(second, sent_with(sent_with(0, 1.0)[1], 1.0)[0])


def test_a_refused_update_counts_as_if_it_had_not_been_made(tmp_path: Path) -> None:
    make(tmp_path, 1.0, 0, "t0")
    FeedbackFolder(tmp_path).note_outcome("t0", counted=True)
    make(tmp_path, 5.0, 1, "t1")
    FeedbackFolder(tmp_path).note_outcome("t1", counted=False)
    np.testing.assert_array_equal(make(tmp_path, 1.0, 2, "t2"), sent_with(sent_with(0, 1.0)[1], 1.0)[0])


def test_where_it_is_not_known_whether_an_update_counted_nothing_is_applied(tmp_path: Path) -> None:
    make(tmp_path, 1.0, 0, "t0")
    FeedbackFolder(tmp_path).note_outcome("t0", counted=True)
    make(tmp_path, 1.0, 1, "t1")
    np.testing.assert_array_equal(make(tmp_path, 1.0, 2, "t2"), sent_with(0, 1.0)[0])


def test_a_task_that_broke_off_leaves_everything_as_it_was(tmp_path: Path) -> None:
    make(tmp_path, 1.0, 0, "t0")
    FeedbackFolder(tmp_path).note_outcome("t0", counted=True)
    with pytest.raises(InvalidInput):
        make(tmp_path, np.nan, 1, "t1")
    np.testing.assert_array_equal(make(tmp_path, 1.0, 1, "t1"), sent_with(sent_with(0, 1.0)[1], 1.0)[0])


@pytest.mark.parametrize(
    "change",
    [
        {"session": "another"},
        {"round_index": 0, "task": "t0 from another base"},
        {"encoding": Chain([Delta(), Int8()]).of(ENCODING.base, ENCODING.base_id)},
    ],
    ids=["session", "round", "chain"],
)
def test_another_line_of_models_begins_with_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    make(tmp_path, 1.0, 0, "t0")
    FeedbackFolder(tmp_path).note_outcome("t0", counted=True)
    make(tmp_path, 1.0, 1, "t1")
    FeedbackFolder(tmp_path).note_outcome("t1", counted=True)
    given = {"values": 1.0, "round_index": 2, "task": "t2"} | change
    np.testing.assert_array_equal(make(tmp_path, **given), make(tmp_path / "fresh", **given))


@pytest.mark.parametrize("name", ["state.json", "outcome.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b"{"])
def test_damaged_notes_cost_what_was_kept_and_no_more(tmp_path: Path, name: str, content: bytes) -> None:
    make(tmp_path, 1.0, 0, "t0")
    FeedbackFolder(tmp_path).note_outcome("t0", counted=True)
    (tmp_path / name).write_bytes(content)
    np.testing.assert_array_equal(make(tmp_path, 1.0, 1, "t1"), sent_with(0, 1.0)[0])


def test_a_file_of_another_size_is_not_believed(tmp_path: Path) -> None:
    make(tmp_path, 1.0, 0, "t0")
    FeedbackFolder(tmp_path).note_outcome("t0", counted=True)
    for path in tmp_path.glob("*.f32"):
        path.write_bytes(b"\0" * 12)
    np.testing.assert_array_equal(make(tmp_path, 1.0, 1, "t1"), sent_with(0, 1.0)[0])


def test_nothing_is_written_where_no_session_has_error_feedback(tmp_path: Path) -> None:
    FeedbackFolder(tmp_path / "feedback").note_outcome("t0", counted=True)
    assert not (tmp_path / "feedback").exists()


def test_two_files_of_four_bytes_a_value_are_all_that_is_kept(tmp_path: Path) -> None:
    for index in range(5):
        make(tmp_path, 1.0, index, f"t{index}")
        FeedbackFolder(tmp_path).note_outcome(f"t{index}", counted=True)
    assert sorted((path.name, path.stat().st_size) for path in tmp_path.glob("*.f32")) == [
        ("a.f32", 200),
        ("b.f32", 200),
    ]


def test_a_full_disk_fails_the_task_with_its_reason(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_bytes(b"")
    with pytest.raises(TaskFailed, match="feedback_failed"):
        make(place / "feedback", 1.0, 0, "t0")
