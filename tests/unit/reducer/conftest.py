from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from fedn.stores.sqlite import SqliteStateStore
from tests.unit.reducer.parts import Parts, make_parts


@pytest.fixture
def state(tmp_path: Path) -> Iterator[SqliteStateStore]:
    store = SqliteStateStore(tmp_path / "own-state.db")
    yield store
    store.close()


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    made = make_parts(tmp_path / "reducer")
    yield made
    made.close()


@pytest.fixture
def client(parts: Parts) -> FlaskClient:
    return parts.app.test_client()
