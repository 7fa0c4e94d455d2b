"""A real reducer and combiner, and workers that are relayed by it, in this process."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedn.network.identity import Identity
from fedn.network.join import JoinString
from fedn.network.tokens import Role
from fedn.workers.backends import Backend
from fedn.workers.relay.backend import Grpc
from fedn.workers.relay.site import SiteDesk
from tests.support.federation import Federation


class RelayedWorkers:
    """Makes groups at the federation's reducer, and workers of them, each a client of its own."""

    def __init__(self, federation: Federation, folder: Path) -> None:
        self.federation = federation
        self._folder = folder
        self._join = JoinString.parse(federation.api.join_string(federation.url).join)
        self._numbers = itertools.count()

    def group(self, size: int) -> str:
        """A new one."""
        return self.federation.api.create_worker_group(f"group-{next(self._numbers)}", size).name

    def desk(self, group: str, rank: int | None, combiner: str = "", *, name: str = "") -> SiteDesk:
        name = name or f"{group}-{rank}"
        identity = Identity(self._folder / name, name, Role.CLIENT)
        return SiteDesk(identity, self._join, group, rank=rank, combiner=combiner)

    def worker(self, group: str, rank: int, combiner: str = "", *, stall_s: float = 60, patience_s: float = 60) -> Grpc:
        return Grpc(self.desk(group, rank, combiner), stall_s=stall_s, patience_s=patience_s)

    def connect(self, size: int, stall_s: float) -> list[Backend]:
        """All workers of a new group."""
        group = self.group(size)
        return [self.worker(group, rank, stall_s=stall_s) for rank in range(size)]


@pytest.fixture(scope="package")
def relayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayedWorkers]:
    folder = tmp_path_factory.mktemp("relayed")
    with Federation(folder, combiners=1, clients=0) as federation:
        yield RelayedWorkers(federation, folder / "workers")
