"""MLflow: a run for each session, in the experiment `fedn`. Needs the package `mlflow` or `mlflow-skinny`."""

import json
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from fedn.protocol.errors import Unavailable
from fedn.protocol.rest import SessionView

EXPERIMENT = "fedn"
_SESSION_TAG = "fedn.session"
_ROUNDS_TAG = "fedn.rounds_logged"
_NOT_ALLOWED = re.compile(r"[^\w./ -]")
_MAX_PARAM_CHARS = 500
_MAX_NAME_CHARS = 250
_BATCH = 1000
"""Metrics that MLflow takes at once."""
_STATES = {"finished": "FINISHED", "stopped": "KILLED"}


class MlflowRun:
    """The run of a session: found again by its tag, and gone on with behind the rounds that are in it."""

    def __init__(self, client: MlflowClient, session: SessionView, target: str) -> None:
        self._client = client
        self._where = {"server": target}
        try:
            self._open(session)
        except MlflowException as error:
            raise self._failed(error) from error

    def _open(self, session: SessionView) -> None:
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        experiment_id = self._client.create_experiment(EXPERIMENT) if experiment is None else experiment.experiment_id
        found = self._client.search_runs([experiment_id], f"tags.`{_SESSION_TAG}` = '{session.id}'", max_results=1)
        if found:
            self.run_id: str = found[0].info.run_id
            self._rounds = int(found[0].data.tags.get(_ROUNDS_TAG, "0"))
            self._client.update_run(self.run_id, status="RUNNING")
            return
        run = self._client.create_run(experiment_id, run_name=session.name, tags={_SESSION_TAG: session.id})
        self.run_id, self._rounds = run.info.run_id, 0
        params = [Param(name, text[:_MAX_PARAM_CHARS]) for name, text in _flat(session.plan)]
        for start in range(0, len(params), 100):
            self._client.log_batch(self.run_id, params=params[start : start + 100])

    @property
    def rounds_logged(self) -> int:
        return self._rounds

    def log(self, step: int, unix_s: float, scalars: Mapping[str, float]) -> None:
        time_ms = int(unix_s * 1e3)
        metrics = [Metric(_allowed(name), value, time_ms, step) for name, value in sorted(scalars.items())]
        try:
            for start in range(0, len(metrics), _BATCH):
                self._client.log_batch(self.run_id, metrics=metrics[start : start + _BATCH])
        except MlflowException as error:
            raise self._failed(error) from error

    def round_done(self, index: int) -> None:
        try:
            self._client.log_batch(self.run_id, tags=[RunTag(_ROUNDS_TAG, str(index + 1))])
        except MlflowException as error:
            raise self._failed(error) from error

    def end(self, state: str) -> None:
        try:
            self._client.set_terminated(self.run_id, _STATES.get(state, "FAILED"))
        except MlflowException as error:
            raise self._failed(error) from error

    def _failed(self, error: MlflowException) -> Unavailable:
        return Unavailable(
            "logger_failed",
            f"MLflow does not take the log: {error}",
            fix="Check the address given with --out and the server; then run the command again: it goes on.",
            where=self._where,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open."""


class MlflowLogger:
    def open(self, target: str, session: SessionView) -> MlflowRun:
        """`target`: MLflow's tracking URI: a server's address, or sqlite:///FILE."""
        return MlflowRun(MlflowClient(tracking_uri=target), session, target)


def _allowed(name: str) -> str:
    """As MLflow wants names: clients may call a metric as they like."""
    return _NOT_ALLOWED.sub("_", name)[:_MAX_NAME_CHARS]


def _flat(plan: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """(name, value) of the plan's fields; those of its parameters under `parameters.`."""
    found: list[tuple[str, str]] = []
    for name, value in plan.items():
        if isinstance(value, Mapping) and value:
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append((_allowed(prefix + name), value if isinstance(value, str) else json.dumps(value)))
    return found
