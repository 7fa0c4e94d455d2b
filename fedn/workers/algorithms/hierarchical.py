"""Hierarchical federated learning: clients in groups, each with a server of its own, below the server of all.

In each global round every group runs some rounds of FedAvg by itself; then the groups' models are averaged, weighted by
their examples (Liu et al., Client-edge-cloud hierarchical federated learning, 2020, algorithm 1). With one group round
it equals FedAvg over all clients.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from fedn.models.wire import Tensors
from fedn.protocol.errors import InvalidInput
from fedn.workers.algorithms.fedavg import LOCAL_MODEL, SERVER, Averaging, FedAvgClient, FedAvgServer, Train
from fedn.workers.backends import Backend


@dataclass(frozen=True)
class Groups:
    """Who belongs to whom: worker 0 is the server of all, 1, 2, … the groups' servers, then come the clients."""

    clients: tuple[tuple[int, ...], ...]
    """Ranks of the clients of each group."""

    @classmethod
    def even(cls, size: int, number: int) -> Self:
        """`number` groups of equal size, but for one client, out of `size` workers."""
        return cls._dealt(np.arange(number + 1, size), number)

    @classmethod
    def random(cls, size: int, number: int, seed: int) -> Self:
        """As `even`, with clients drawn by the seed; the same in every process."""
        return cls._dealt(np.random.default_rng(seed).permutation(np.arange(number + 1, size)), number)

    @classmethod
    def _dealt(cls, ranks: "np.ndarray[Any, np.dtype[np.int_]]", number: int) -> Self:
        if not 1 <= number <= len(ranks):
            raise InvalidInput(
                "bad_groups",
                f"{max(len(ranks), 0)} clients cannot make {number} groups",
                fix="Start 1 + groups + clients workers, with at least one client a group.",
            )
        return cls(tuple(tuple(sorted(map(int, ranks[group::number]))) for group in range(number)))

    @property
    def servers(self) -> range:
        """Ranks of the groups' servers."""
        return range(1, len(self.clients) + 1)

    def server_of(self, client: int) -> int:
        """Rank of the server of a client's group. InvalidInput (`bad_groups`) where it is in none."""
        for server, clients in zip(self.servers, self.clients, strict=True):
            if client in clients:
                return server
        raise InvalidInput("bad_groups", f"Worker {client} is a client of no group")


class GroupServer(FedAvgClient):
    """A client of the server of all, whose training is `group_rounds` rounds of FedAvg among its own clients.

    Args:
        clients: ranks of its clients.
        group_rounds: in each global round.
        options: of Averaging.
    """

    def __init__(
        self, clients: tuple[int, ...], group_rounds: int, comm: Backend | None = None, **options: Any
    ) -> None:
        super().__init__(self.train_group, comm)
        self.collect_by_round(LOCAL_MODEL)
        self.group_rounds = group_rounds
        self.averaging = Averaging(self, clients, **options)

    def train_group(self, model: Tensors, round_index: int) -> tuple[Tensors, int]:
        """The group's model after its rounds, and the examples behind the last of them."""
        num_examples = 0
        for group_round in range(self.group_rounds):
            model, num_examples = self.averaging.round(model, round_index * self.group_rounds + group_round)
        return model, num_examples


def hierarchical_worker(
    rank: int, groups: Groups, model: Tensors, train: Train, *, rounds: int, group_rounds: int, **options: Any
) -> FedAvgServer | GroupServer | FedAvgClient:
    """The worker of a rank; call its `run`, which returns the last global model at worker 0.

    Args:
        train: of the clients; see `fedavg.Train`. Its round counts group rounds, over all global rounds.
        options: of Averaging, for the groups.
    """
    if rank == SERVER:
        return FedAvgServer(model, rounds, clients=groups.servers)
    if rank in groups.servers:
        return GroupServer(groups.clients[rank - 1], group_rounds, **options)
    return FedAvgClient(train, server=groups.server_of(rank))
