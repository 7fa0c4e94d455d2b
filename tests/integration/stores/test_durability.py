"""What a store has said is stored survives a SIGKILL of the writer and of the server; what was cut off is not seen."""

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedn.models.digest import digest
from fedn.protocol.errors import IntegrityError, NotFound
from fedn.stores.base import StateStore
from fedn.stores.files import FileModelStore
from fedn.stores.mongo import MongoStateStore
from fedn.stores.sqlite import SqliteStateStore
from tests.support import servers
from tests.support.store_writer import OBJECT_BYTES, make_object
from tests.support.trails import make_chain

ROOT = Path(__file__).parents[3]


def _lines_until_killed(count: int, *arguments: str) -> list[str]:
    """The first lines of a store_writer, which is killed as soon as it has written `count` of them."""
    command = [sys.executable, "-m", "tests.support.store_writer", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        lines = [line.strip() for line in (writer.stdout.readline() for _ in range(count))]
        writer.send_signal(signal.SIGKILL)
        # What it had written before the kill reached it was promised as well.
        lines += [line.strip() for line in writer.stdout if line.endswith("\n")]
    return lines


@pytest.fixture(params=["sqlite", "mongodb"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The arguments with which a writer finds the store."""
    if request.param == "sqlite":
        return ["sqlite", str(tmp_path / "state.db")]
    return ["mongodb", request.getfixturevalue("mongodb_url"), f"test_{uuid.uuid4().hex}"]


def _open(place: list[str]) -> StateStore:
    return SqliteStateStore(place[1]) if place[0] == "sqlite" else MongoStateStore(*place[1:])


def test_every_committed_entry_survives_the_kill_of_its_writer(place: list[str]) -> None:
    printed = _lines_until_killed(20, *place)
    assert printed[:20] == [str(index) for index in range(20)]
    store = _open(place)
    indices = [entry.index for entry in store.entries("fed")]
    assert indices == list(range(len(indices)))
    # The last entry may have been committed without its line having been written; none the other way.
    assert len(printed) <= len(indices) <= len(printed) + 1
    store.append_entry(make_chain(len(indices) + 1)[-1])
    store.close()


def test_a_committed_entry_survives_the_kill_of_the_mongodb_server(tmp_path: Path) -> None:
    chain = make_chain(3)
    with servers.mongodb_server(tmp_path) as server:
        store = MongoStateStore(f"mongodb://127.0.0.1:{server.port}", "fedn")
        for entry in chain:
            store.append_entry(entry)
            store.put("sessions", "s1", {"rounds_done": entry.index})
        server.kill()
        server.start()
        assert store.entries("fed") == chain
        assert store.get("sessions", "s1") == {"rounds_done": 2}
        store.close()


def test_a_half_written_object_is_not_seen_and_its_remains_go_at_the_next_start(tmp_path: Path) -> None:
    *whole, half = _lines_until_killed(4, "files", str(tmp_path))
    assert half == digest(make_object(3))
    (remains,) = (tmp_path / "incoming").iterdir()
    assert remains.stat().st_size == OBJECT_BYTES // 2
    store = FileModelStore(tmp_path)
    assert list((tmp_path / "incoming").iterdir()) == []
    assert {found.object_id for found in store.objects()} == set(whole)
    for index, object_id in enumerate(whole):
        assert b"".join(store.read(object_id)) == make_object(index)
    with pytest.raises(NotFound):
        store.stat(half)


def test_a_second_process_leaves_an_object_alone_that_is_being_written(tmp_path: Path) -> None:
    store = FileModelStore(tmp_path)

    def chunks() -> Iterator[bytes]:
        yield b"weig"
        FileModelStore(tmp_path)
        yield b"hts"

    store.put(digest(b"weights"), chunks(), 7)
    assert b"".join(store.read(digest(b"weights"))) == b"weights"
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.store_writer", "full", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "store_full"
    assert list((tmp_path / "incoming").iterdir()) == []
    assert list(FileModelStore(tmp_path).objects()) == []


def test_an_object_that_is_cut_off_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    store = FileModelStore(tmp_path)
    data = make_object(0)
    store.put(digest(data), [data], len(data))
    pieces = store.read(digest(data))
    next(pieces)
    (file,) = (path for path in (tmp_path / "objects").rglob("*") if path.is_file())
    with file.open("r+b") as opened:
        opened.truncate(2 << 20)
    with pytest.raises(IntegrityError) as caught:
        list(pieces)
    assert caught.value.code == "object_truncated"
