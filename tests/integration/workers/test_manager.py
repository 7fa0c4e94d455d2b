"""Workers as threads: what FedML's programs do, and what its managers did wrong."""

import threading
from typing import Any

import numpy as np
import pytest

from fedn.protocol.errors import FednError, InvalidInput
from fedn.workers import (
    BadMessage,
    ClientManager,
    FedML_init,
    FedMLCommManager,
    Message,
    PeerUnavailable,
    RoundIncomplete,
    ServerManager,
    SymmetricTopologyManager,
    WorkerManager,
    run_workers,
)


class MyMessage:
    MSG_TYPE_S2C_INFORMATION = 2
    MSG_TYPE_C2S_INFORMATION = 3
    MSG_ARG_KEY_INFORMATION = "information"


class BaseServer(ServerManager):
    """As a program for FedML is written."""

    def __init__(self, args: Any, comm: Any, rank: int, size: int) -> None:
        super().__init__(args, comm, rank, size)
        self.received: dict[int, int] = {}
        self.sums: list[int] = []

    def run(self) -> None:
        self.send_to_all(0)
        super().run()

    def register_message_receive_handlers(self) -> None:
        self.register_message_receive_handler(MyMessage.MSG_TYPE_C2S_INFORMATION, self.handle_information)

    def handle_information(self, msg_params: Message) -> None:
        sender_id = msg_params.get(Message.MSG_ARG_KEY_SENDER)
        assert sender_id not in self.received
        self.received[sender_id] = msg_params.get(MyMessage.MSG_ARG_KEY_INFORMATION)
        if len(self.received) == self.size - 1:
            self.sums.append(sum(self.received.values()))
            self.received = {}
            if len(self.sums) == self.args:
                self.finish()
                return
            self.send_to_all(self.sums[-1])

    def send_to_all(self, value: int) -> None:
        for receiver_id in range(1, self.size):
            message = Message(MyMessage.MSG_TYPE_S2C_INFORMATION, self.get_sender_id(), receiver_id)
            message.add_params(MyMessage.MSG_ARG_KEY_INFORMATION, value)
            self.send_message(message)


class BaseClient(ClientManager):
    def register_message_receive_handlers(self) -> None:
        self.register_message_receive_handler(MyMessage.MSG_TYPE_S2C_INFORMATION, self.handle_information)

    def handle_information(self, msg_params: Message) -> None:
        message = Message(MyMessage.MSG_TYPE_C2S_INFORMATION, self.get_sender_id(), 0)
        message.add_params(MyMessage.MSG_ARG_KEY_INFORMATION, self.rank)
        self.send_message(message)


def test_a_program_for_fedml_runs_and_everybody_ends() -> None:
    def worker(rank: int) -> list[int] | None:
        comm, process_id, worker_number = FedML_init()
        if process_id == 0:
            server = BaseServer(5, comm, process_id, worker_number)
            server.run()
            return server.sums
        BaseClient(None, comm, process_id, worker_number).run()
        return None

    assert run_workers(5, worker) == [[10] * 5, None, None, None, None]


class Gossip(WorkerManager):
    """Figure 2 of FedML's page, with rounds: neighbours are asked of the topology."""

    TYPE = "value"
    ROUNDS = 30

    def gossip(self) -> float:
        topology = SymmetricTopologyManager(self.size, 2)
        topology.generate_topology()
        self.collect_by_round(self.TYPE)
        value = np.array([float(self.rank)])
        weights = topology.get_in_neighbor_weights(self.rank)
        for round_index in range(self.ROUNDS):
            for receiver in topology.get_out_neighbor_idx_list(self.rank):
                message = Message(self.TYPE, self.get_sender_id(), receiver, round_index=round_index)
                message.add_params("value", value)
                self.send_message(message)
            heard = self.wait_for(topology.get_in_neighbor_idx_list(self.rank), round_index)
            assert all(message.round_index == round_index for message in heard.values())
            value = weights[self.rank] * value + sum(
                weights[sender] * message.get("value") for sender, message in heard.items()
            )
        self.finish()
        return float(value[0])


def test_rounds_do_not_mix_and_gossip_finds_the_mean() -> None:
    size = 6
    found = run_workers(size, lambda rank: Gossip().gossip())
    exact = np.linalg.matrix_power(SymmetricTopologyManager(size).matrix.astype(float), Gossip.ROUNDS) @ np.arange(size)
    np.testing.assert_allclose(found, exact, atol=1e-5)
    np.testing.assert_allclose(found, 2.5, atol=1e-2)


def test_the_aliases_are_the_manager() -> None:
    assert ClientManager is ServerManager is FedMLCommManager is WorkerManager


class Sender(WorkerManager):
    """Says one thing to worker 0, then waits."""

    def run(self) -> None:
        self.send_message(Message("hello", self.rank, 0))
        super().run()


def test_an_error_of_a_handler_is_raised_as_itself_and_ends_all() -> None:
    class Failing(WorkerManager):
        def register_message_receive_handlers(self) -> None:
            self.register_message_receive_handler("hello", lambda message: {}["missing key"])

    with pytest.raises(KeyError, match="missing key") as caught:
        run_workers(3, lambda rank: (Failing() if rank == 0 else Sender()).run())
    assert any("'hello'" in note for note in caught.value.__notes__)


def test_an_unknown_type_is_an_error_that_names_the_known_ones() -> None:
    class Deaf(WorkerManager):
        def register_message_receive_handlers(self) -> None:
            self.register_message_receive_handler(7, print)

    with pytest.raises(BadMessage, match=r"'hello' came; known here: 7") as caught:
        run_workers(2, lambda rank: (Deaf() if rank == 0 else Sender()).run())
    assert caught.value.code == "unknown_message_type"


def test_a_lost_worker_is_noticed_and_may_be_done_without() -> None:
    class Tolerant(WorkerManager):
        lost: tuple[int, str]

        def peer_lost(self, rank: int, reason: str) -> None:
            self.lost = rank, reason
            self.finish()

    seen = []

    def worker(rank: int) -> None:
        if rank == 1:
            raise ValueError("broken disk")
        manager = Tolerant()
        manager.run()
        seen.append(manager.lost)

    with pytest.raises(ValueError, match="broken disk"):
        run_workers(2, worker)
    assert seen == [(1, "ValueError: broken disk")]


def test_a_quorum_is_enough_when_a_neighbour_is_gone() -> None:
    def worker(rank: int) -> list[int] | None:
        manager = WorkerManager()
        manager.collect_by_round("x")
        if rank == 0:
            with pytest.raises(InvalidInput, match="quorum"):
                manager.wait_for([1, 2], 0, quorum=3)
            return sorted(manager.wait_for([1, 2], 0, timeout=60, quorum=1))
        if rank == 1:
            manager.send_message(Message("x", 1, 0, round_index=0))
        manager.finish()
        return None

    assert run_workers(3, worker)[0] == [1]


def test_waiting_in_vain_is_told_at_once_or_after_the_timeout() -> None:
    ends = threading.Event()

    def worker(rank: int) -> str | None:
        manager = WorkerManager()
        manager.collect_by_round("x")
        if rank == 1:
            return None
        if rank == 2:
            ends.wait(60)
            return None
        codes = []
        for neighbour, timeout in ((1, 60.0), (2, 0.05)):
            with pytest.raises((PeerUnavailable, RoundIncomplete)) as caught:
                manager.wait_for([neighbour], 0, timeout)
            assert isinstance(caught.value, FednError)
            codes.append(caught.value.code)
        ends.set()
        return " ".join(codes)

    assert run_workers(3, worker)[0] == "peer_lost round_incomplete"


def test_late_messages_are_dropped_and_doubles_refused() -> None:
    def worker(rank: int) -> Any:
        manager = WorkerManager()
        manager.collect_by_round("x")
        if rank == 1:
            for round_index in (1, 0, 2, 3, 3):
                manager.send_message(Message("x", 1, 0, round_index=round_index))
            return None
        assert set(manager.wait_for([1], 1)) == {1}
        assert set(manager.wait_for([1], 2)) == {1}
        late = manager.com_manager.inbox.late
        with pytest.raises(BadMessage, match="twice"):
            manager.wait_for([1], 4)
        return late

    assert run_workers(2, worker)[0] == 1


def test_what_was_sent_does_not_change_with_the_sender() -> None:
    def worker(rank: int) -> Any:
        manager = WorkerManager()
        manager.collect_by_round("x")
        if rank == 0:
            weights = np.ones(3)
            message = Message("x", 0, 1, round_index=0)
            message.add_params("w", weights)
            manager.send_message(message)
            weights[:] = 5
            return None
        return manager.wait_for([0], 0)[0].get("w").tolist()

    assert run_workers(2, worker)[1] == [1, 1, 1]


def test_a_finished_worker_sends_nothing_more_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    def worker(rank: int) -> None:
        manager = WorkerManager()
        manager.finish()
        manager.finish()
        manager.send_message(Message("x", rank, rank))

    run_workers(1, worker)
    assert "has finished" in caplog.text


def test_nobody_speaks_in_anothers_name() -> None:
    with pytest.raises(BadMessage, match="worker 1"):
        run_workers(2, lambda rank: WorkerManager().send_message(Message("x", 1, 1)) if rank == 0 else None)


def test_a_type_is_handled_or_collected_but_not_both() -> None:
    def worker(rank: int) -> None:
        manager = WorkerManager()
        manager.collect_by_round("x")
        with pytest.raises(InvalidInput, match="collected"):
            manager.register_message_receive_handler("x", print)
        manager.register_message_receive_handler("y", print)
        with pytest.raises(InvalidInput, match="handler"):
            manager.collect_by_round("y")
        with pytest.raises(InvalidInput, match="not collected"):
            manager.wait_for([], 0, msg_type="z")

    run_workers(1, worker)


def test_a_wrong_rank_and_an_unattached_process_are_told() -> None:
    with pytest.raises(InvalidInput, match="rank is 0"):
        run_workers(1, lambda rank: WorkerManager(rank=3))
    with pytest.raises(InvalidInput, match="run_workers"):
        WorkerManager()
