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
from tests.support.federation import Federation, wait_for
from tests.support.proxy import ProcessProxy


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


class ApartWorkers(RelayedWorkers):
    """With two combiners that do not reach each other: groups meet at c1, behind a proxy that turns c2 away."""

    def __init__(self, federation: Federation, proxy: ProcessProxy, folder: Path) -> None:
        super().__init__(federation, folder)
        self.proxy = proxy

    def group(self, size: int) -> str:
        """A new one, the only one that there is: so it meets at the first combiner."""
        for old in self.federation.api.worker_groups():
            self.federation.api.delete_worker_group(old.name)
        return super().group(size)

    def connect(self, size: int, stall_s: float) -> list[Backend]:
        """All workers of a new group: the first one at the home, the others at the other combiner."""
        group = self.group(size)
        workers: list[Backend] = [self.worker(group, 0, stall_s=stall_s)]
        workers += [self.worker(group, rank, "c2", stall_s=stall_s) for rank in range(1, size)]
        return workers


@pytest.fixture(scope="package")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApartWorkers]:
    folder = tmp_path_factory.mktemp("apart")
    with Federation(folder, combiners=0, clients=0) as federation, ProcessProxy() as proxy:
        federation.add_combiner("c1", "--public-port", str(proxy.port), "--worker-grace-s", "60")
        federation.add_combiner("c2")
        proxy.target_port = wait_for(lambda: federation.listening_port("c1"), "c1 listens") or 0
        proxy.cut(federation.processes["c2"].pid)
        wait_for(lambda: sum(c.linked for c in federation.api.combiners()) == 2, "the combiners are linked")
        yield ApartWorkers(federation, proxy, folder / "workers")


@pytest.fixture(scope="package")
def relayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayedWorkers]:
    folder = tmp_path_factory.mktemp("relayed")
    with Federation(folder, combiners=1, clients=0) as federation:
        yield RelayedWorkers(federation, folder / "workers")
