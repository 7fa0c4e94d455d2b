"""The client's smaller parts: loading, trail memory, back-off, requirements, output, uploads."""

import asyncio
import json
import logging
from pathlib import Path

import pytest

from fedn.client.heads import TrailMemory
from fedn.client.loading import load_learner
from fedn.client.output import Output
from fedn.client.python_env import read_requirements
from fedn.client.spool import Spool
from fedn.client.uploads import Upload
from fedn.network.backoff import Backoff
from fedn.network.frames import decode_control, decode_piece
from fedn.network.generated import client_pb2 as wire
from fedn.protocol.errors import IntegrityError, InvalidInput, TaskFailed
from fedn.protocol.tasks import RoundName, UpdateMetadata

LEARNER = """
from fedn import Learner

class Good(Learner):
    def train(self, weights, context):
        return weights, {"num_examples": 1}

class Abstract(Learner):
    pass

not_a_class = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "unit_learners.py").write_text(LEARNER)
    return tmp_path


@pytest.mark.parametrize("name", ["unit_learners:Good", "unit_learners.py:Good", "unit_learners.py", "unit_learners"])
def test_learner_is_found_by_module_or_file(folder: Path, name: str) -> None:
    assert type(load_learner(name, folder)).__name__ == "Good"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("unit_learners:Missing", "no Learner class 'Missing'"),
        ("unit_learners:not_a_class", "no Learner class"),
        ("unit_learners:Abstract", "does not define train"),
        ("nothing.py:Good", "no file nothing.py"),
    ],
)
def test_what_is_no_learner_is_named(folder: Path, name: str, text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        load_learner(name, folder)


def test_trail_may_only_grow(tmp_path: Path) -> None:
    path = tmp_path / "head.json"
    memory = TrailMemory(path)
    memory.check("sha256:a", 1)
    memory.check("sha256:a", 1)
    memory.check("sha256:c", 3)
    for head, length in [("sha256:b", 2), ("sha256:x", 3), ("", 0)]:
        with pytest.raises(IntegrityError, match="trail_rolled_back"):
            TrailMemory(path).check(head, length)
    TrailMemory(path).check("sha256:d", 4)


def test_damaged_trail_memory_is_not_taken_for_none(tmp_path: Path) -> None:
    path = tmp_path / "head.json"
    path.write_text(json.dumps(["what"]))
    with pytest.raises(IntegrityError, match="trail_memory_damaged"):
        TrailMemory(path)


def test_backoff_doubles_up_to_its_bound_and_begins_anew() -> None:
    backoff = Backoff(0.1, 2.0)
    waits = [backoff.next_s() for _ in range(10)]
    assert 0.05 <= waits[0] <= 0.1
    assert all(1.0 <= wait <= 2.0 for wait in waits[5:])
    backoff.reset()
    assert backoff.next_s() <= 0.1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("env.yaml", "dependencies: ['numpy>=1', FEDN, 'fedn[torch]==0.1', pandas]"),
        ("env.txt", "numpy>=1\nfedn>=3 # the server\n\npandas\n"),
    ],
)
def test_fedn_itself_is_never_installed(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert read_requirements(path) == ["numpy>=1", "pandas"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "dependencies: {a: b}"),
        ("a.yaml", "["),
        ("a.yaml", "dependencies: ['--index-url=http://evil']"),
        ("a.yaml", "[" * 5000),
        ("a.txt", "caf\xe9"),
    ],
)
def test_what_is_no_list_of_requirements_is_refused(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(TaskFailed, match="bad_python_env"):
        read_requirements(path)


def test_output_is_logged_up_to_its_limit_and_its_end_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> Output:
        stream = asyncio.StreamReader()
        stream.feed_data(b"first\n" + b"x" * 50 + b"\n" + b"\xff last, without an end")
        stream.feed_eof()
        output = Output(logging.getLogger("fedn.test"), limit_bytes=20)
        await output.read(stream)
        return output

    with caplog.at_level(logging.INFO):
        output = asyncio.run(scenario())
    assert [record.getMessage() for record in caplog.records] == [
        "first",
        "more than 20 bytes of output: the rest is not logged",
    ]
    assert output.tail.endswith("last, without an end")


def test_upload_sends_pieces_from_the_offset_and_then_its_end(tmp_path: Path) -> None:
    metadata = UpdateMetadata(task_id="t1", client="a", round=RoundName(session="s", index=0, attempt=0, epoch=1))
    result = Spool(tmp_path).put(metadata, "blake3:x", b"0123456789", 10)
    upload = Upload(result, 2, chunk_bytes=5)
    pieces = []
    while (message := upload.next_message()) is not None:
        piece = decode_piece(message)
        if piece is None:
            assert decode_control(wire.ClientFrame, message).upload_end.task_id == "t1"
        else:
            pieces.append((piece[0], bytes(piece[1])))
    assert pieces == [(2, b"23456"), (7, b"789")]
    with pytest.raises(InvalidInput, match="bad_frame"):
        Upload(result, 11)
