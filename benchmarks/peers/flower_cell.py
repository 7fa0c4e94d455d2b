"""No-op rounds by Flower 1.8: `start_server` and `start_client`, one gRPC bidirectional stream a client.

The server is this process; each client is a forked process. A round lasts from its configuration to the next one's;
the last one ends with its aggregation, since the server's shutdown follows it.

    PYTHONPATH=. ENVIRONMENT/bin/python -m benchmarks.peers.flower_cell --params 1M --clients 10
"""

import contextlib
import itertools
import multiprocessing
import os
import socket
import statistics
import time
from collections.abc import Iterator

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"  # read when flwr is imported

import flwr
from flwr.client import NumPyClient, start_client
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server import ServerConfig, start_server
from flwr.server.strategy import FedAvg

from benchmarks.noop.workload import NUM_EXAMPLES, make_model, max_error, shift_of
from benchmarks.peers.peer_cell import parser_of, report
from benchmarks.proc import MIB, memory_of

_MAX_MESSAGE_BYTES = 2**31 - 1
_SERVER_WITHIN_S = 60.0
_CLIENT_ENDS_WITHIN_S = 5.0


class NoopClient(NumPyClient):
    """Adds its constant to what it receives."""

    def __init__(self, index: int) -> None:
        self._shift = shift_of(index)

    def fit(self, parameters, config):
        return [array + self._shift for array in parameters], NUM_EXAMPLES, {}


class TimedFedAvg(FedAvg):
    """FedAvg that notes when rounds begin and how long aggregations take."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.begun: list[float] = []
        self.aggregated: list[tuple[float, float]] = []
        self.final = None

    def configure_fit(self, server_round, parameters, client_manager):
        self.begun.append(time.perf_counter())
        return super().configure_fit(server_round, parameters, client_manager)

    def aggregate_fit(self, server_round, results, failures):
        if failures:
            raise RuntimeError(f"a client failed: {failures[0]}")
        begun = time.perf_counter()
        parameters, metrics = super().aggregate_fit(server_round, results, failures)
        self.aggregated.append((begun, time.perf_counter()))
        self.final = parameters
        return parameters, metrics

    def rounds(self) -> list[float]:
        """Seconds of each round."""
        return [after - before for before, after in itertools.pairwise([*self.begun, self.aggregated[-1][1]])]


def main() -> None:
    given = parser_of("Flower").parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    strategy = TimedFedAvg(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=given.clients,
        min_available_clients=given.clients,
        initial_parameters=ndarrays_to_parameters(make_model(given.params)),
    )
    with _clients(address, given.clients):
        start_server(
            server_address=address,
            config=ServerConfig(num_rounds=given.rounds),
            strategy=strategy,
            grpc_max_message_length=_MAX_MESSAGE_BYTES,
        )
    memory = memory_of()
    aggregations = [after - before for before, after in strategy.aggregated]
    report(
        given,
        f"flower-{flwr.__version__}",
        strategy.rounds(),
        agg_s=statistics.median(aggregations[1:]),
        server_rss_mb=memory.peak / MIB,
        max_err=max_error(parameters_to_ndarrays(strategy.final), given.clients, given.rounds),
    )


@contextlib.contextmanager
def _clients(address: str, count: int) -> Iterator[None]:
    """Forked before the server has started any thread; they end with the server's streams."""
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_run_client, args=(address, index), daemon=True) for index in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        deadline = time.monotonic() + _CLIENT_ENDS_WITHIN_S
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


def _run_client(address: str, index: int) -> None:
    _wait_for_server(address)
    start_client(
        server_address=address, client=NoopClient(index).to_client(), grpc_max_message_length=_MAX_MESSAGE_BYTES
    )


def _wait_for_server(address: str) -> None:
    """`start_client` gives up where no server listens yet, and nothing tells when it does: so it is tried."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + _SERVER_WITHIN_S
    while True:
        try:
            socket.create_connection((host, int(port))).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


if __name__ == "__main__":
    main()
