"""The flow: each step exactly once for each message, however late somebody starts, and a clean end."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from fedn.protocol.errors import InvalidInput
from fedn.workers import FedMLAlgorithmFlow, FedMLExecutor, Params, run_workers
from tests.support.worker_backends import NAMES, Connect, connect_over, run_over


@pytest.fixture(params=NAMES)
def connect(request: pytest.FixtureRequest) -> Connect:
    return connect_over(request)


class Server(FedMLExecutor):
    """As a program for FedML is written."""

    def __init__(self, args: Any) -> None:
        super().__init__(args.rank, list(range(1, args.worker_num)))
        self.total, self.count, self.rounds, self.evaluated = 0.0, 0, 0, 0

    def init_global_model(self) -> Params:
        assert self.get_params() is None
        params = Params()
        params.add("model_params", 0.0)
        return params

    def server_aggregate(self) -> Params | None:
        received = self.get_params()
        assert received is not None
        self.total += received.get("model_params")
        self.count += 1
        if self.count < len(self.get_neighbor_id_list()):
            return None
        mean, self.total, self.count = self.total / self.count, 0.0, 0
        self.rounds += 1
        return Params(model_params=mean)

    def final_eval(self) -> None:
        received = self.get_params()
        assert received is not None
        self.evaluated += 1
        self.result = received.model_params


class Client(FedMLExecutor):
    def __init__(self, args: Any) -> None:
        super().__init__(args.rank, [0])
        self.handled = self.trained = 0

    def handle_init(self) -> Params | None:
        self.handled += 1
        return self.get_params()

    def local_training(self) -> Params:
        received = self.get_params()
        assert received is not None
        self.trained += 1
        return Params(model_params=received.get("model_params") + self.get_id())


class StubbornClient(Client):
    """It inherits its steps, which FedML could not run, and overrides one."""

    def handle_init(self) -> Params | None:
        return super().handle_init()


def run_flow(args: Any, executor: FedMLExecutor) -> FedMLAlgorithmFlow:
    flow = FedMLAlgorithmFlow(args, executor)
    flow.add_flow("init_global_model", Server.init_global_model)
    flow.add_flow("handle_init", Client.handle_init)
    for _ in range(3):
        flow.add_flow("local_training", Client.local_training)
        flow.add_flow("server_aggregate", Server.server_aggregate)
    flow.add_flow("final_eval", Server.final_eval)
    flow.build()
    flow.run()
    return flow


@pytest.mark.parametrize("clients", [1, 2, 4])
def test_each_step_runs_exactly_once_a_round_and_everybody_ends(clients: int, connect: Connect) -> None:
    started = threading.Event()

    def worker(rank: int) -> tuple[FedMLExecutor, list[str]]:
        args = SimpleNamespace(rank=rank, worker_num=clients + 1, comm=None, backend=None)
        executor = Server(args) if rank == 0 else (Client if rank % 2 else StubbornClient)(args)
        if rank == clients:  # the last one comes when the others have begun: nothing runs twice for that
            started.wait(0.2)
        return executor, run_flow(args, executor).executed

    (server, steps), *others = run_over(connect, clients + 1, worker)
    assert isinstance(server, Server)
    assert steps == ["init_global_model", *["server_aggregate"] * 3 * clients, "final_eval"]
    assert (server.rounds, server.evaluated) == (3, 1)
    assert server.result == 3 * sum(range(1, clients + 1)) / clients
    for client, steps in others:
        assert isinstance(client, Client) and (client.handled, client.trained) == (1, 3)
        assert steps == ["handle_init", *["local_training"] * 3]


def test_a_loop_is_the_same_as_its_steps_written_out() -> None:
    def worker(rank: int) -> Any:
        args = SimpleNamespace(rank=rank, worker_num=3)
        executor = Server(args) if rank == 0 else Client(args)
        flow = FedMLAlgorithmFlow(args, executor, loop_times=4)
        flow.add_flow("init", Server.init_global_model)
        flow.add_flow("train", Client.local_training, FedMLAlgorithmFlow.LOOP_START)
        flow.add_flow("aggregate", Server.server_aggregate, FedMLAlgorithmFlow.LOOP_END)
        flow.add_flow("eval", Server.final_eval, FedMLAlgorithmFlow.FINISH)
        flow.build()
        flow.run()
        return executor

    server, *clients = run_workers(3, worker)
    assert (server.rounds, server.evaluated, server.result) == (4, 1, 6.0)
    assert [client.trained for client in clients] == [4, 4]


class Noting(FedMLExecutor):
    """Several classes inherit this step."""

    def note(self) -> Params:
        received = self.get_params()
        path = [] if received is None else received.path
        return Params(path=[*path, type(self).__name__])


class Cloud(Noting):
    def end(self) -> None:
        received = self.get_params()
        assert received is not None
        self.path = received.path


class Edge(Noting):
    pass


class Leaf(Noting):
    pass


def test_three_tiers_end_though_each_waits_for_the_other() -> None:
    neighbours = {0: [1], 1: [0, 2], 2: [1]}

    def worker(rank: int) -> Any:
        executor = (Cloud, Edge, Leaf)[rank](rank, neighbours[rank])
        flow = FedMLAlgorithmFlow(None, executor)
        for owner in (Cloud, Edge, Leaf):
            flow.add_flow("down", Noting.note, owner=owner)
        flow.add_flow("up", Noting.note, owner=Edge)
        flow.add_flow("end", Cloud.end)
        flow.build()
        flow.run()
        return executor

    # What the edge sends up and down reaches both its neighbours: whose step it is not, passes over it.
    assert run_workers(3, worker)[0].path == ["Cloud", "Edge", "Leaf", "Edge"]


def test_a_step_that_fails_is_raised_as_itself_and_ends_all() -> None:
    class Failing(Client):
        def local_training(self) -> Params:
            raise ZeroDivisionError("no examples")

    def worker(rank: int) -> None:
        args = SimpleNamespace(rank=rank, worker_num=3)
        run_flow(args, Server(args) if rank == 0 else (Client if rank == 1 else Failing)(args))

    with pytest.raises(ZeroDivisionError, match="no examples"):
        run_workers(3, worker)


def test_a_step_that_answers_each_neighbour_is_an_error() -> None:
    both_came = threading.Event()

    class Hasty(Server):
        def server_aggregate(self) -> Params | None:
            self.count += 1
            if self.count == 2:
                both_came.set()
            return self.get_params()

    class Patient(Client):
        def local_training(self) -> Params:
            if self.trained == 1:
                both_came.wait(60)
            return super().local_training()

    def worker(rank: int) -> None:
        args = SimpleNamespace(rank=rank, worker_num=3)
        run_flow(args, Hasty(args) if rank == 0 else Patient(args))

    with pytest.raises(InvalidInput, match="returned Params twice") as caught:
        run_workers(3, worker)
    assert caught.value.code == "flow_step_twice"


@pytest.mark.parametrize(
    ("tags", "fault"),
    [
        ([], "without steps"),
        (["FLOW_TAG_FINISH", "FLOW_TAG_ONCE"], "after the one that is tagged FINISH"),
        (["FLOW_TAG_LOOP_START", "FLOW_TAG_ONCE"], "one LOOP_START"),
        (["FLOW_TAG_LOOP_END", "FLOW_TAG_LOOP_START"], "one LOOP_START"),
        (["sometimes"], "'sometimes'"),
    ],
)
def test_a_chain_that_cannot_be_is_refused(tags: list[str], fault: str) -> None:
    def worker(rank: int) -> None:
        flow = FedMLAlgorithmFlow(None, FedMLExecutor(0, []))
        with pytest.raises(InvalidInput, match="not built"):
            flow.run()
        for tag in tags:
            flow.add_flow("step", Server.final_eval, tag)
        flow.build()

    with pytest.raises(InvalidInput, match=fault):
        run_workers(1, worker)


def test_an_executor_of_another_rank_and_an_empty_loop_are_refused() -> None:
    with pytest.raises(InvalidInput, match="id is 4"):
        run_workers(1, lambda rank: FedMLAlgorithmFlow(None, FedMLExecutor(4, [])))
    with pytest.raises(InvalidInput, match="0 times"):
        run_workers(1, lambda rank: FedMLAlgorithmFlow(None, FedMLExecutor(0, []), loop_times=0))
