"""Live pages: rendered once for all who watch, told at once, and never more than what differs."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from fedn.network.tokens import Role
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import StoreUnavailable, Unavailable
from fedn.reducer.events import EventLog
from fedn.reducer.pages.live import LiveViews, ViewKey, Watcher
from fedn.reducer.pages.topics import topics_of
from fedn.stores.sqlite import SqliteStateStore
from tests.unit.reducer.parts import Parts

KEY = ViewKey("/clients", Role.VIEWER)
CLIENTS = frozenset({"clients"})
PATIENCE_S = 30.0
HTML = {"Accept": "text/html"}
STREAM = {"Accept": "text/event-stream"}


class Pages:
    """What a renderer shows, and how often it was asked."""

    def __init__(self) -> None:
        self.regions = {"a": "one", "b": "fixed"}
        self.error: Exception | None = None
        self.rendered: list[ViewKey] = []

    def render(self, key: ViewKey) -> dict[str, str]:
        self.rendered.append(key)
        if self.error is not None:
            raise self.error
        return dict(self.regions)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    store = SqliteStateStore(tmp_path / "events.db")
    events = EventLog(store, max_subscriptions=4, clock=time.time)
    events.start()
    yield events
    events.stop()
    store.close()


@pytest.fixture
def pages() -> Pages:
    return Pages()


@pytest.fixture
def views(log: EventLog, pages: Pages) -> Iterator[LiveViews]:
    made = LiveViews(log, topics_of)
    made.use(pages.render)
    yield made
    made.stop()


def read(message: bytes | None) -> tuple[str, dict[str, str], str]:
    """(id, regions, trouble) of a message."""
    assert message
    lines = dict(line.split(": ", 1) for line in message.decode().strip().splitlines())
    assert lines["event"] == "regions"
    data = json.loads(lines["data"])
    return lines["id"], data["regions"], data["trouble"]


def told(watcher: Watcher) -> tuple[str, dict[str, str], str]:
    return read(watcher.next(PATIENCE_S))


def test_a_new_watcher_gets_everything_and_then_only_what_differs(
    views: LiveViews, log: EventLog, pages: Pages
) -> None:
    watcher = views.watch(KEY, CLIENTS)
    assert told(watcher)[1] == {"a": "one", "b": "fixed"}
    pages.regions["a"] = "two"
    log.publish("client_attached", client="c")
    assert told(watcher)[1] == {"a": "two"}
    watcher.close()


def test_what_concerns_a_page_not_is_not_rendered(views: LiveViews, log: EventLog, pages: Pages) -> None:
    with_clients = views.watch(KEY, CLIENTS)
    told(with_clients)
    log.publish("store_back")
    log.publish("client_attached", client="c")
    pages.regions["a"] = "two"
    log.publish("client_attached", client="d")
    assert told(with_clients)[1] == {"a": "two"}
    with_clients.close()


def test_everybody_who_watches_the_same_shares_one_rendering_and_one_message(
    views: LiveViews, log: EventLog, pages: Pages
) -> None:
    watchers = [views.watch(KEY, CLIENTS) for _ in range(3)]
    for watcher in watchers:
        told(watcher)
    before = len(pages.rendered)
    pages.regions["a"] = "two"
    log.publish("client_attached", client="c")
    messages = [watcher.next(PATIENCE_S) for watcher in watchers]
    assert all(message is messages[0] for message in messages)
    assert len(pages.rendered) - before <= 2  # one may have been under way for what was before
    assert views.views == 1
    for watcher in watchers:
        watcher.close()
        watcher.close()
    assert views.views == 0 and log.subscriptions == 0


def test_who_comes_back_gets_what_he_missed_and_nothing_else(views: LiveViews, log: EventLog, pages: Pages) -> None:
    stays, goes = views.watch(KEY, CLIENTS), views.watch(KEY, CLIENTS)
    told(stays)
    seen, _, _ = told(goes)
    goes.close()
    pages.regions["a"] = "two"
    log.publish("client_attached", client="c")
    told(stays)
    back = views.watch(KEY, CLIENTS, seen)
    assert told(back)[1] == {"a": "two"}
    for last_seen in ("other.1", "nonsense", f"{seen.partition('.')[0]}.x", "." * 50):
        other = views.watch(KEY, CLIENTS, last_seen)
        assert told(other)[1] == {"a": "two", "b": "fixed"}
        other.close()
    back.close()
    stays.close()


def test_who_joins_is_never_shown_what_is_older_than_his_page(views: LiveViews, log: EventLog, pages: Pages) -> None:
    first = views.watch(KEY, CLIENTS)
    told(first)
    pages.regions["a"] = "two"  # no event has told of it yet
    joined = views.watch(KEY, CLIENTS)
    assert told(joined)[1]["a"] == "two"
    first.close()
    joined.close()


def test_a_page_that_cannot_be_rendered_says_why_and_recovers(views: LiveViews, log: EventLog, pages: Pages) -> None:
    watcher = views.watch(KEY, CLIENTS)
    told(watcher)
    pages.error = StoreUnavailable("store_unavailable", "the store is away", fix="Wait.")
    log.publish("client_attached", client="c")
    assert told(watcher)[1:] == ({}, "the store is away. Wait.")
    pages.regions["a"] = "two"
    pages.error = None
    log.publish("client_attached", client="c")
    assert told(watcher)[1:] == ({"a": "two"}, "")
    watcher.close()


def test_a_page_that_does_not_exist_is_an_error_and_keeps_no_place(
    views: LiveViews, log: EventLog, pages: Pages
) -> None:
    pages.error = StoreUnavailable("store_unavailable", "away")
    with pytest.raises(StoreUnavailable):
        views.watch(KEY, CLIENTS)
    assert (views.views, log.subscriptions) == (0, 0)


def test_places_are_bounded_and_shared_with_other_streams(views: LiveViews, log: EventLog) -> None:
    watchers = [views.watch(KEY, CLIENTS) for _ in range(3)]
    with log.subscribe(), pytest.raises(Unavailable, match="4 event streams"):
        views.watch(KEY, CLIENTS)
    for watcher in watchers:
        watcher.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_in_rendering_ends_the_streams_and_who_comes_back_finds_them_again(
    views: LiveViews, log: EventLog, pages: Pages
) -> None:
    watcher = views.watch(KEY, CLIENTS)
    told(watcher)
    [thread] = [thread for thread in threading.enumerate() if thread.name == "live-pages"]
    pages.error = ZeroDivisionError("ours")
    log.publish("client_attached", client="c")
    while (message := watcher.next(PATIENCE_S)) is not None:
        assert message
    thread.join(PATIENCE_S)  # the fault is told when it ends: within this test, which expects it
    watcher.close()
    pages.error = None
    again = views.watch(KEY, CLIENTS)
    assert told(again)[1] == {"a": "one", "b": "fixed"}
    again.close()


def test_stopping_ends_every_stream_at_once(views: LiveViews) -> None:
    watcher = views.watch(KEY, CLIENTS)
    told(watcher)
    ended = threading.Event()

    def wait() -> None:
        assert watcher.next(PATIENCE_S) is None
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    views.stop()
    thread.join(PATIENCE_S)
    assert ended.is_set()
    watcher.close()


# Through the app


def test_a_page_streams_its_own_changes_at_its_own_address(parts: Parts, client: FlaskClient) -> None:
    headers = {**parts.headers(Role.VIEWER), **STREAM}
    answer = client.get("/clients", headers=headers, buffered=False)
    assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
    stream = iter(answer.response)
    assert next(stream) == b"retry: 1000\n\n"
    _, regions, _ = read(next(stream))
    assert set(regions) == {"answer", "table"}
    parts.token(Role.CLIENT, "a new one")
    parts.services.live.change("clients")
    while b"a new one" not in next(stream):
        pass
    answer.close()
    assert parts.services.events.subscriptions == 0


def test_a_stream_shows_no_form_token_and_no_admins_buttons_to_a_viewer(parts: Parts, client: FlaskClient) -> None:
    parts.sessions.start(SessionPlan())
    shown = {}
    for role in (Role.ADMIN, Role.VIEWER):
        answer = client.get("/dashboard", headers={**parts.headers(role), **STREAM}, buffered=False)
        stream = iter(answer.response)
        next(stream)
        shown[role] = next(stream).decode()
        answer.close()
    assert 'name=\\"csrf_token\\" value=\\"\\"' in shown[Role.ADMIN] and "/stop" in shown[Role.ADMIN]
    assert "csrf_token" not in shown[Role.VIEWER] and "/stop" not in shown[Role.VIEWER]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/dashboard",
        "/network",
        "/workers",
        "/accounting",
        "/times",
        "/models",
        "/plot",
        "/start",
        "/seed",
        "/context",
    ],
)
def test_every_live_page_can_be_watched(parts: Parts, client: FlaskClient, path: str) -> None:
    page = client.get(path, headers={**parts.headers(Role.ADMIN), **HTML}).text
    assert 'data-live="yes"' in page
    answer = client.get(path, headers={**parts.headers(Role.ADMIN), **STREAM}, buffered=False)
    stream = iter(answer.response)
    next(stream)
    _, regions, trouble = read(next(stream))
    assert trouble == "" and all(f'data-region="{name}"' in page for name in regions)
    answer.close()


def test_a_page_of_something_that_is_not_there_streams_nothing(parts: Parts, client: FlaskClient) -> None:
    answer = client.get("/dashboard?session=none", headers={**parts.headers(Role.VIEWER), **STREAM})
    assert (answer.status_code, answer.json["code"]) == (404, "no_such_session")
    long = client.get(f"/clients?state={'x' * 3000}", headers={**parts.headers(Role.VIEWER), **STREAM})
    assert (long.status_code, long.json["code"]) == (413, "address_too_long")
    assert parts.services.events.subscriptions == 0


def test_a_stream_needs_the_role_that_its_page_needs(parts: Parts, client: FlaskClient) -> None:
    assert client.get("/clients", headers=STREAM).status_code == 401
    assert client.get("/clients", headers={**parts.headers(Role.CLIENT), **STREAM}).status_code == 403
