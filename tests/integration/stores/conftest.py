"""Every back end of the two store protocols, each opened anew for a test on a place of its own."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedn.stores.base import ModelStore, StateStore
from fedn.stores.files import FileModelStore
from fedn.stores.memory import MemoryModelStore
from fedn.stores.mongo import MongoStateStore
from fedn.stores.s3 import S3ModelStore
from fedn.stores.sqlite import SqliteStateStore
from tests.support.servers import S3Account

OpenModelStore = Callable[[], ModelStore]
OpenStateStore = Callable[[], StateStore]


def s3_store(account: S3Account, bucket: str, *, retention_days: int | None = None, prefix: str = "") -> S3ModelStore:
    return S3ModelStore(
        account.endpoint,
        bucket,
        account.access_key,
        account.secret_key,
        secure=False,
        retention_days=retention_days,
        prefix=prefix,
    )


@pytest.fixture(params=["memory", "files", "s3-versioned", "s3-plain", "s3-prefix"])
def open_model_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenModelStore]:
    """Opens a model store; each call of it in one test opens the same place once more."""
    bucket = f"test-{uuid.uuid4().hex}"
    memory = MemoryModelStore()
    makers: dict[str, OpenModelStore] = {
        "memory": lambda: memory,
        "files": lambda: FileModelStore(tmp_path / "models"),
        "s3-versioned": lambda: s3_store(request.getfixturevalue("s3_moto"), versioned_bucket(request, bucket)),
        "s3-plain": lambda: s3_store(request.getfixturevalue("s3_rclone"), bucket),
        "s3-prefix": lambda: s3_store(request.getfixturevalue("s3_rclone"), bucket, prefix="federations/a/"),
    }
    opened: list[ModelStore] = []

    def make() -> ModelStore:
        opened.append(makers[request.param]())
        return opened[-1]

    yield make
    for store in opened:
        store.close()


def versioned_bucket(request: pytest.FixtureRequest, bucket: str) -> str:
    """Makes the bucket with Object Lock, and so with versions, where it is missing."""
    maker = s3_store(request.getfixturevalue("s3_moto"), bucket, retention_days=1)
    maker.delete("sha256:" + "0" * 64)  # any first call makes it
    maker.close()
    return bucket


@pytest.fixture
def model_store(open_model_store: OpenModelStore) -> ModelStore:
    return open_model_store()


@pytest.fixture(params=["sqlite", "mongodb"])
def open_state_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStateStore]:
    """Opens a state store; each call of it in one test opens the same place once more."""
    database = f"test_{uuid.uuid4().hex}"
    makers: dict[str, OpenStateStore] = {
        "sqlite": lambda: SqliteStateStore(tmp_path / "state.db"),
        "mongodb": lambda: MongoStateStore(request.getfixturevalue("mongodb_url"), database),
    }
    opened: list[StateStore] = []

    def make() -> StateStore:
        opened.append(makers[request.param]())
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def state_store(open_state_store: OpenStateStore) -> StateStore:
    return open_state_store()
