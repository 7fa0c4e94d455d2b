"""Combiner models become the next global model: checked, averaged, cut into pieces. Pure, but for the time it takes."""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

from fedn.aggregation.base import Rule, get_rule
from fedn.aggregation.combine import FromBase, MeanLayout, does_not_fit, finish_pieces
from fedn.aggregation.optimizers.base import get_optimizer
from fedn.aggregation.optimizers.state import ServerState
from fedn.aggregation.optimizers.step import OptimizerStep
from fedn.models.digest import Hasher
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec
from fedn.network.generated import common_pb2 as wire
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import Conflict, InvalidInput
from fedn.protocol.names import check_digest
from fedn.protocol.rounds import CombinerModel, LedgerEntry, LedgerState
from fedn.protocol.tasks import TaskKind, UpdateMetadata, weighted_mean
from fedn.reducer.engine.carrier import Carrier, Returned, carry, fresh_states, states_after, take_apart
from fedn.reducer.engine.gathered import forwards, over_all
from fedn.reducer.engine.objects import Cutter, SharedObject
from fedn.reducer.engine.part import PartResult
from fedn.reducer.engine.states import OPTIMIZER, StatePart, States, combiner_part, of_combiners, state_part


@dataclass(frozen=True)
class GlobalModel:
    """A global model as the engine knows it: its name, and what it is like. Its bytes are elsewhere."""

    model_id: str
    spec: ModelSpec
    """Its names, shapes and dtypes; where they lie in the bytes may have changed since the seed."""
    layout: MeanLayout
    """Of the combiner models of a round that starts from it."""
    states: States = field(default_factory=dict)
    """What is kept beside it."""
    carrier: Carrier | None = None
    """It together with extra state, where the plan's rule has any."""

    @property
    def optimizer_state(self) -> ServerState | None:
        """Of the server optimizer, after the step that made it."""
        part = self.states.get(OPTIMIZER)
        return None if part is None else ServerState.read(part.data)

    @property
    def optimizer_states(self) -> dict[str, str]:
        """Combiner name to the digest of its optimizer's state."""
        return {combiner: part.object_id for combiner, part in of_combiners(self.states).items()}


def global_model(model_id: str, spec: ModelSpec, rule: Rule) -> GlobalModel:
    """InvalidInput where the rule cannot start from such a model."""
    return GlobalModel(model_id, spec, rule.model_layout(spec))


def _successor(base: GlobalModel, model_id: str) -> GlobalModel:
    """What becomes of a round from this base: it may be of another kind, as the first encrypted model is."""
    spec = base.layout.spec if base.layout.is_global else base.spec
    return replace(base, model_id=model_id, spec=spec, states={}, carrier=None)


def starting_states(kept: States, base: ModelSpec, plan: SessionPlan, algorithm: str, *, goes_on: bool) -> States:
    """What of the parts that are kept beside a model a session goes on from.

    Args:
        goes_on: whether the model is the session's own; extra state of another session's clients is of no use.
    """
    rule = rule_of(plan)
    states = {OPTIMIZER: kept[OPTIMIZER]} if plan.server_optimizer is not None and OPTIMIZER in kept else {}
    if plan.combiner_optimizer is not None:
        states |= {name: part for name, part in kept.items() if name.startswith(combiner_part(""))}
    if not rule.extras:
        return states
    fresh = fresh_states(rule, base, algorithm)
    return {**states, **{name: kept[name] if goes_on and name in kept else part for name, part in fresh.items()}}


def rule_of(plan: SessionPlan) -> Rule:
    return _rule(plan.rule.name, json.dumps(plan.rule.options, sort_keys=True))


@lru_cache(maxsize=16)
def _rule(name: str, options_json: str) -> Rule:
    """Rules have no state; to find one costs more than a small round."""
    return get_rule(name, json.loads(options_json))


def most_beside(plan: SessionPlan) -> int:
    """How many times the size of a model a combiner returns at the most: with extra state, and its optimizer's.

    An optimizer has two slots at the most, each of which may have float64 for bfloat16.
    """
    return 1 + len(rule_of(plan).extras) + (8 if plan.combiner_optimizer is not None else 0)


def passes_through(base: GlobalModel, plan: SessionPlan, algorithm: str) -> bool:
    """Whether the only combiner model of a round from this base is the next global model, byte for byte.

    Args:
        algorithm: of the digests that name global models.
    """
    return (
        plan.server_optimizer is None
        and plan.combiner_optimizer is None
        and not rule_of(plan).extras
        and not forwards(rule_of(plan))
        and base.layout.is_global
        and check_digest(base.model_id)[0] == algorithm
    )


def passed_through(model: CombinerModel, base: GlobalModel) -> GlobalModel:
    """That global model, before its bytes are here.

    Raises:
        InvalidInput: (`combiner_model_does_not_fit`, `bad_digest`) what the combiner says of it cannot be true.
    """
    algorithm, _ = check_digest(base.model_id)
    size_bytes = base.layout.spec.size_bytes
    if model.size_bytes != size_bytes:
        raise does_not_fit("The combiner model", f"it has {model.size_bytes} bytes instead of {size_bytes}")
    if check_digest(model.model_id)[0] != algorithm:
        raise does_not_fit("The combiner model", f"its digest is no {algorithm}")
    if not (math.isfinite(model.weight) and model.weight > 0):
        raise InvalidInput("bad_weight", f"The combiner model has the weight {model.weight}")
    return _successor(base, model.model_id)


@dataclass(frozen=True)
class Aggregated:
    model: GlobalModel
    shared: SharedObject
    aggregation_ms: float


def check_overlap(parts: Sequence[PartResult]) -> None:
    """Conflict (`contributed_twice`) where two combiner models count the same client."""
    seen: dict[str, str] = {}
    for part in parts:
        for contribution in part.model.contributions:
            other = seen.setdefault(contribution.client, part.model.combiner)
            if other != part.model.combiner:
                raise Conflict(
                    "contributed_twice",
                    f"the combiner models of {other} and {part.model.combiner} both count one client",
                    fix="The round is tried again; see the log of both combiners.",
                    where={"client": contribution.client},
                )


def aggregate(
    parts: Sequence[PartResult],
    base: GlobalModel,
    plan: SessionPlan,
    algorithm: str,
    base_model: Pieces | None = None,
    shares: Sequence[float] | None = None,
    form: Literal["model", "delta"] = "model",
    *,
    round_index: int = 0,
    population: int = 0,
) -> Aggregated:
    """The global model of a round; runs for as long as it takes, so in a thread of its own where models are large.

    Args:
        base_model: the base model's bytes, where there are a server optimizer or shares, or the rule looks at them.
        shares: as `part_shares` says.
        round_index, population: of the round, where the rule has extra state; see `states_after`.
        form: of the combiner models, as in `FromBase`.
    """
    started = time.perf_counter()
    rule = rule_of(plan)
    apart: list[tuple[PartResult, Returned]] = []
    if rule.extras or plan.combiner_optimizer is not None:
        size_bytes = base.layout.spec.size_bytes
        there = [(part, part.tensors) for part in parts if part.tensors is not None]
        apart = [(part, take_apart(rule, base.spec, size_bytes, tensors)) for part, tensors in there]
        parts = [replace(part, tensors=returned.model) for part, returned in apart]
    cutter, hasher = Cutter(), Hasher(algorithm)
    step, from_base = None, None
    if base_model is not None:
        step = _step(base, plan)
        from_base = FromBase(base_model, shares, step, form)
    for data in _pieces(parts, base, plan, from_base):
        hasher.update(data)
        cutter.add(data)
    shared = cutter.shared(hasher.digest(), wire.OBJECT_KIND_MODEL)
    state = step.state() if step is not None else None
    states: dict[str, StatePart] = {} if state is None else {OPTIMIZER: state_part(state.data, algorithm)}
    if plan.combiner_optimizer is not None:
        states |= {name: part for name, part in base.states.items() if name.startswith(combiner_part(""))}
        for part, returned in apart:
            if len(returned.optimizer_state):
                name = combiner_part(part.model.combiner)
                states[name] = state_part(returned.optimizer_state.copy(), algorithm)
    carrier = None
    if rule.extras:
        states |= states_after(rule, base.spec, base.states, apart, round_index, population, algorithm)
        carrier = carry(shared, rule, states, algorithm)
    made = replace(_successor(base, shared.object_id), states=states, carrier=carrier)
    return Aggregated(made, shared, (time.perf_counter() - started) * 1e3)


def _pieces(
    parts: Sequence[PartResult], base: GlobalModel, plan: SessionPlan, from_base: FromBase | None
) -> Iterator[memoryview]:
    """The bytes of the global model, each piece good until the next one is asked for."""
    there = [(part.model, part.tensors) for part in parts if part.tensors is not None]
    if forwards(rule_of(plan)):
        base_model = None if from_base is None else from_base.model
        values = over_all(rule_of(plan), there, base.spec, base.layout.spec.size_bytes, base_model)
        return finish_pieces(values, base.spec, plan.sum_dtype, from_base)
    models = [(tensors, model.weight) for model, tensors in there]
    return rule_of(plan).combine_models(models, base.spec, plan.reducer_mean, plan.sum_dtype, from_base)


def part_shares(
    parts: Sequence[PartResult], ledger: Sequence[LedgerEntry], plan: SessionPlan
) -> Sequence[float] | None:
    """What the differences of the combiner models that are here to the base model are multiplied by; None: all by 1.

    Raises:
        InvalidInput: (`foreign_contribution`) a combiner counts an update that it never reported.
    """
    if rule_of(plan).lineage:
        return None  # what counts came in several rounds, from several base models
    said = {entry.client: entry.metadata for entry in ledger if entry.metadata is not None}
    models = [part.model for part in parts if part.tensors is not None]
    if any(part.client not in said for model in models for part in model.contributions):
        raise InvalidInput("foreign_contribution", "a combiner model counts an update that was not reported")
    shares = rule_of(plan).part_shares(
        [[(part.weight, said[part.client]) for part in model.contributions] for model in models]
    )
    return None if shares is None or all(share == 1.0 for share in shares) else shares


def _step(base: GlobalModel, plan: SessionPlan) -> OptimizerStep | None:
    if plan.server_optimizer is None:
        return None
    optimizer = get_optimizer(plan.server_optimizer.name, plan.server_optimizer.options)
    return OptimizerStep(optimizer, base.spec, plan.sum_dtype, base.optimizer_state)


def round_metrics(ledger: Sequence[LedgerEntry], kinds: Mapping[str, TaskKind], of: TaskKind) -> dict[str, float]:
    """Mean of each metric over the answers to tasks of one kind, by examples; non-finite values are left out.

    Of a training round: over the updates. What clients that only validate say is of another model than the updates.
    """
    return weighted_mean(
        [
            (_examples(entry.metadata, of), entry.metadata.metrics)
            for entry in ledger
            if entry.state is LedgerState.UPDATED and entry.metadata is not None and kinds.get(entry.client) is of
        ]
    )


def _examples(metadata: UpdateMetadata, kind: TaskKind) -> int:
    """What an answer is weighted by; a client says of a validation how much it was done on in either field."""
    if kind is TaskKind.VALIDATE:
        return metadata.num_validation_examples or metadata.num_examples
    return metadata.num_examples


def incoming_validations(
    ledger: Sequence[LedgerEntry], kinds: Mapping[str, TaskKind]
) -> list[tuple[str, int, dict[str, float]]]:
    """(client, examples, metrics) of each client that validated the model which the round started from."""
    found = []
    for entry in ledger:
        metadata = entry.metadata
        if entry.state is not LedgerState.UPDATED or metadata is None:
            continue
        if kinds.get(entry.client) is TaskKind.VALIDATE:
            found.append((entry.client, _examples(metadata, TaskKind.VALIDATE), metadata.metrics))
        elif metadata.validation:
            found.append((entry.client, metadata.num_validation_examples, metadata.validation))
    return found
