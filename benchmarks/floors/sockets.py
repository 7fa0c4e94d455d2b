"""Loopback TCP: bytes a second from this process to another, over one connection and over ten."""

import argparse
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

from benchmarks.floors.grpc_parts import HOST, Child, say
from benchmarks.floors.timing import best_s, figure
from benchmarks.results import Row

_MODULE = "benchmarks.floors.sockets"
_MIB = 1 << 20
_TOTAL_MIB = 2048


def measure() -> list[Row]:
    """All figures about sockets."""
    return [
        figure(
            "TCP",
            f"loopback, {streams} stream(s)",
            tcp_bytes_per_s(streams, _TOTAL_MIB * _MIB // streams) / 1e9,
            "GB/s",
        )
        for streams in (1, 10)
    ]


def tcp_bytes_per_s(streams: int, bytes_each: int, repeats: int = 3) -> float:
    """Bytes a second that so many connections carry at once, until the other process has read all of them."""
    child = Child(_MODULE)
    try:
        port = child.hear()["port"]
        content = bytes(_MIB)

        def send(_: int) -> None:
            with socket.create_connection((HOST, port)) as connection:
                for start in range(0, bytes_each, _MIB):
                    connection.sendall(memoryview(content)[: min(_MIB, bytes_each - start)])
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1)

        with ThreadPoolExecutor(streams) as pool:
            return streams * bytes_each / best_s(lambda: list(pool.map(send, range(streams))), repeats)
    finally:
        child.close()


def _drain(connection: socket.socket) -> None:
    buffer = bytearray(_MIB)
    with connection:
        while connection.recv_into(buffer):
            pass
        connection.sendall(b"k")


def main() -> None:
    argparse.ArgumentParser(description="Reads and drops what is sent to it; says its port.").parse_args()
    with socket.create_server((HOST, 0), backlog=64) as server:
        say({"port": server.getsockname()[1]})
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_drain, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
