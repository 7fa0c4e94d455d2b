"""An update store at a real Redis: who is let in, what is never touched, and what happens when it goes away."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from fedn.network.tokens import Role
from fedn.plan.settings import UpdateStoreSettings
from fedn.protocol.errors import NotFound, StoreUnavailable
from fedn.stores.open import open_update_store
from fedn.stores.updates.redis import RedisShelf, connect, name_space
from fedn.stores.updates.store import UpdateStore
from tests.integration.stores.update_stores import PART_BYTES, data, facts, store_on
from tests.support import servers
from tests.support.tls_relay import TlsRelay
from tests.support.wire import Trust

BOUND_S = 60
USER, PASSWORD = "fedn", "only-for-this-test"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[servers.Server]:
    """A Redis of the test's own."""
    with servers.redis_server(tmp_path) as server:
        yield server


def opened(port: int, **settings: object) -> UpdateStore:
    given = UpdateStoreSettings(kind="redis", **{"url": f"redis://localhost:{port}/0", **settings})
    store = open_update_store(given, federation="fed", combiner="c1")
    assert store is not None
    return store


def refused(call: Callable[[], object], code: str) -> StoreUnavailable:
    started_at = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        call()
    assert caught.value.code == code
    assert PASSWORD not in str(caught.value)
    assert time.monotonic() - started_at < BOUND_S
    return caught.value


def test_only_a_user_with_the_password_is_let_in_and_needs_no_more_than_its_own_keys(redis: servers.Server) -> None:
    admin = Redis(port=redis.port)
    admin.acl_setuser(
        USER, enabled=True, passwords=[f"+{PASSWORD}"], keys=["fedn:updates:*"], commands=["+@all", "-@dangerous"]
    )
    admin.acl_setuser("default", enabled=True, nopass=False, reset_passwords=True, passwords=["+another"])
    for wrong in ({}, {"username": USER, "password": "not-" + PASSWORD}, {"password": PASSWORD}):
        store = opened(redis.port, **wrong)
        assert "updates.password" in refused(store.sessions, "store_login_refused").fix
        store.close()
    for right in (
        {"username": USER, "password": PASSWORD},
        {"url": f"redis://{USER}:{PASSWORD}@localhost:{redis.port}/0"},
    ):
        store = opened(redis.port, **right)
        kept = store.insert(facts("a"), data(1))
        assert store.read(kept).copy() == data(1).copy()
        store.expunge()
        store.close()
    admin.close()


def test_the_password_shows_in_no_setting_and_no_error(redis: servers.Server) -> None:
    settings = UpdateStoreSettings(kind="redis", url="redis://localhost:1/0", password=PASSWORD)
    assert PASSWORD not in repr(settings) and PASSWORD not in str(settings)
    store = opened(servers.free_port(), password=PASSWORD)
    refused(store.sessions, "store_unavailable")
    store.close()


def test_over_tls_the_server_must_be_the_one_that_the_authority_names(redis: servers.Server, tmp_path: Path) -> None:
    trust, stranger = Trust(tmp_path / "ours"), Trust(tmp_path / "theirs")
    files = trust.tls("redis", Role.COMBINER, hosts=["localhost"])
    paths = {}
    for name, pem in {"server.crt": files.certificate, "server.key": files.key, "ca.crt": trust.ca}.items():
        paths[name] = tmp_path / name
        paths[name].write_bytes(pem)
    (tmp_path / "other.crt").write_bytes(stranger.ca)
    mine = trust.tls("c1", Role.CLIENT)
    (tmp_path / "mine.crt").write_bytes(mine.certificate)
    (tmp_path / "mine.key").write_bytes(mine.key)
    with TlsRelay(redis.port, paths["server.crt"], paths["server.key"], clients_ca=paths["ca.crt"]) as relay:
        shown = {"certificate_file": tmp_path / "mine.crt", "key_file": tmp_path / "mine.key"}
        good = {"url": f"rediss://localhost:{relay.port}/0", "ca_file": paths["ca.crt"], **shown}
        store = opened(relay.port, **good)
        kept = store.insert(facts("a"), data(1, 3_000_000))
        assert store.read(kept).copy() == data(1, 3_000_000).copy()
        store.close()
        wrong = {
            "another authority": {**good, "ca_file": tmp_path / "other.crt"},
            "another host": {**good, "url": f"rediss://127.0.0.1:{relay.port}/0"},
            "no certificate": {**good, "certificate_file": None, "key_file": None},
            "no TLS": {"url": f"redis://localhost:{relay.port}/0"},
        }
        for what, settings in wrong.items():
            store = opened(relay.port, **settings)
            assert refused(store.sessions, "store_unavailable"), what
            store.close()


def test_other_keys_of_the_server_and_other_combiners_updates_are_never_touched(redis: servers.Server) -> None:
    admin = Redis(port=redis.port)
    admin.set("somebody-else", b"1")
    names = ["c1", "c1:x", "c*"]
    shelves = {
        name: RedisShelf(connect(f"redis://localhost:{redis.port}/0"), name_space("fed", name)) for name in names
    }
    stores = {name: store_on(shelf) for name, shelf in shelves.items()}
    for seed, store in enumerate(stores.values()):
        store.insert(facts("a"), data(seed))
    for name in names:
        # Loading removes the remains of its own: never those of the others.
        assert len(shelves[name].load()) == 1
    stores["c*"].expunge()
    stores["c1"].expunge()
    assert admin.get("somebody-else") == b"1"
    (kept,) = stores["c1:x"].select("s", {"a": None})["a"]
    assert stores["c1:x"].read(kept).copy() == data(1).copy()
    for store in stores.values():
        store.close()
    admin.close()


def test_what_a_broken_write_left_is_removed_when_the_store_is_opened(redis: servers.Server) -> None:
    admin = Redis(port=redis.port)
    first = store_on(RedisShelf(connect(f"redis://localhost:{redis.port}/0"), name_space("fed", "c1"), PART_BYTES))
    first.insert(facts("a"), data(1))
    damaged = first.insert(facts("b"), data(2))
    space = name_space("fed", "c1")
    admin.set(f"{space}:data:99-abc:0", b"no index names it")
    admin.hset(f"{space}:index", "98", "no JSON")
    lost_part = next(iter(admin.scan_iter(f"{space}:data:{damaged.number}-*")))
    admin.delete(lost_part)
    again = opened(redis.port)
    again.close()
    again = store_on(RedisShelf(connect(f"redis://localhost:{redis.port}/0"), space, PART_BYTES))
    assert again.clients("s") == ["a"]
    assert len(list(admin.scan_iter(f"{space}:data:*"))) == 5
    assert admin.hlen(f"{space}:index") == 1
    for store in (first, again):
        store.close()
    admin.close()


def test_a_server_without_room_refuses_an_update_and_keeps_the_others(redis: servers.Server) -> None:
    admin = Redis(port=redis.port)
    store = opened(redis.port)
    kept = store.insert(facts("a"), data(1))
    used = admin.info("memory")["used_memory"]
    admin.config_set("maxmemory", used + 200_000)
    refused(lambda: store.insert(facts("b"), data(2, 3_000_000)), "store_full")
    assert store.clients("s") == ["a"] and store.read(kept).copy() == data(1).copy()
    admin.config_set("maxmemory", 0)
    store.insert(facts("b"), data(2, 3_000_000))
    store.close()
    admin.close()


def test_it_may_come_late_be_killed_and_come_back_empty(tmp_path: Path) -> None:
    server = servers.redis_server(tmp_path)
    store = opened(server.port)
    refused(store.sessions, "store_unavailable")
    with server:
        kept = store.insert(facts("a"), data(1))
        server.kill()
        refused(lambda: store.read(kept), "store_unavailable")
        refused(lambda: store.insert(facts("b"), data(2)), "store_unavailable")
        assert store.statistics.entries == 1
        server.start()
        with pytest.raises(NotFound) as caught:
            store.read(kept)
        assert caught.value.code == "kept_update_lost"
        assert store.sessions() == [] and store.statistics.entries == 0
        store.insert(facts("a", 1), data(3))
        assert store.clients("s") == ["a"]
    store.close()
