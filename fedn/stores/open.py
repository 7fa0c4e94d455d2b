"""Opens the stores that the settings name. The one place that knows which back ends there are."""

from pathlib import Path
from typing import TypeVar, assert_never

from fedn.plan.settings import ModelStoreSettings, StateStoreSettings
from fedn.protocol.errors import InvalidInput
from fedn.stores.base import ModelStore, StateStore
from fedn.stores.files import FileModelStore
from fedn.stores.memory import MemoryModelStore
from fedn.stores.sqlite import SqliteStateStore

T = TypeVar("T")

# The S3 and MongoDB clients take a tenth of a second each to import: only who uses them pays for it.


def open_model_store(settings: ModelStoreSettings) -> ModelStore:
    """The model store of these settings.

    A server is connected to at the first call, so a store that is away does not keep the reducer from starting.

    Raises:
        InvalidInput: (`missing_setting`) a setting that this kind needs is missing.
        StoreUnavailable: the folder of a file store cannot be made.
    """
    match settings.kind:
        case "memory":
            return MemoryModelStore()
        case "files":
            return FileModelStore(Path(_needed(settings.path, "models.path", settings.kind)))
        case "s3":
            from fedn.stores.s3 import S3ModelStore

            return S3ModelStore(
                _needed(settings.endpoint, "models.endpoint", settings.kind),
                _needed(settings.bucket, "models.bucket", settings.kind),
                _needed(settings.access_key, "models.access_key", settings.kind),
                _needed(settings.secret_key, "models.secret_key", settings.kind),
                region=settings.region,
                secure=settings.secure,
                ca_file=settings.ca_file,
                retention_days=settings.retention_days,
            )
        case _:
            assert_never(settings.kind)


def open_state_store(settings: StateStoreSettings) -> StateStore:
    """The state store of these settings; a server is connected to at the first call.

    Raises:
        InvalidInput: (`missing_setting`) a setting that this kind needs is missing.
        StoreUnavailable: the file of an SQLite store cannot be made.
    """
    match settings.kind:
        case "sqlite":
            return SqliteStateStore(Path(_needed(settings.path, "state.path", settings.kind)))
        case "mongodb":
            from fedn.stores.mongo import MongoStateStore

            return MongoStateStore(
                _needed(settings.url, "state.url", settings.kind),
                _needed(settings.database, "state.database", settings.kind),
            )
        case _:
            assert_never(settings.kind)


def _needed(value: T | None, field: str, kind: str) -> T:
    if value is None or value == "":
        raise InvalidInput(
            "missing_setting",
            f"a store of the kind {kind!r} needs the setting {field}",
            fix="Give it in the settings' file, the environment or as a flag.",
            where={"field": field},
        )
    return value
