"""The settings of a store and the store that they open."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from fedn.plan.settings import ModelStoreSettings, StateStoreSettings
from fedn.protocol.errors import InvalidInput
from fedn.stores.files import FileModelStore
from fedn.stores.memory import MemoryModelStore
from fedn.stores.mongo import MongoStateStore
from fedn.stores.open import open_model_store, open_state_store
from fedn.stores.s3 import S3ModelStore
from fedn.stores.sqlite import SqliteStateStore


def test_each_kind_of_model_store_is_opened(tmp_path: Path) -> None:
    s3 = ModelStoreSettings(kind="s3", endpoint="127.0.0.1:9", bucket="models", access_key="a", secret_key="b" * 8)
    kinds = {
        MemoryModelStore: ModelStoreSettings(kind="memory"),
        FileModelStore: ModelStoreSettings(kind="files", path=tmp_path / "models"),
        S3ModelStore: s3,
    }
    for kind, settings in kinds.items():
        store = open_model_store(settings)
        assert type(store) is kind
        store.close()


def test_each_kind_of_state_store_is_opened_without_a_server(tmp_path: Path) -> None:
    kinds = {
        SqliteStateStore: StateStoreSettings(kind="sqlite", path=tmp_path / "state.db"),
        MongoStateStore: StateStoreSettings(kind="mongodb", url="mongodb://127.0.0.1:9", database="fedn"),
    }
    for kind, settings in kinds.items():
        store = open_state_store(settings)
        assert type(store) is kind
        store.close()


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        open_model_store(ModelStoreSettings(kind="files"))
    assert caught.value.code == "missing_setting"
    assert caught.value.where == {"field": "models.path"}
    with pytest.raises(InvalidInput) as caught:
        open_state_store(StateStoreSettings(kind="mongodb", url="mongodb://127.0.0.1:9"))
    assert caught.value.where == {"field": "state.database"}
    with pytest.raises(ValidationError):
        ModelStoreSettings(kind="s3")


def test_embedded_stores_do_not_import_the_clients_of_servers() -> None:
    program = "import sys, fedn.stores.open; sys.exit('minio' in sys.modules or 'pymongo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == 0
