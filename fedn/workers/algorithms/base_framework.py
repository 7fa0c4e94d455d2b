"""The smallest program of a server and its clients: in each round everybody sends a number, the server adds them up.

FedML's base framework: a skeleton to write one's own algorithm from.
"""

from fedn.workers.algorithms.rounds import RoundWorker, new_message, round_of
from fedn.workers.backends import Backend
from fedn.workers.manager import DEFAULT_TIMEOUT_S, WorkerManager
from fedn.workers.message import Message

SERVER = 0
ASK = "ask"
"""From the server: the last sum."""
NUMBER = "number"
"""From a client: its number."""


class BaseServer(RoundWorker):
    """Worker 0. `run` returns the sum of each round.

    Args:
        rounds: how many.
    """

    COLLECTED = (NUMBER,)

    def __init__(self, rounds: int, comm: Backend | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        super().__init__(comm, timeout_s=timeout_s)
        self.rounds = rounds

    def work(self) -> list[float]:
        clients = range(1, self.size)
        sums = [0.0]
        for round_index in range(self.rounds):
            self.tell(clients, ASK, round_index, sum=sums[-1])
            numbers = self.wait_for(clients, round_index, self.timeout_s)
            sums.append(sum(message.get(NUMBER) for message in numbers.values()))
        return sums[1:]


class BaseClient(WorkerManager):
    """All others: answers until the server has finished. `heard` are the sums that it was told."""

    def __init__(self, number: float, comm: Backend | None = None) -> None:
        super().__init__(comm=comm)
        self.number = number
        self.heard: list[float] = []

    def register_message_receive_handlers(self) -> None:
        self.register_message_receive_handler(ASK, self.handle_ask)

    def handle_ask(self, message: Message) -> None:
        self.heard.append(message.get("sum"))
        self.send_message(new_message(self, SERVER, NUMBER, round_of(message), {NUMBER: self.number}))
