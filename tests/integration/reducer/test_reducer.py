"""A whole reducer in this process, and as a program: over TLS, with its own stores, through the REST client."""

import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import numpy as np
import pytest
import urllib3

from fedn.api.client import APIClient
from fedn.api.context import read_context
from fedn.models.files import write_tensors
from fedn.network.join import JoinString
from fedn.network.tls import client_context, fetch_pinned_ca, grpc_server_credentials, make_csr, new_private_key
from fedn.network.tokens import make_assertion
from fedn.plan.settings import ReducerSettings
from fedn.protocol.errors import Conflict, FednError, Forbidden, InvalidInput, NotFound, Unauthenticated, Unavailable
from fedn.protocol.rest import EnrolReply
from fedn.reducer.main import Reducer
from tests.support.federation import wait_for

WAIT_S = 60.0
MODEL = {"w": np.arange(6, dtype=np.float32)}


def settings(folder: Path, **changes: Any) -> ReducerSettings:
    given = {"data_dir": folder, "port": 0, "bind": "127.0.0.1", "public_hosts": ["localhost", "127.0.0.1"]}
    return ReducerSettings(**given | changes)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Reducer]]:
    with ExitStack() as exits:

        def started(name: str = "reducer", **changes: Any) -> Reducer:
            reducer = Reducer(settings(tmp_path / name, **changes))
            reducer.start()
            exits.callback(reducer.stop)
            return reducer

        yield started


@pytest.fixture
def clients() -> Iterator[Callable[..., APIClient]]:
    """Makes REST clients: of the admin, or with a token."""
    with ExitStack() as exits:

        def client(reducer: Reducer, token: str | None = None, **options: Any) -> APIClient:
            context = read_context(reducer.settings.data_dir / "admin.json")
            secret = None if token is not None else context.admin_secret
            made = APIClient(context.url, ca=context.ca_file, admin_secret=secret, token=token, **options)
            return exits.enter_context(made)

        yield client


def enrol(api: APIClient, join: JoinString, name: str, role: Any = "client", key: bytes | None = None) -> EnrolReply:
    return api.enrol(name=name, role=role, csr=make_csr(key or new_private_key(), name), secret=join.secret)


def test_a_site_joins_with_the_join_string_alone(start: Callable[..., Reducer], clients: Callable[..., Any]) -> None:
    reducer = start()
    join = JoinString.parse(clients(reducer).join_string().join)
    assert join.url == reducer.url
    ca = fetch_pinned_ca(join.url, join.ca_fingerprint, WAIT_S)
    key = new_private_key()
    with APIClient(join.url, ca=ca) as site:
        reply = enrol(site, join, "eins", "combiner", key)
        assert site.renew_token(make_assertion(key, "eins", reply.federation)).role == "combiner"
        site.token = reply.token
        registered = site.add_combiner(name="eins", host="127.0.0.1", port=1, max_clients=2, instance="i")
        assert registered.epoch == 1
        site.heartbeat("eins", instance="i", attached_clients=1)
        with pytest.raises(NotFound, match="no_such_combiner"):
            site.heartbeat("eins", instance="another")
        site.token = enrol(site, join, "klinik").token
        assert site.assign().combiner == "eins"
        assert site.assign(preferred="zwei").code == "preferred_unknown"
        with pytest.raises(Forbidden, match="role_not_allowed"):
            site.start_session()
        with pytest.raises(Conflict, match="name_taken"):
            enrol(site, join, "klinik")
        with pytest.raises(Unauthenticated, match="secret_wrong"):
            site.enrol(name="x", role="client", csr=make_csr(key, "x"), secret="a guess")


def test_what_the_reducer_shows_to_a_combiner_is_worth_nothing_elsewhere(
    start: Callable[..., Reducer], clients: Callable[..., Any]
) -> None:
    """Whoever may enrol is dialled by the reducer, and must not become an admin by that."""
    reducer, shown, key = start(), SimpleQueue[str](), new_private_key()
    join = JoinString.parse(clients(reducer).join_string().join)
    ca = fetch_pinned_ca(join.url, join.ca_fingerprint, WAIT_S)

    class Listener(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # of the stubs only
        def service(self, details: Any) -> None:
            shown.put(dict(details.invocation_metadata)["authorization"].removeprefix("Bearer "))

    with APIClient(join.url, ca=ca) as site, ThreadPoolExecutor(1) as executor:
        reply = site.enrol(name="m", role="combiner", csr=make_csr(key, "m"), secret=join.secret, hosts=["127.0.0.1"])
        server = grpc.server(executor, handlers=(Listener(),))
        port = server.add_secure_port(
            "127.0.0.1:0", grpc_server_credentials(key, reply.certificate.encode(), ca, mutual=False)
        )
        server.start()
        try:
            site.token = reply.token
            site.add_combiner(name="m", host="127.0.0.1", port=port, max_clients=2, instance="i")
            site.token = shown.get(timeout=WAIT_S)
        finally:
            server.stop(None).wait()
        for call in (site.status, site.clients, site.join_string, lambda: site.remove_combiner("m")):
            with pytest.raises(Forbidden, match="link_token"):
                call()


def test_a_restarted_reducer_knows_everything_and_counts_its_epoch(
    start: Callable[..., Reducer], clients: Callable[..., Any], tmp_path: Path
) -> None:
    first = start()
    api = clients(first)
    join = JoinString.parse(api.join_string().join)
    site = enrol(api, join, "eins", "combiner")
    clients(first, site.token).add_combiner(name="eins", host="127.0.0.1", port=1, max_clients=2, instance="i")
    write_tensors(tmp_path / "m.safetensors", MODEL)
    seeded = api.seed(tmp_path / "m.safetensors")
    head, last = api.status().trail_head, api.events().last
    first.stop()

    second = start()
    api = clients(second)
    assert api.ca() == site.ca
    status = api.status()
    assert (status.trail_head, status.trail_length, status.combiners, status.epoch) == (head, 1, 1, 2)
    assert api.model(seeded.model_id).tensors == seeded.tensors
    assert api.verify_trail(head).length == 1
    assert clients(second, site.token).heartbeat("eins", instance="i").epoch == 2
    assert "model_seeded" in [event.kind for event in api.events().events]
    with api_events(api, last) as next_event:
        assert next_event().kind == "combiner_added"


class api_events:  # noqa: N801 - used as a function
    """The events after a number, read in this thread."""

    def __init__(self, api: APIClient, after: int) -> None:
        self._events = api.watch(after)

    def __enter__(self) -> Callable[[], Any]:
        return lambda: next(self._events)

    def __exit__(self, *_: object) -> None:
        self._events.close()  # type: ignore[attr-defined]


def test_events_are_seen_as_they_happen(
    start: Callable[..., Reducer], clients: Callable[..., Any], tmp_path: Path
) -> None:
    reducer = start()
    api = clients(reducer)
    write_tensors(tmp_path / "m.npz", MODEL)
    seen: list[str] = []

    def watch() -> None:
        with api_events(clients(reducer), 0) as next_event:
            seen.append(next_event().kind)

    watcher = threading.Thread(target=watch)
    watcher.start()
    api.seed(tmp_path / "m.npz")
    watcher.join(WAIT_S)
    assert seen == ["model_seeded"]


def test_event_streams_are_bounded_and_leave_room_for_requests(
    start: Callable[..., Reducer], clients: Callable[..., Any]
) -> None:
    reducer = start(rest_threads=2, max_event_streams=3)
    api = clients(reducer)
    token = api.admin_token(read_context(reducer.settings.data_dir / "admin.json").admin_secret).token
    headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {token}"}
    context = client_context((reducer.settings.data_dir / "ca.crt").read_bytes())
    with urllib3.PoolManager(ssl_context=context, retries=False, maxsize=8) as pool:

        def stream() -> Any:
            url = f"https://localhost:{reducer.port}/api/v1/events"
            return pool.request("GET", url, headers=headers, preload_content=False, timeout=WAIT_S)

        open_streams = [stream() for _ in range(3)]
        assert [answer.read1(100) for answer in open_streams] == [b"retry: 1000\n\n"] * 3
        refused = stream()
        assert (refused.status, refused.json()["code"]) == (503, "too_many_streams")
        assert api.status().state == "idle"
        reducer.stop()
        assert [answer.read() for answer in open_streams] == [b""] * 3


def test_a_second_reducer_on_the_same_state_does_not_start(start: Callable[..., Reducer], tmp_path: Path) -> None:
    first = start("first")
    with pytest.raises(Conflict, match="lease_held"):
        start("second", state={"kind": "sqlite", "path": first.settings.state.path})
    with pytest.raises(Conflict, match="data_dir_in_use"):
        start("first")
    first.stop()
    with pytest.raises(Conflict, match="other_federation"):
        start("third", federation="another", state={"kind": "sqlite", "path": first.settings.state.path})
    start("second", state={"kind": "sqlite", "path": first.settings.state.path})


def test_a_start_that_fails_leaves_nothing_running(start: Callable[..., Reducer]) -> None:
    first = start("first")
    before = threading.active_count()
    with pytest.raises(InvalidInput, match="cannot_listen"):
        start("second", port=first.port)
    wait_for(lambda: threading.active_count() <= before, "its threads have ended")
    start("second")


def test_with_mutual_tls_a_token_alone_is_not_enough(
    start: Callable[..., Reducer], clients: Callable[..., Any], tmp_path: Path
) -> None:
    reducer = start(mutual_tls=True)
    api = clients(reducer)
    key = new_private_key()
    reply = enrol(api, JoinString.parse(api.join_string().join), "eins", key=key)
    (tmp_path / "site.key").write_bytes(key)
    (tmp_path / "site.crt").write_text(reply.certificate)
    with pytest.raises(Unauthenticated, match="certificate_missing"):
        clients(reducer, reply.token).assign()
    own = clients(reducer, reply.token, certificate=tmp_path / "site.crt", key=tmp_path / "site.key")
    assert own.assign().code == "no_combiner"


def test_without_tls_the_reducer_serves_its_own_machine(
    start: Callable[..., Reducer], clients: Callable[..., Any]
) -> None:
    reducer = start(tls=False, public_hosts=["127.0.0.1"])
    api = clients(reducer)
    assert reducer.url.startswith("http://127.0.0.1:")
    join = JoinString.parse(api.join_string().join)
    assert join.ca_fingerprint == ""
    assert clients(reducer, enrol(api, join, "eins").token).assign().code == "no_combiner"


def test_many_callers_at_once_are_all_answered(start: Callable[..., Reducer], clients: Callable[..., Any]) -> None:
    reducer = start(rest_threads=4)
    join = JoinString.parse(clients(reducer).join_string().join)
    failures: list[FednError] = []

    def call(index: int) -> None:
        try:
            api = clients(reducer, "")
            api.token = enrol(api, join, f"site-{index}").token
            for _ in range(5):
                assert api.assign().code == "no_combiner"
        except FednError as error:
            failures.append(error)

    threads = [threading.Thread(target=call, args=[index]) for index in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert failures == []
    assert len(clients(reducer).clients()) == 20


PROGRAM = """
import sys
from pathlib import Path
from fedn.plan.settings import ReducerSettings
from fedn.reducer.main import run
sys.exit(run(ReducerSettings(data_dir=Path(sys.argv[1]), port=0, bind="127.0.0.1", public_hosts=["localhost"])))
"""


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_program_ends_in_order_and_tells_no_secret(tmp_path: Path, ending: signal.Signals) -> None:
    folder = tmp_path / "reducer"
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"}) as program:
        assert program.stderr is not None
        first = program.stderr.readline()
        assert "listens at https://localhost:" in first
        context = read_context(folder / "admin.json")
        with APIClient(context.url, ca=context.ca_file, admin_secret=context.admin_secret) as api:
            assert api.status().state == "idle"
        program.send_signal(ending)
        rest = program.stderr.read()
        assert program.wait(WAIT_S) == 0
    assert "Traceback" not in rest
    assert context.admin_secret not in first + rest
    assert {file.name: oct(file.stat().st_mode)[-3:] for file in folder.glob("*.key")} == dict.fromkeys(
        ["ca.key", "tokens.key", "trail.key", "reducer.key"], "600"
    )


def test_the_certificate_names_the_public_hosts(start: Callable[..., Reducer]) -> None:
    reducer = start(public_hosts=["reducer.example.org", "localhost"])
    context = client_context((reducer.settings.data_dir / "ca.crt").read_bytes())
    context.check_hostname = True
    with urllib3.PoolManager(ssl_context=context, retries=False, assert_hostname="reducer.example.org") as pool:
        assert pool.request("GET", f"https://localhost:{reducer.port}/health", timeout=WAIT_S).status == 200
    with (
        urllib3.PoolManager(ssl_context=context, retries=False, assert_hostname="evil.example.org") as pool,
        pytest.raises((urllib3.exceptions.SSLError, ssl.CertificateError)),
    ):
        pool.request("GET", f"https://localhost:{reducer.port}/health", timeout=WAIT_S)


def test_a_stopped_reducer_is_away_and_not_wrong(start: Callable[..., Reducer], clients: Callable[..., Any]) -> None:
    reducer = start()
    api = clients(reducer)
    api.status()
    reducer.stop()
    with pytest.raises(Unavailable, match="reducer_unreachable"):
        api.status()
