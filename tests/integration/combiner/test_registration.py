"""The combiner's talk with the reducer, over real HTTP with a reducer of a few lines."""

import asyncio
import json
import queue
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fedn.combiner.main import serve
from fedn.network.generated import client_pb2
from fedn.network.identity import Identity
from fedn.network.join import JoinString
from fedn.network.tls import public_key_pem
from fedn.network.tokens import Role, verify_assertion
from fedn.plan.settings import CombinerSettings
from fedn.protocol.errors import Conflict
from tests.support.wire import FEDERATION, PATIENCE_S, Trust, WireClient


class StandIn:
    """Answers the four routes that a combiner needs, and keeps what it was asked."""

    def __init__(self, trust: Trust) -> None:
        self.trust = trust
        self.asked: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self.answers: dict[str, list[int]] = {}
        """Statuses with which the next requests of a route fail."""
        self.certificate = b""

    def answer(self, route: str, payload: dict[str, Any], bearer: str) -> tuple[int, dict[str, Any]]:
        self.asked.put((route, payload))
        waiting = self.answers.get(route)
        if waiting:
            status = waiting.pop(0)
            codes = {404: "no_such_combiner", 409: "name_taken", 503: "store_unavailable"}
            return status, {"code": codes[status], "title": "as the test wants it", "status": status}
        match route:
            case "enrol":
                assert bearer == "the secret"
                return 200, self._enrolled(payload)
            case "token":
                name = verify_assertion(payload["assertion"], public_key_pem(self.certificate), FEDERATION)
                return 200, self._token(name)
            case "combiners" | "heartbeat":
                assert self.trust.verifier.verify(bearer).role is Role.COMBINER
                return 200, {"status": "added", "federation": FEDERATION, "epoch": 1}
        raise AssertionError(route)

    def _token(self, name: str) -> dict[str, Any]:
        return {
            "token": self.trust.token(name, Role.COMBINER),
            "expires_at": 4e9,
            "role": "combiner",
            "name": name,
            "token_key": self.trust.issuer.public_key_pem.decode(),
        }

    def _enrolled(self, payload: dict[str, Any]) -> dict[str, Any]:
        self.certificate = self.trust.authority.sign(
            payload["csr"].encode(), name=payload["name"], role="combiner", hosts=payload["hosts"], valid_days=90
        )
        issued = {"certificate": self.certificate.decode(), "ca": self.trust.ca.decode(), "federation": FEDERATION}
        return self._token(payload["name"]) | issued

    async def next(self, route: str) -> dict[str, Any]:
        """The payload of the next request of a route; those of others before it are passed over."""
        while True:
            asked, payload = await asyncio.to_thread(self.asked.get, True, PATIENCE_S)
            if asked == route:
                return payload


@contextmanager
def serving(stand_in: StandIn) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, body = stand_in.answer(self.path.rsplit("/", 1)[1], payload, bearer)
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json" if status < 400 else "application/problem+json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def settings_for(folder: Path, url: str) -> CombinerSettings:
    return CombinerSettings(
        reducer_url=url,
        enrolment_secret="the secret",
        name="c1",
        bind="127.0.0.1",
        port=0,
        public_host="localhost",
        data_dir=folder,
        heartbeat_s=0.05,
        max_clients=7,
    )


@contextmanager
def identity_of(settings: CombinerSettings) -> Iterator[Identity]:
    with Identity(settings.data_dir, settings.name, Role.COMBINER) as identity:
        yield identity


async def stopped(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_combiner_enrols_registers_beats_and_serves(trust: Trust, tmp_path: Path) -> None:
    stand_in = StandIn(trust)

    async def run(url: str) -> None:
        settings = settings_for(tmp_path, url)
        with identity_of(settings) as identity:
            serving_task = asyncio.create_task(serve(settings, identity, JoinString(url, "", "the secret")))
            enrolment = await stand_in.next("enrol")
            assert (enrolment["name"], enrolment["role"]) == ("c1", "combiner")
            assert "localhost" in enrolment["hosts"]
            registered = await stand_in.next("combiners")
            assert (registered["name"], registered["host"], registered["max_clients"]) == ("c1", "localhost", 7)
            async with WireClient("a", f"localhost:{registered['port']}", trust.token("a"), None) as client:
                assert isinstance(await client.hello(), client_pb2.Welcome)
                beat: dict[str, Any] = {}
                while beat.get("attached_clients") != 1:
                    beat = await stand_in.next("heartbeat")
                assert beat["instance"] == registered["instance"] and beat["rss_bytes"] > 0
            await stopped(serving_task)

    with serving(stand_in) as url:
        asyncio.run(run(url))


def test_an_enrolled_combiner_comes_back_with_its_key_alone(trust: Trust, tmp_path: Path) -> None:
    stand_in = StandIn(trust)

    async def run(url: str) -> None:
        settings = settings_for(tmp_path, url)
        for _start in range(2):
            with identity_of(settings) as identity:
                task = asyncio.create_task(serve(settings, identity, JoinString(url, "", "the secret")))
                await stand_in.next("combiners")
                await stopped(task)
        asked = []
        while not stand_in.asked.empty():
            asked.append(stand_in.asked.get()[0])
        assert "enrol" not in asked

    with serving(stand_in) as url:
        asyncio.run(run(url))


def test_a_reducer_that_forgot_the_combiner_is_told_of_it_again(trust: Trust, tmp_path: Path) -> None:
    stand_in = StandIn(trust)

    async def run(url: str) -> None:
        settings = settings_for(tmp_path, url)
        with identity_of(settings) as identity:
            task = asyncio.create_task(serve(settings, identity, JoinString(url, "", "the secret")))
            first = await stand_in.next("combiners")
            stand_in.answers = {"heartbeat": [503, 404], "combiners": [503]}
            again = await stand_in.next("combiners")
            once_more = await stand_in.next("combiners")  # the one before was answered 503
            assert first == again == once_more
            await stand_in.next("heartbeat")
            await stopped(task)

    with serving(stand_in) as url:
        asyncio.run(run(url))


def test_a_name_that_another_key_holds_ends_the_program_with_the_reason(trust: Trust, tmp_path: Path) -> None:
    stand_in = StandIn(trust)
    stand_in.answers = {"enrol": [503, 409]}

    async def run(url: str) -> None:
        settings = settings_for(tmp_path, url)
        with identity_of(settings) as identity, pytest.raises(Conflict, match="name_taken"):
            await serve(settings, identity, JoinString(url, "", "the secret"))

    with serving(stand_in) as url:
        asyncio.run(run(url))


def test_metrics_are_served_where_they_are_asked_for(trust: Trust, tmp_path: Path) -> None:
    stand_in = StandIn(trust)
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", 0))
        port = probe.getsockname()[1]

    def scrape() -> str:
        with urllib.request.urlopen(f"http://127.0.0.2:{port}/metrics") as reply:
            return str(reply.read(), "utf-8")

    async def run(url: str) -> None:
        settings = settings_for(tmp_path, url).model_copy(update={"metrics_port": port, "metrics_bind": "127.0.0.2"})
        with identity_of(settings) as identity:
            task = asyncio.create_task(serve(settings, identity, JoinString(url, "", "the secret")))
            await stand_in.next("combiners")
            assert "fedn_combiner_clients 0.0" in await asyncio.to_thread(scrape)
            await stopped(task)

    with serving(stand_in) as url:
        asyncio.run(run(url))
