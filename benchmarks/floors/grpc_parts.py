"""What raw gRPC measurements share: channel options, TLS of an authority of their own, processes that serve them.

Nothing of the platform's own network code is used but its authority, which makes the same keys and certificates.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc

from fedn.network.authority import REDUCER, CertificateAuthority
from fedn.network.keys import make_csr, new_private_key
from fedn.plan.allocator import SERVER

HOST = "127.0.0.1"
MESSAGE_BYTES = 1 << 20
OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
    ("grpc.use_local_subchannel_pool", 1),
)
_END_WITHIN_S = 10.0


@dataclass(frozen=True)
class Certificates:
    """PEM files of a server's key and certificate and of its authority, in one folder."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Self:
        """Makes them, for 127.0.0.1."""
        authority = CertificateAuthority.create_or_load(folder, "benchmark")
        key = new_private_key()
        csr = make_csr(key, "server")
        certificate = authority.sign(csr, name="server", role=REDUCER, hosts=[HOST, "localhost"], valid_days=1)
        (folder / "server.key").write_bytes(key)
        (folder / "server.crt").write_bytes(certificate)
        return cls(folder)

    def for_server(self) -> grpc.ServerCredentials:
        pair = (self.folder / "server.key").read_bytes(), (self.folder / "server.crt").read_bytes()
        return grpc.ssl_server_credentials([pair])

    def for_channel(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials((self.folder / "ca.crt").read_bytes())


def listen(server: grpc.aio.Server, certificates: Certificates | None) -> int:
    """Adds a free port to a server; its number."""
    if certificates is None:
        return server.add_insecure_port(f"{HOST}:0")
    return server.add_secure_port(f"{HOST}:0", certificates.for_server())


def open_channel(port: int, certificates: Certificates | None) -> grpc.aio.Channel:
    """A channel with a connection of its own."""
    address = f"{HOST}:{port}"
    if certificates is None:
        return grpc.aio.insecure_channel(address, options=OPTIONS)
    return grpc.aio.secure_channel(address, certificates.for_channel(), options=OPTIONS)


def tls_argument(certificates: Certificates | None) -> str:
    """How a child process is told of the certificates: their folder, or an empty text."""
    return str(certificates.folder) if certificates else ""


def tls_of(argument: str) -> Certificates | None:
    """What `tls_argument` said."""
    return Certificates(Path(argument)) if argument else None


class Child:
    """A process of a module that says what it has to say as lines of JSON."""

    def __init__(self, module: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **SERVER, "GRPC_VERBOSITY": "ERROR"},
        )
        self.pid = self._process.pid

    def hear(self) -> Any:
        """What it says next. RuntimeError: it has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process of the measurement has ended with status {self._process.wait()}")
        return json.loads(line)

    def tell(self, what: object) -> None:
        """Sends it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """Ends it."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_END_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


@contextmanager
def children(module: str, arguments: list[tuple[object, ...]]) -> Iterator[list[Child]]:
    """Processes that end with the block."""
    with ExitStack() as stack:
        started = []
        for one in arguments:
            child = Child(module, *one)
            stack.callback(child.close)
            started.append(child)
        yield started


def say(what: object) -> None:
    """To whoever started this process."""
    print(json.dumps(what), flush=True)


def raise_file_limit() -> int:
    """Lets this process open as many files as it may at all; how many that is."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
