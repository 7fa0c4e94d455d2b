"""A store that goes away says so, in bounded time and without a change, and works again when it is back."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fedn.models.digest import digest
from fedn.protocol.errors import StoreUnavailable
from fedn.stores.mongo import MongoStateStore
from fedn.stores.s3 import S3ModelStore
from tests.support import servers
from tests.support.proxy import BreakingProxy
from tests.support.trails import make_entry

MIB = 1 << 20
BOUND_S = 60
"""More than any call may take while the server is away, on a machine however slow."""


def _is_away(call: Callable[[], object]) -> None:
    started_at = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        call()
    assert caught.value.code == "store_unavailable"
    assert caught.value.retryable
    assert time.monotonic() - started_at < BOUND_S


def _s3(port: int, **options: object) -> S3ModelStore:
    given: dict[str, object] = {"secure": False, **options}
    return S3ModelStore(f"127.0.0.1:{port}", "models", "tester", "tester-secret", **given)  # type: ignore[arg-type]


def test_mongodb_may_come_late_go_away_and_come_back(tmp_path: Path) -> None:
    server = servers.mongodb_server(tmp_path)
    store = MongoStateStore(f"mongodb://127.0.0.1:{server.port}/?serverSelectionTimeoutMS=1000", "fedn")
    _is_away(store.ping)
    with server:
        store.append_entry(make_entry(0))
        lease = store.acquire_lease("writer", "a", 1000)
        server.kill()
        _is_away(lambda: store.append_entry(make_entry(1)))
        _is_away(lambda: store.head("fed"))
        server.start()
        store.append_entry(make_entry(1))
        assert [entry.index for entry in store.entries("fed")] == [0, 1]
        assert store.renew_lease(lease, 1000).epoch == 1
    store.close()


def test_s3_may_come_late_go_away_and_come_back(tmp_path: Path) -> None:
    server = servers.rclone_server(tmp_path, ("tester", "tester-secret"))
    store = _s3(server.port)
    _is_away(lambda: list(store.objects()))
    first, second = b"first", b"x" * (20 * MIB)
    with server:
        store.put(digest(first), [first], len(first))
        server.kill()
        _is_away(lambda: store.put(digest(second), [second], len(second)))
        _is_away(lambda: list(store.read(digest(first))))
        _is_away(lambda: store.stat(digest(first)))
        server.start()
        assert [found.object_id for found in store.objects()] == [digest(first)]
        store.put(digest(second), [second], len(second))
        assert b"".join(store.read(digest(second))) == second
    store.close()


def test_a_read_goes_on_where_its_connection_broke(s3_rclone: servers.S3Account) -> None:
    data = b"".join(index.to_bytes(4, "little") for index in range(3 * MIB))
    port = int(s3_rclone.endpoint.rpartition(":")[2])
    with BreakingProxy(port, break_after_bytes=5 * MIB, times=2) as proxy:
        store = _s3(proxy.port)
        store.put(digest(data), [data], len(data))
        assert b"".join(store.read(digest(data))) == data
        assert proxy.breaks_left == 0
        store.close()


def test_a_read_that_gets_nowhere_ends(s3_rclone: servers.S3Account) -> None:
    data = b"x" * (2 * MIB)
    port = int(s3_rclone.endpoint.rpartition(":")[2])
    direct = _s3(port)
    direct.put(digest(data), [data], len(data))
    direct.close()
    with BreakingProxy(port, break_after_bytes=0, times=10_000) as proxy:
        store = _s3(proxy.port)
        _is_away(lambda: list(store.read(digest(data))))
        store.close()


def test_a_mongodb_that_wants_a_password_is_not_away_but_refuses(tmp_path: Path) -> None:
    with servers.mongodb_server(tmp_path, "--auth") as server:
        for user in ("", "someone:wrong@"):
            store = MongoStateStore(f"mongodb://{user}127.0.0.1:{server.port}", "fedn")
            with pytest.raises(StoreUnavailable) as caught:
                store.put("things", "x", {})
            assert caught.value.code == "store_refused"
            store.close()
