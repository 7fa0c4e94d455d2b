"""Where the time of a session went: by round, by client, by combiner, and by the evaluation of each model.

All of it follows from the rounds as they were written down (`round_statistics`, `session_statistics`): REST, the
dashboard, the command line and the driver say the same. Times are in milliseconds; names that end in `_at_ms` are Unix
time, the others are durations; None where there is nothing to measure. docs/how-to/read-statistics.md explains each.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fedn.protocol.rest.sessions import RoundView, SessionView
from fedn.protocol.rounds import LedgerEntry, LedgerState, Reason, RoundKind, RoundState
from fedn.protocol.tasks import Frozen, Metrics, RoundName, UpdateMetadata, mean_by_examples


class Spread(Frozen):
    """The least, the mean and the most of a time over clients."""

    least: float
    mean: float
    most: float


class ClientStatistics(Frozen):
    """What one client did in a round, in its latest attempt."""

    client: str
    combiner: str
    state: LedgerState
    sent_at_ms: float | None
    """When it was told of its task, by its combiner's clock."""
    answered_at_ms: float | None
    """When it announced its result, or its task ended otherwise; by the same clock."""
    dispatch_ms: float | None
    """From the start of the dispatch, by the reducer's clock, until it was told."""
    busy_ms: float | None
    """From then until its answer: the way there, its work, and the way back."""
    upload_ms: float | None
    """From its answer until the result was in and counted."""
    idle_ms: float | None
    """From its answer until the last client of the round had answered; None where nobody waits for others."""
    task_ms: float
    """Of the whole task, as it says; the fields below too. 0 where it did not."""
    train_ms: float
    validate_ms: float
    ms_per_step: float
    ms_per_epoch: float
    num_steps: int
    num_examples: int
    share: float
    """Of the model, 0..1: its weight among all weights of the round; 0 where it is not in."""
    metrics: Metrics
    validation: Metrics
    """What it found of the model that the round started from."""


class CombinerStatistics(Frozen):
    """A combiner's part in a round."""

    combiner: str
    updates: int
    weight: float
    size_bytes: int
    fold_ms: float
    """Time that it spent on adding updates up."""
    memory_bytes: int
    """Resident memory of its process when it had made the model; 0 where not told."""


class RoundStatistics(Frozen):
    """One round. The parts follow each other; what they leave of `round_ms` was spent between them."""

    index: int
    kind: RoundKind
    state: RoundState
    attempts: int
    started_at_ms: float
    """Of the latest attempt, like all that follows."""
    ended_at_ms: float | None
    round_ms: float | None
    waiting_ms: float
    """For clients."""
    dispatch_ms: float | None
    """Until the last client was told of its task: the most of the clients' `dispatch_ms`. A part of `training_ms`."""
    training_ms: float
    """From the first word to a combiner until the last update was in; evaluation of the model before is part of it."""
    collecting_ms: float
    """From then until the combiner models were at the reducer."""
    aggregation_ms: float
    """Of the combiner models, at the reducer; 0 where a single one was passed through. Folds: see `combiners`."""
    commit_ms: float
    """Until model and trail entry were durable; the next round has begun already."""
    model_id: str
    """That it made; in other rounds than training, that it was about."""
    cohort: int
    updates: int
    """Clients whose update is in the model; in other rounds than training, answers."""
    train_ms: Spread | None
    """Over the clients."""
    validate_ms: Spread | None
    idle_ms: Spread | None
    metrics: Metrics
    """Of training: the mean over the updates by examples."""
    combiners: tuple[CombinerStatistics, ...]
    clients: tuple[ClientStatistics, ...] = ()
    """Empty in the statistics of a session: see those of the round."""


class EvaluationStatistics(Frozen):
    """What clients found of one global model, on their own data."""

    model_id: str
    made_in_round: int | None
    """None: the model that the session started from."""
    evaluated_in_round: int
    """The training round that started from it, or the round behind the last one."""
    clients: int
    num_examples: int
    metrics: Metrics
    """Mean over the clients by examples."""
    validate_ms: Spread | None


class ClientTotals(Frozen):
    """One client over the rounds of a session, latest attempts only."""

    client: str
    rounds: int
    """Rounds in which it was asked to do something."""
    updates: int
    """Of these, the ones that it is in."""
    num_steps: int
    train_ms: float
    validate_ms: float
    busy_ms: float
    idle_ms: float


class SessionStatistics(Frozen):
    """GET sessions/<session>/statistics."""

    session: str
    name: str
    state: str
    ended_because: Reason | None
    started_at_ms: float
    ended_at_ms: float | None
    rounds_asked: int
    aggregations: int
    """Global models that it made: committed rounds of training."""
    evaluations: int
    """Of these, the ones that clients evaluated: all of them, but for those that no client of an asynchronous session
    started from."""
    rounds: tuple[RoundStatistics, ...]
    """In the order in which they began."""
    models: tuple[EvaluationStatistics, ...]
    """What was found of each model that was evaluated, in the same order; where clients go on over commits, a model may
    be evaluated in several rounds."""
    clients: tuple[ClientTotals, ...]
    """By name."""


def round_statistics(view: RoundView) -> RoundStatistics:
    """A round with its clients."""
    clients = _clients(view)
    times = view.times_ms
    ended = view.ended_at
    return RoundStatistics(
        index=view.index,
        kind=view.kind,
        state=view.state,
        attempts=view.attempt + 1,
        started_at_ms=view.started_at * 1e3,
        ended_at_ms=None if ended is None else ended * 1e3,
        round_ms=None if ended is None else (ended - view.started_at) * 1e3,
        waiting_ms=times.get("waiting", 0.0),
        dispatch_ms=max((one.dispatch_ms for one in clients if one.dispatch_ms is not None), default=None),
        training_ms=times.get("training", 0.0),
        collecting_ms=times.get("collecting", 0.0),
        aggregation_ms=times.get("aggregation", 0.0),
        commit_ms=times.get("commit", 0.0),
        model_id=view.model_id,
        cohort=len(view.cohort),
        updates=sum(entry.state is LedgerState.UPDATED and entry.client in view.cohort for entry in view.ledger),
        train_ms=_spread(one.train_ms for one in clients if one.train_ms),
        validate_ms=_spread(one.validate_ms for one in clients if one.validate_ms),
        idle_ms=_spread(one.idle_ms for one in clients if one.idle_ms is not None),
        metrics={} if view.kind is RoundKind.VALIDATE else view.metrics,
        combiners=tuple(
            CombinerStatistics(
                combiner=model.combiner,
                updates=len(model.contributions),
                weight=model.weight,
                size_bytes=model.size_bytes,
                fold_ms=model.fold_ms,
                memory_bytes=model.memory_bytes,
            )
            for model in view.combiner_models
        ),
        clients=clients,
    )


class Times:
    """Takes the rounds of a session, in the order of their indexes, and says where the time went. Not thread-safe."""

    def __init__(self) -> None:
        self._rounds: list[RoundStatistics] = []
        self._models: list[EvaluationStatistics] = []
        self._clients: dict[str, ClientTotals] = {}
        self._last_made: int | None = None

    def copy(self) -> "Times":
        """The same, to which others may be added."""
        made = Times()
        made._rounds, made._models = list(self._rounds), list(self._models)
        made._clients, made._last_made = dict(self._clients), self._last_made
        return made

    def add(self, view: RoundView) -> None:
        """One round; each is to be added once."""
        found = round_statistics(view)
        for one in found.clients:
            if one.sent_at_ms is not None:
                self._clients[one.client] = _added(self._clients.get(one.client), one, in_model=one.share > 0)
        self._rounds.append(found.model_copy(update={"clients": ()}))
        self._models += _evaluations(view, self._last_made)
        if view.kind is RoundKind.TRAIN and view.state is RoundState.COMMITTED:
            self._last_made = view.index

    def closed(self, session: SessionView) -> SessionStatistics:
        """What was added up to now."""
        made = [one for one in self._rounds if one.kind is RoundKind.TRAIN and one.state is RoundState.COMMITTED]
        return SessionStatistics(
            session=session.id,
            name=session.name,
            state=session.state,
            ended_because=session.ended_because,
            started_at_ms=session.created_at * 1e3,
            ended_at_ms=None if session.ended_at is None else session.ended_at * 1e3,
            rounds_asked=session.rounds,
            aggregations=len(made),
            evaluations=len({one.made_in_round for one in self._models} - {None}),
            rounds=tuple(sorted(self._rounds, key=lambda one: (one.started_at_ms, one.index))),
            models=tuple(sorted(self._models, key=lambda one: one.evaluated_in_round)),
            clients=tuple(self._clients[name] for name in sorted(self._clients)),
        )


def session_statistics(session: SessionView, rounds: Iterable[RoundView]) -> SessionStatistics:
    """All of it at once; each round is read once, in the order of their indexes, and then let go."""
    times = Times()
    for view in rounds:
        times.add(view)
    return times.closed(session)


def _clients(view: RoundView) -> tuple[ClientStatistics, ...]:
    """Of every client that was asked to do something."""
    weights = {part.client: part.weight for model in view.combiner_models for part in model.contributions}
    total = sum(weights.values())
    asked = [entry for entry in view.ledger if entry.task_id]
    last = max((at for entry in asked if (at := _answered_at(entry)) is not None), default=None)
    dispatched_at = view.started_at + view.times_ms.get("waiting", 0.0) / 1e3
    found = []
    for entry in asked:
        told, answered = entry.metadata or _said_nothing(view, entry), _answered_at(entry)
        validates, carries_on = _only_validates(view, entry.client), entry.base_index is not None
        found.append(
            ClientStatistics(
                client=entry.client,
                combiner=entry.combiner,
                state=entry.state,
                sent_at_ms=entry.sent_at * 1e3 if entry.sent_at else None,
                answered_at_ms=None if answered is None else answered * 1e3,
                dispatch_ms=max(0.0, entry.sent_at - dispatched_at) * 1e3 if entry.sent_at else None,
                busy_ms=None if answered is None else entry.busy_ms,
                upload_ms=None if answered is None else max(0.0, entry.updated_at - answered) * 1e3,
                idle_ms=None if answered is None or last is None or carries_on else (last - answered) * 1e3,
                task_ms=told.task_ms,
                train_ms=told.train_ms,
                validate_ms=told.validate_ms,
                ms_per_step=told.ms_per_step,
                ms_per_epoch=told.ms_per_epoch,
                num_steps=told.num_steps,
                num_examples=told.num_examples,
                share=weights.get(entry.client, 0.0) / total if total > 0 else 0.0,
                metrics={} if validates else told.metrics,
                validation=told.metrics if validates else told.validation,
            )
        )
    return tuple(found)


def _said_nothing(view: RoundView, entry: LedgerEntry) -> UpdateMetadata:
    name = RoundName(session=view.session, index=view.index, attempt=view.attempt, epoch=view.epoch)
    return UpdateMetadata(task_id=entry.task_id, client=entry.client, round=name)


def _answered_at(entry: LedgerEntry) -> float | None:
    """Unix time in seconds; None while its task is open, and where it never had one."""
    return entry.sent_at + entry.busy_ms / 1e3 if entry.sent_at and entry.busy_ms else None


def _only_validates(view: RoundView, client: str) -> bool:
    return view.kind is RoundKind.VALIDATE or client in view.validators


@dataclass(frozen=True)
class _Validation:
    """What one client found of the model that it started from."""

    base_index: int
    """The training round that starts from that model."""
    model_id: str
    num_examples: int
    metrics: dict[str, float]
    validate_ms: float


def _evaluations(view: RoundView, last_made: int | None) -> Iterator[EvaluationStatistics]:
    """Of the models that clients of a round started from; none where the round does not count (yet)."""
    if view.state is not RoundState.COMMITTED:
        return
    by_base: dict[int, list[_Validation]] = {}
    for one in _validations(view, view.index if last_made is None else last_made + 1):
        by_base.setdefault(one.base_index, []).append(one)
    for base_index, found in sorted(by_base.items()):
        yield EvaluationStatistics(
            model_id=found[0].model_id,
            made_in_round=base_index - 1 if base_index and last_made is not None else None,
            evaluated_in_round=view.index,
            clients=len(found),
            num_examples=sum(one.num_examples for one in found),
            metrics=mean_by_examples((one.num_examples, one.metrics) for one in found),
            validate_ms=_spread(one.validate_ms for one in found if one.validate_ms),
        )


def _validations(view: RoundView, following: int) -> Iterator[_Validation]:
    """Args: following: index of the training round that starts from the latest model."""
    if view.kind not in {RoundKind.TRAIN, RoundKind.VALIDATE}:
        return
    for entry in view.ledger:
        told = entry.metadata
        if entry.state is not LedgerState.UPDATED or told is None:
            continue
        base = following if entry.base_index is None else entry.base_index
        model_id = view.base_model_id if entry.base_index is None else told.base_model_id
        if _only_validates(view, entry.client):
            count = told.num_validation_examples or told.num_examples
            yield _Validation(base, model_id, count, told.metrics, told.validate_ms)
        elif told.validation:
            yield _Validation(base, model_id, told.num_validation_examples, told.validation, told.validate_ms)


def _spread(values: Iterable[float]) -> Spread | None:
    all_of_them = list(values)
    if not all_of_them:
        return None
    mean = sum(all_of_them) / len(all_of_them)
    return Spread(least=min(all_of_them), mean=mean, most=max(all_of_them))


def _added(before: ClientTotals | None, one: ClientStatistics, *, in_model: bool) -> ClientTotals:
    so_far = before or ClientTotals(
        client=one.client, rounds=0, updates=0, num_steps=0, train_ms=0.0, validate_ms=0.0, busy_ms=0.0, idle_ms=0.0
    )
    return ClientTotals(
        client=one.client,
        rounds=so_far.rounds + 1,
        updates=so_far.updates + in_model,
        num_steps=so_far.num_steps + one.num_steps,
        train_ms=so_far.train_ms + one.train_ms,
        validate_ms=so_far.validate_ms + one.validate_ms,
        busy_ms=so_far.busy_ms + (one.busy_ms or 0.0),
        idle_ms=so_far.idle_ms + (one.idle_ms or 0.0),
    )
