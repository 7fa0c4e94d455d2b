"""Brings a session into a log, round by round, as the rounds end."""

from collections.abc import Iterator

from fedn.api.client import APIClient
from fedn.api.progress import follow_session
from fedn.loggers.base import RunLog
from fedn.protocol.rest import RoundView, account
from fedn.protocol.rounds import LedgerState


def log_session(api: APIClient, session: str, run: RunLog) -> Iterator[int]:
    """Logs what there is, then what comes, until the session has ended; yields the number of rounds logged so far.

    The validation of a round's model is known when the next round has ended, or the session.
    """
    last: RoundView | None = None
    index = run.rounds_logged
    if index:
        last = api.round(session, index - 1)
    for progress in follow_session(api, session):
        while index < progress.rounds_done:
            view = api.round(session, index)
            if last is not None:
                _log_validation(api, last, run)
            _log_round(view, run)
            run.round_done(index)
            last, index = view, index + 1
            yield index
        if progress.done:
            if last is not None:
                _log_validation(api, last, run)
            run.end(progress.state)


def _log_round(view: RoundView, run: RunLog) -> None:
    total = account(view.session, [view]).total
    states = [entry.state for entry in view.ledger]
    numbers: dict[str, float] = {f"train/{name}": value for name, value in view.metrics.items()}
    numbers |= {f"time_s/{part}": ms / 1e3 for part, ms in view.times_ms.items()}
    numbers |= {
        "clients/selected": len(view.cohort),
        "clients/updated": states.count(LedgerState.UPDATED),
        "clients/late": states.count(LedgerState.LATE),
        "clients/refused": states.count(LedgerState.REFUSED),
        "clients/failed": states.count(LedgerState.FAILED) + states.count(LedgerState.DISCONNECTED),
        "traffic/down_bytes": total.down_bytes,
        "traffic/up_bytes": total.up_bytes,
        "compute/task_s": total.task_ms / 1e3,
        "compute/busy_s": total.busy_ms / 1e3,
        "compute/processor_s": total.cpu_ms / 1e3,
    }
    run.log(view.index, view.ended_at or view.started_at, numbers)


def _log_validation(api: APIClient, view: RoundView, run: RunLog) -> None:
    if view.model_id:
        found = api.model(view.model_id).validation
        if found:
            run.log(
                view.index,
                view.ended_at or view.started_at,
                {f"validation/{name}": value for name, value in found.items()},
            )
