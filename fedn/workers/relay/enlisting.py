"""Makes clients of a federation out of workers that are to be launched here, and asks for their ranks."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from fedn.network.identity import Identity
from fedn.network.join import JoinString
from fedn.network.tokens import Role
from fedn.workers.backends.base import WorkerStart
from fedn.workers.relay import site
from fedn.workers.relay.backend import first_place


@dataclass(frozen=True)
class Enlisted:
    """A worker that may be started."""

    rank: int
    start: WorkerStart


def enlist(
    count: int,
    group: str,
    join: JoinString,
    *,
    name_base: str,
    data_dir: Path,
    first_rank: int | None,
    combiner: str,
    patience_s: float,
) -> Sequence[Enlisted]:
    """Enrols `count` clients NAME_BASE-0, … and gets them their ranks in the group.

    The workers are not given the enrolment secret: each finds its key and certificate in `data_dir`.

    Args:
        first_rank: of the first one, the others follow; None: as the reducer says.
        combiner: where to attach; empty: at the group's home.
        patience_s: seconds to wait for a reducer or combiner that is away.

    Raises:
        FednError: one of them cannot enrol, or has no place in the group.
    """
    known = JoinString(join.url, join.ca_fingerprint, "").encode()
    found = []
    for number in range(count):
        name, folder = f"{name_base}-{number}", data_dir / f"{name_base}-{number}"
        rank = None if first_rank is None else first_rank + number
        desk = site.SiteDesk(Identity(folder, name, Role.CLIENT), join, group, rank=rank, combiner=combiner)
        with closing(desk):
            place = first_place(desk, patience_s)
        environment = {
            site.GROUP: group,
            site.JOIN: known,
            site.NAME: name,
            site.DATA_DIR: str(folder),
            site.RANK: str(place.rank),
            site.COMBINER: combiner,
        }
        found.append(Enlisted(place.rank, WorkerStart(environment)))
    return found
