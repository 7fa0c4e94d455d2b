import os
import socket
from pathlib import Path

import pytest

from fedn.client.isolation.exchange import MODEL_NAME, Exchange, copy_outcome, sweep
from fedn.client.slots import HeldFile, SlotFolder
from fedn.protocol.errors import FednError, TaskFailed

USER = (os.geteuid(), os.getegid())


@pytest.fixture
def exchange(tmp_path: Path) -> Exchange:
    return Exchange(tmp_path, USER)


def test_a_model_is_lent_as_a_copy_that_only_the_agent_writes(exchange: Exchange, tmp_path: Path) -> None:
    path = tmp_path / "model"
    for content in (b"first and longer", b"second"):
        path.write_bytes(content + b"footer")
        lent = exchange.lend_model(HeldFile(path, len(content)))
        assert lent == HeldFile(Path("/run/fedn") / MODEL_NAME, len(content))
        assert (exchange.run / MODEL_NAME).read_bytes()[: len(content)] == content
    exchange.close()
    assert not exchange.run.exists()


def test_a_model_that_is_shorter_than_it_is_said_to_be_is_told(exchange: Exchange, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"short")
    with pytest.raises(FednError, match="5 bytes instead of 6"):
        exchange.lend_model(HeldFile(tmp_path / "model", 6))


def test_a_result_is_taken_from_the_file_that_was_there_first(exchange: Exchange, tmp_path: Path) -> None:
    slots = SlotFolder(tmp_path)
    slot = slots.create(1)
    (exchange.results / "result").write_bytes(b"x" * 100_000)
    exchange.take_result(100_000, slot)
    assert slot.path.read_bytes()[:100_000] == b"x" * 100_000
    (exchange.results / "result").unlink()
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 200_000)
    (exchange.results / "result").symlink_to(secret)
    exchange.take_result(100_000, slot)
    assert slot.path.read_bytes()[:100_000] == b"x" * 100_000
    with pytest.raises(TaskFailed, match="bad_result"):
        exchange.take_result(200_000, slot)
    slot.release()
    exchange.close()


def test_an_outcome_is_never_written_through_a_link(tmp_path: Path) -> None:
    source, target, victim = tmp_path / "own", tmp_path / "theirs", tmp_path / "victim"
    source.mkdir()
    target.mkdir()
    copy_outcome(source, target)
    assert list(target.iterdir()) == []
    (source / "outcome.json").write_text("{}")
    victim.write_text("untouched")
    (target / "outcome.json").symlink_to(victim)
    copy_outcome(source, target)
    assert victim.read_text() == "untouched"
    assert not (target / "outcome.json").is_symlink() and (target / "outcome.json").read_text() == "{}"


def test_the_socket_can_lie_in_a_folder_with_a_long_path(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    exchange = Exchange(folder, USER)
    with exchange.listen() as listening, socket.socket(socket.AF_UNIX) as caller:
        descriptor = os.open(exchange.run, os.O_PATH)
        caller.connect(f"/proc/self/fd/{descriptor}/agent.sock")
        os.close(descriptor)
        listening.accept()[0].close()
    exchange.close()


def test_folders_of_containers_that_have_gone_are_swept(tmp_path: Path) -> None:
    left = Exchange(tmp_path, USER)
    (tmp_path / "feedback").mkdir()
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["feedback"]
    left.close()
