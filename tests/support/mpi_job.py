"""A real MPI job, started by mpiexec, whose processes a test drives as if they were its own back ends."""

import contextlib
import itertools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from fedn.models.digest import Buffer
from fedn.protocol.errors import InvalidInput
from fedn.workers import PeerUnavailable
from fedn.workers.backends import Arrival, Backend, Departure
from tests.support.mpi_rank import read, write

ROOT = Path(__file__).resolve().parents[2]
ERRORS = {"PeerUnavailable": PeerUnavailable, "InvalidInput": InvalidInput}


def mpiexec(size: int, *program: str, **environment: str) -> subprocess.Popen[str]:
    """`mpiexec -n size python program…`."""
    found = Path(sys.executable).with_name("mpiexec")
    assert found.exists(), "mpiexec is missing: pip install mpich (it is in the extra test)"
    return subprocess.Popen(
        [found, "-n", str(size), sys.executable, *program],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class MpiJob:
    """`size` processes, each of which waits for what it is told."""

    def __init__(self, size: int, path: Path) -> None:
        self._ids = itertools.count()
        self._links: dict[int, _Link] = {}
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(size)
            listener.settimeout(120)
            self.process = mpiexec(size, "-m", "tests.support.mpi_rank", str(path))
            for _ in range(size):
                link = _Link(listener.accept()[0])
                self._links[link.rank] = link

    def connect(self, size: int, stall_s: float) -> Sequence[Backend]:
        """The first `size` processes as back ends, over a communicator of their own."""
        job = next(self._ids)
        ready = [
            link.ask({"do": "connect", "job": job, "workers": size, "stall_s": stall_s})
            for link in self._links.values()
        ]
        for answer in ready:
            answer.result(60)
        return [RemoteWorker(self._links[rank], job, rank, size) for rank in range(size)]

    def end(self) -> None:
        """Lets the processes end; MPI makes each of them wait for all."""
        for link in self._links.values():
            link.let_go()
        for link in self._links.values():
            link.close()
        _, errors = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, errors

    def kill(self) -> None:
        """Nothing of it stays, whatever has failed."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@contextlib.contextmanager
def mpi_job(size: int) -> Iterator[MpiJob]:
    with TemporaryDirectory(prefix="mpi-") as folder:
        job = MpiJob(size, Path(folder) / "test.sock")
        try:
            yield job
            job.end()
        finally:
            job.kill()


class _Link:
    """The connection to one process."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream = connection.makefile("rwb")
        self._lock = threading.Lock()
        self._ids = itertools.count()
        self._asked: dict[int, Future[tuple[dict[str, Any], bytes]]] = {}
        hello = read(self._stream)
        assert hello is not None
        self.rank: int = hello[0]["rank"]
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ask(self, head: dict[str, Any], content: Buffer = b"") -> "Future[tuple[dict[str, Any], bytes]]":
        number, answer = next(self._ids), Future[tuple[dict[str, Any], bytes]]()
        self._asked[number] = answer
        write(self._stream, self._lock, head | {"id": number}, content)
        return answer

    def let_go(self) -> None:
        self._connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._reader.join(60)
        self._stream.close()
        self._connection.close()

    def _read(self) -> None:
        while (answer := read(self._stream)) is not None:
            self._asked.pop(answer[0]["id"]).set_result(answer)


class RemoteWorker(Backend):
    """A back end in another process."""

    def __init__(self, link: _Link, job: int, rank: int, size: int) -> None:
        self._link, self._job, self.rank, self.size = link, job, rank, size

    @classmethod
    def attach(cls, environment: Mapping[str, str]) -> Self:
        raise NotImplementedError

    def send(self, receiver: int, frame: Buffer) -> None:
        self._do("send", frame, receiver=receiver)

    def receive(self, timeout_s: float | None) -> Arrival | Departure | None:
        head, content = self._do("receive", timeout_s=timeout_s)
        match head.get("came"):
            case "frame":
                return Arrival(head["sender"], content)
            case "departure":
                return Departure(head["sender"], head["reason"])
        return None

    def close(self, reason: str | None = None) -> None:
        self._do("close", reason=reason)

    def _do(self, what: str, content: Buffer = b"", **arguments: Any) -> tuple[dict[str, Any], bytes]:
        answer, frame = self._link.ask({"do": what, "job": self._job, **arguments}, content).result(300)
        if "error" in answer:
            raise ERRORS[answer["error"]](answer["code"], answer["message"])
        return answer, frame
