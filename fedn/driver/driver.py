"""`Driver`: runs one experiment from start to end."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fedn.api.progress import SessionProgress
from fedn.driver.config import FederationConfig, make_federation, read_federation
from fedn.driver.statistics import ExperimentStatistics, collect, write_statistics
from fedn.driver.tiers import Tiers, open_tiers
from fedn.protocol.errors import FednError

Watch = Callable[[Iterable[SessionProgress]], object]
"""Takes the progress of a session to its end, to show it."""


class Driver:
    """One experiment.

    Args:
        federation: the path of its FEDERATION.yaml; or what such a file says, as a mapping or a FederationConfig: then
            relative paths start at the current directory.

    Raises:
        InvalidInput, InvalidSettings: what cannot be used in it; see `read_federation`.
    """

    def __init__(self, federation: FederationConfig | Mapping[str, Any] | str | Path) -> None:
        if isinstance(federation, FederationConfig):
            self.config = federation
        elif isinstance(federation, Mapping):
            self.config = make_federation(federation, source="a mapping")
        else:
            self.config = read_federation(Path(federation))

    def run(self, watch: Watch | None = None) -> ExperimentStatistics:
        """Starts or attaches, trains to the session's end, writes what is to be written, and ends what it started.

        Returns when everything has ended; the statistics' `state` says where a session failed or was stopped. Must be
        called in the main thread, where the experiment starts processes. Interrupted, it stops its session.

        Raises:
            FednError: the federation did not come up, refused the plan, or went away.
        """
        with open_tiers(self.config) as tiers:
            plan = tiers.prepare()
            session = tiers.api.start_session(plan, self.config.name).id
            with _stopping(tiers, session):
                (watch or _to_the_end)(tiers.follow(session))
            found = collect(tiers.api, session, tensors=self.config.tensors)
            if self.config.model is not None and found.model_id:
                tiers.api.download_model(found.model_id, self.config.model)
            if self.config.statistics is not None:
                write_statistics(found, self.config.statistics)
        return found


@contextlib.contextmanager
def _stopping(tiers: Tiers, session: str) -> Iterator[None]:
    """Whatever ends the block by an exception ends the session too."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(FednError):  # it is the first error that matters
            tiers.api.stop_session(session)
        raise


def _to_the_end(updates: Iterable[SessionProgress]) -> None:
    for _ in updates:
        pass
