"""One process of an MPI job that does what a test tells it to do with its back end: see tests.support.mpi_job.

Run by mpiexec, with the path of the test's socket. A request, and its answer: a line of JSON with the size of the bytes
that follow it. Each request is done in a thread of its own, so that a blocked one holds up no other.
"""

import json
import socket
import sys
import threading
from typing import Any, BinaryIO

from mpi4py import MPI

from fedn.protocol.errors import FednError
from fedn.workers.backends import Arrival, Departure
from fedn.workers.backends.mpi import Mpi


def read(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    line = stream.readline()
    if not line:
        return None
    head = json.loads(line)
    return head, stream.read(head["size"])


def write(stream: BinaryIO, lock: threading.Lock, head: dict[str, Any], content: Any = b"") -> None:
    with lock:
        stream.write(json.dumps(head | {"size": len(content)}).encode() + b"\n")
        stream.write(content)
        stream.flush()


class Rank:
    def __init__(self, path: str) -> None:
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(path)
        self._stream = self._connection.makefile("rwb")
        self._lock = threading.Lock()
        self._backends: dict[int, Mpi] = {}
        write(self._stream, self._lock, {"rank": MPI.COMM_WORLD.Get_rank()})

    def serve(self) -> None:
        threads = []
        while (request := read(self._stream)) is not None:
            head, content = request
            if head["do"] == "connect":  # all ranks together, and in the same order
                self._connect(head)
                continue
            thread = threading.Thread(target=self._answer, args=(head, content))
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join()
        for backend in self._backends.values():
            backend.close()

    def _connect(self, head: dict[str, Any]) -> None:
        world = MPI.COMM_WORLD
        chosen = world.Split(0 if world.Get_rank() < head["workers"] else MPI.UNDEFINED, world.Get_rank())
        if chosen != MPI.COMM_NULL:
            self._backends[head["job"]] = Mpi(chosen, stall_s=head["stall_s"])
        write(self._stream, self._lock, {"id": head["id"]})

    def _answer(self, head: dict[str, Any], content: bytes) -> None:
        answer: dict[str, Any] = {"id": head["id"]}
        frame: Any = b""
        backend = self._backends[head["job"]]
        try:
            match head["do"]:
                case "send":
                    backend.send(head["receiver"], content)
                case "close":
                    backend.close(head["reason"])
                case "receive":
                    came = backend.receive(head["timeout_s"])
                    if isinstance(came, Arrival):
                        answer |= {"came": "frame", "sender": came.sender}
                        frame = came.frame
                    elif isinstance(came, Departure):
                        answer |= {"came": "departure", "sender": came.rank, "reason": came.reason}
        except FednError as error:
            answer |= {"error": type(error).__name__, "code": error.code, "message": error.message}
        write(self._stream, self._lock, answer, frame)


if __name__ == "__main__":
    Rank(sys.argv[1]).serve()
