"""The federation of an experiment: started here, or running elsewhere. Each is open as a context manager."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from fedn.api.client import APIClient
from fedn.api.context import read_context
from fedn.api.progress import SessionProgress, follow_session
from fedn.driver.config import FederationConfig, LocalTiers, RunningTiers
from fedn.plan.plan_file import make_plan
from fedn.plan.session import SessionPlan
from fedn.plan.settings_base import UpdateStoreSettings
from fedn.sandbox.federation import Sandbox, SandboxOptions
from fedn.sandbox.project import open_project, read_project

TOKEN_VARIABLE = "FEDN_TOKEN"  # noqa: S105 - names a variable
SECRET_VARIABLE = "FEDN_ALLIANCE_ADMIN_AUTH_TOKEN"  # noqa: S105 - names a variable


class Tiers(Protocol):
    """Open from `__enter__` to `__exit__`, which ends what the former started."""

    @property
    def api(self) -> APIClient: ...

    @property
    def logs(self) -> Path | None:
        """Where what went wrong can be read; None: at the sites."""

    def prepare(self) -> SessionPlan:
        """Brings code and seed model to the reducer, where the experiment has some; the plan to start."""

    def follow(self, session: str) -> Iterator[SessionProgress]:
        """The session's progress, again after each of its events, until it has ended."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class StartedTiers:
    """A sandbox: processes of this machine. To be opened and closed in the main thread."""

    def __init__(self, config: FederationConfig, local: LocalTiers) -> None:
        found = open_project(config.project)
        plan = found.plan | config.plan
        project = replace(found, plan=plan, seed=config.seed_model or found.seed)
        self._sandbox = Sandbox(
            project,
            SandboxOptions(
                clients=local.clients,
                combiners=local.combiners,
                data_dir=local.data_dir,
                port=local.port,
                seed=local.seed,
                tls=local.tls,
                updates=_as_settings(local.updates),
                cuda_devices=local.cuda_devices,
            ),
        )

    @property
    def api(self) -> APIClient:
        return self._sandbox.api

    @property
    def logs(self) -> Path | None:
        return self._sandbox.options.data_dir / "logs"

    def prepare(self) -> SessionPlan:
        if left_over := self.api.status().session:  # an experiment that was killed left it in the data directory
            self.api.stop_session(left_over)
        return self._sandbox.plan()

    def follow(self, session: str) -> Iterator[SessionProgress]:
        return self._sandbox.follow(session)

    def __enter__(self) -> Self:
        try:
            self._sandbox.start()
        except BaseException:
            self._sandbox.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sandbox.close()


class AttachedTiers:
    """A reducer that is reached by its REST API; what is behind it is others' business."""

    def __init__(self, config: FederationConfig, running: RunningTiers) -> None:
        self._project = read_project(config.project) if config.project is not None else None
        own = self._project.plan if self._project is not None else {}
        self._seed = config.seed_model or (self._project.seed if self._project is not None else None)
        self._content = own | config.plan
        self._api = _reach(running)

    @property
    def api(self) -> APIClient:
        return self._api

    @property
    def logs(self) -> Path | None:
        return None

    def prepare(self) -> SessionPlan:
        if self._project is not None:
            self._content["package_id"] = self._api.upload_package(self._project.package).package_id
        if self._api.status().trail_length == 0:
            if self._seed is not None:
                self._api.seed(self._seed)
            else:
                self._content["seed_from_client"] = True
        return make_plan(self._content, source="the experiment's")

    def follow(self, session: str) -> Iterator[SessionProgress]:
        return follow_session(self._api, session)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._api.close()


def open_tiers(config: FederationConfig) -> Tiers:
    """The federation that an experiment names, not open yet. InvalidInput where its project cannot be read."""
    if config.attach is not None:
        return AttachedTiers(config, config.attach)
    return StartedTiers(config, config.local or LocalTiers())


def _as_settings(updates: UpdateStoreSettings | None) -> dict[str, str]:
    """Only what was said: the combiners know the rest."""
    if updates is None:
        return {}
    return {name: str(getattr(updates, name)) for name in sorted(updates.model_fields_set)}


def _reach(running: RunningTiers) -> APIClient:
    token = os.environ.get(TOKEN_VARIABLE)
    if running.context is not None:
        known = read_context(running.context)
        return APIClient(known.url, ca=known.ca_file, token=token, admin_secret=None if token else known.admin_secret)
    secret = os.environ.get(SECRET_VARIABLE)
    return APIClient(str(running.url), ca=running.ca_file, token=token, admin_secret=None if token else secret)
