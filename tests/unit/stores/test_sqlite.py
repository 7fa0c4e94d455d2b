"""What only the SQLite store has: a file that may be someone else's, too new, damaged, or changed behind our back."""

import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest

from fedn.protocol.errors import Conflict, FednError, IntegrityError, InvalidInput, StoreUnavailable
from fedn.stores.base import Put
from fedn.stores.sqlite import SqliteStateStore
from tests.support.trails import make_entry


def _code(path: Path) -> str:
    with pytest.raises(FednError) as caught:
        SqliteStateStore(path)
    return caught.value.code


def test_the_file_and_its_folder_are_made_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "data" / "state.db"
    SqliteStateStore(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_every_commit_is_synced_but_those_that_need_not_be(tmp_path: Path) -> None:
    store = SqliteStateStore(tmp_path / "state.db")
    level, levels = "", []

    def note(statement: str) -> None:
        nonlocal level
        if statement.startswith("PRAGMA synchronous"):
            level = statement.rpartition(" ")[2]
        elif statement.startswith("INSERT"):
            levels.append(level)

    store._writer.set_trace_callback(note)
    store.append_events([{}])
    store.put("things", "x", {})
    store.append_entry(make_entry(0))
    store.put_all([Put("things", "x", {})], durable=False)
    store.append_events([{}])
    store.append_entry(make_entry(1))
    assert levels == ["NORMAL", "FULL", "FULL", "NORMAL", "NORMAL", "FULL"]
    store.close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_trail_cannot_be_changed_by_sql(tmp_path: Path) -> None:
    store = SqliteStateStore(tmp_path / "state.db")
    store.append_entry(make_entry(0))
    store.close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as other:
        for statement in ("UPDATE trail SET body = '{}'", "DELETE FROM trail"):
            with pytest.raises(sqlite3.IntegrityError):
                other.execute(statement)


def test_another_programs_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
        other.commit()
    before = path.read_bytes()
    assert _code(path) == "not_a_state_store"
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are notes\n" * 100)
    with pytest.raises(InvalidInput):
        SqliteStateStore(path)
    assert path.read_text() == "these are notes\n" * 100


def test_a_store_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    SqliteStateStore(path).close()
    with closing(sqlite3.connect(path)) as later:
        later.execute("PRAGMA user_version = 2")
    with pytest.raises(Conflict) as caught:
        SqliteStateStore(path)
    assert caught.value.code == "state_store_too_new"
    assert "schema 2" in caught.value.message


def test_a_damaged_file_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = SqliteStateStore(path)
    for index in range(50):
        store.put("things", f"{index}", {"x": "x" * 500})
    store.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    # The first page, with the schema, is whole: it shows at the first read.
    with closing(SqliteStateStore(path)) as damaged, pytest.raises(IntegrityError) as caught:
        damaged.find("things")
    assert caught.value.code == "state_store_damaged"
    assert caught.value.where["file"] == str(path)


@pytest.mark.parametrize("path", ["/dev/null/state.db", "/proc/fedn/state.db"])
def test_a_file_that_cannot_be_made_is_said(path: str) -> None:
    assert _code(Path(path)) == "store_unavailable"


def test_a_closed_store_does_not_answer(tmp_path: Path) -> None:
    store = SqliteStateStore(tmp_path / "state.db")
    store.close()
    for call in (store.ping, lambda: store.put("things", "x", {})):
        with pytest.raises(StoreUnavailable):
            call()


def test_a_refused_write_does_not_hold_up_the_next(tmp_path: Path) -> None:
    store = SqliteStateStore(tmp_path / "state.db")
    store.append_entry(make_entry(0))
    with pytest.raises(Conflict):
        store.append_entry(make_entry(0))
    store.append_entry(make_entry(1))
    assert len(store.entries("fed")) == 2
    store.close()


def test_a_read_does_not_wait_for_a_write_that_goes_on(tmp_path: Path) -> None:
    store = SqliteStateStore(tmp_path / "state.db")
    store.put("things", "x", {"n": 1})
    with store._transaction() as db:
        db.execute("DELETE FROM documents")
        seen: list[object] = []
        reader = threading.Thread(target=lambda: seen.append(store.get("things", "x")))
        reader.start()
        reader.join(60)
        assert seen == [{"n": 1}]
    assert store.get("things", "x") is None
    store.close()


def test_a_full_store_says_so_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    store = SqliteStateStore(tmp_path / "state.db")
    store.put("things", "x", {"n": 1})
    (pages,) = store._writer.execute("PRAGMA page_count").fetchone()
    store._writer.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreUnavailable) as caught:
        store.put("things", "x", {"x": "x" * 100_000})
    assert caught.value.code == "store_full"
    assert store.find("things") == [{"n": 1}]
    store._writer.execute(f"PRAGMA max_page_count = {pages + 1000}")
    store.put("things", "x", {"x": "x" * 100_000})
    assert store.count("things") == 1
    store.close()


def test_a_store_that_another_process_keeps_locked_is_unavailable_for_writers(tmp_path: Path) -> None:
    store = SqliteStateStore(tmp_path / "state.db")
    store._writer.execute("PRAGMA busy_timeout = 10")
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable) as caught:
            store.put("things", "x", {})
        assert caught.value.code == "store_unavailable"
        assert store.get("things", "x") is None
        other.execute("ROLLBACK")
    store.put("things", "x", {})
    store.close()


@pytest.mark.parametrize("order_by", [None, "index"])
def test_a_search_by_session_uses_the_index(tmp_path: Path, order_by: str | None) -> None:
    store = SqliteStateStore(tmp_path / "state.db")
    statements: list[str] = []
    store._reader.set_trace_callback(statements.append)
    store.find("rounds", {"session": "s1"}, order_by=order_by)
    (search,) = [statement for statement in statements if "documents" in statement]
    (plan, *_) = store._reader.execute("EXPLAIN QUERY PLAN " + search).fetchall()
    assert "documents_session" in plan[3]
    store.close()
