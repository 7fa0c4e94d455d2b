"""Opens the stores that the settings name. The one place that knows which back ends there are."""

from pathlib import Path
from typing import TypeVar, assert_never

from fedn.plan.settings import ModelStoreSettings, StateStoreSettings, UpdateStoreSettings
from fedn.protocol.errors import InvalidInput
from fedn.stores.base import ModelStore, StateStore
from fedn.stores.files import FileModelStore
from fedn.stores.memory import MemoryModelStore
from fedn.stores.sqlite import SqliteStateStore
from fedn.stores.updates.base import Shelf
from fedn.stores.updates.eviction import LineageLength, NoEviction
from fedn.stores.updates.files import FileShelf
from fedn.stores.updates.memory import MemoryShelf
from fedn.stores.updates.store import UpdateStore

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


def open_update_store(settings: UpdateStoreSettings, *, federation: str, combiner: str) -> UpdateStore | None:
    """The update store of a combiner; None where it is off. A server is connected to at the first call.

    Raises:
        InvalidInput: (`missing_setting`) a setting that this kind needs is missing; (`missing_package`) the client
            of Redis is not installed.
        StoreUnavailable: the folder of a file store cannot be made.
    """
    if settings.kind == "off":
        return None
    eviction = NoEviction() if settings.eviction == "NoEviction" else LineageLength(settings.lineage_length)
    return UpdateStore(_shelf(settings, federation, combiner), eviction, int(settings.max_bytes))


def _shelf(settings: UpdateStoreSettings, federation: str, combiner: str) -> Shelf:
    if settings.kind == "files":
        return FileShelf(Path(_needed(settings.path, "updates.path", settings.kind)))
    if settings.kind != "redis":
        return MemoryShelf()
    try:
        from fedn.stores.updates.redis import RedisShelf, connect, name_space
    except ModuleNotFoundError as error:
        raise InvalidInput(
            "missing_package",
            f"an update store of the kind redis needs the Python package {error.name}",
            fix="pip install 'fedn[redis]' where the combiner runs.",
            where={"field": "updates.kind"},
        ) from error
    client = connect(
        _needed(settings.url, "updates.url", settings.kind),
        username=settings.username,
        password=settings.password,
        ca_file=settings.ca_file,
        certificate_file=settings.certificate_file,
        key_file=settings.key_file,
    )
    return RedisShelf(client, name_space(federation, combiner))


def _needed(value: T | None, field: str, kind: str) -> T:
    if value is None or value == "":
        raise InvalidInput(
            "missing_setting",
            f"a store of the kind {kind!r} needs the setting {field}",
            fix="Give it in the settings' file, the environment or as a flag.",
            where={"field": field},
        )
    return value
