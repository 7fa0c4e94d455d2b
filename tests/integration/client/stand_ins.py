"""What the client's integration tests share: a stand-in for the reducer's REST API over real TLS, and learners."""

import json
import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fedn.network.join import JoinString
from fedn.network.tls import CertificateAuthority, make_csr, new_private_key, public_key_id
from fedn.network.tokens import Role, TokenIssuer, TokenVerifier, assertion_subject, create_or_load_signing_key
from tests.support.servers import free_port

SECRET = "an enrolment secret for tests"

LEARNER = '''
"""A learner that adds one to each tensor."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from fedn import Learner


class PlusOne(Learner):
    kept = []

    def get_weights(self):
        return {"w": np.zeros(3, np.float32)}

    def train(self, weights, context):
        with (context.work_dir / "trained").open("a") as file:
            file.write(context.task_id + "\\n")
        step = context.get("step", "")
        if step == "raise":
            raise ValueError("no such column: age")
        if step == "die":
            print("about to die", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if step == "hang":
            time.sleep(3600)
        if step == "sleep":
            time.sleep(0.5)
        if step == "wait":
            context.report(0.5, {"loss": 2.0})
            while not context.is_cancelled() and not (context.work_dir / "go").exists():
                time.sleep(0.01)
        if step == "keep":
            given = list(weights.values() if isinstance(weights, dict) else weights)
            changed = sum(bool((array != 100 + number).any()) for number, array in enumerate(self.kept))
            given[0][:] = 100 + len(self.kept)
            self.kept.append(given[0])
            return weights, {"changed": changed}, {"num_examples": 1}
        for array in weights.values() if isinstance(weights, dict) else weights:
            array += 1
        return weights, {"loss": 0.25}, {"num_examples": 7, "num_steps": 3}

    def evaluate(self, weights, context):
        values = list(weights.values()) if isinstance(weights, dict) else weights
        return {"mean": float(np.mean(values[0]))}, 5

    def predict(self, weights, context):
        return {"answers": np.arange(4.0)}


class Untrainable(Learner):
    def train(self, weights, context):
        return weights, {}


raise_at_import = os.environ.get("RAISE_AT_IMPORT")
if raise_at_import:
    raise ImportError(raise_at_import)
'''


def write_learner(folder: Path) -> str:
    """The name of a Learner in a file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "plus_one.py"
    path.write_text(LEARNER, encoding="utf-8")
    return f"{path}:PlusOne"


@dataclass
class Place:
    """A combiner that the stand-in may assign."""

    name: str
    port: int


@dataclass
class FakeReducer:
    """REST over TLS: enrol, token, assignments. A test decides what is assigned."""

    folder: Path
    places: list[Place] = field(default_factory=list)
    token_ttl_s: float = 3600.0
    trail: tuple[str, int] = ("head", 1)
    package_id: str = ""
    package: bytes | None = None
    """What is served as the package; None: not found."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    """The assignment requests so far."""
    renewals: int = 0
    enrolments: int = 0
    valid_days: int = 30
    """Of the clients' certificates."""
    federation: str = "testing"
    keys: dict[str, str] = field(default_factory=dict)
    """Key id of each enrolled client."""

    def __post_init__(self) -> None:
        self.ca = CertificateAuthority.create_or_load(self.folder / "ca", self.federation)
        signing_key = create_or_load_signing_key(self.folder / "signing.key")
        self.issuer = TokenIssuer(signing_key, self.federation)
        key = new_private_key()
        certificate = self.ca.sign(make_csr(key, "r"), name="r", role="reducer", hosts=["localhost"], valid_days=1)
        (self.folder / "r.key").write_bytes(key)
        (self.folder / "r.crt").write_bytes(certificate)
        self.port = free_port()  # kept for it while it is stopped

    def __enter__(self) -> "FakeReducer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        reducer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path.endswith("/ca"):
                    self._answer(reducer.ca.certificate_pem, "application/x-pem-file")
                elif reducer.package is not None:
                    self._answer(reducer.package, "application/gzip")
                else:
                    self.send_error(404)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                bearer = (self.headers["Authorization"] or "").removeprefix("Bearer ")
                reply = reducer.answer(self.path, body, bearer)
                self._answer(json.dumps(reply).encode(), "application/json")

            def _answer(self, data: bytes, content_type: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "r.crt", self.folder / "r.key")
        self._server = _Server(("localhost", self.port), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def join(self) -> str:
        return JoinString(f"https://localhost:{self.port}", self.ca.fingerprint, SECRET).encode()

    def token(self, name: str) -> dict[str, Any]:
        return {
            "token": self.issuer.issue(name, Role.CLIENT, self.token_ttl_s, self.keys[name]),
            "expires_at": time.time() + self.token_ttl_s,
        }

    def answer(self, path: str, body: dict[str, Any], bearer: str) -> dict[str, Any]:
        if path.endswith("/enrol"):
            self.enrolments += 1
            certificate = self.ca.sign(
                body["csr"].encode(), name=body["name"], role="client", hosts=[], valid_days=self.valid_days
            ).decode()
            self.keys[body["name"]] = public_key_id(body["csr"].encode())
            return {
                "name": body["name"],
                "role": "client",
                "federation": self.federation,
                "certificate": certificate,
                "ca": self.ca.certificate_pem.decode(),
                "token_key": self.issuer.public_key_pem.decode(),
                **self.token(body["name"]),
            }
        if path.endswith("/token"):
            self.renewals += 1
            name = assertion_subject(body["assertion"])
            key = self.issuer.public_key_pem.decode()
            return {"role": "client", "name": name, "token_key": key, **self.token(name)}
        self.asked.append(body)
        name = TokenVerifier(self.issuer.public_key_pem, self.federation).verify(bearer).subject
        return self.assignment(body, name)

    def assignment(self, body: dict[str, Any], name: str) -> dict[str, Any]:
        head, length = self.trail
        told = {"trail_head": head, "trail_length": length}
        wanted = [place for place in self.places if place.name not in body["avoid"]] or self.places
        if not wanted:
            return {"status": "retry", "reason": "none", "code": "no_combiner", "retry_after_s": 0.1, **told}
        return {
            "status": "assigned",
            "combiner": wanted[0].name,
            "host": "localhost",
            "port": wanted[0].port,
            "ca": self.ca.certificate_pem.decode(),
            "package_id": self.package_id,
            "helper": "numpy",
            **told,
            **self.token(name),
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that closed its connection is no error of the test."""
