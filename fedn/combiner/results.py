"""What a round makes of its results: the sum of updates, the model of an init task, the predictions.

Not here: who owes a result and until when (the round).
"""

import asyncio
import json
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, cast

import psutil

from fedn.aggregation.base import Rule, get_rule
from fedn.aggregation.extra import extra_specs, sections_of
from fedn.aggregation.gathering.base import GatheringRule
from fedn.aggregation.lineage import LineageRule
from fedn.aggregation.scaling.base import ScalingFactor, get_scaling_factor
from fedn.combiner.admission import Admission
from fedn.combiner.buffers import Spool
from fedn.combiner.clients import Clients
from fedn.combiner.coding import spec_of
from fedn.combiner.encoded import EncodedModels
from fedn.combiner.fold import Fold, Folded
from fedn.combiner.jobs import Jobs
from fedn.combiner.lineage import Lineage, Lineages
from fedn.combiner.metrics import CombinerMetrics
from fedn.combiner.objects import ObjectCache, StoredObject, cut, evenly
from fedn.combiner.optimized import OptimizedTotal
from fedn.combiner.ordering import InOrder
from fedn.combiner.totals import Arrived, LineageTotal, Total, TotalWithExtras, total_of
from fedn.models.codecs.chain import Encoding
from fedn.models.digest import ALGORITHM
from fedn.models.wire import ModelSpec
from fedn.network.generated import combiner_pb2 as link
from fedn.network.generated import common_pb2 as common
from fedn.plan.allocator import return_freed_memory
from fedn.plan.chains import make_chain
from fedn.protocol.errors import FednError, InvalidInput
from fedn.protocol.names import check_digest
from fedn.protocol.rounds import RoundSpec
from fedn.protocol.tasks import CodecChain, Sections, TaskKind
from fedn.stores.updates.base import KeptUpdate

_GIGANTIC_BYTES = 512 << 20
"""The memory of a base model of that size is given back to the system before its successor is made."""


@dataclass(frozen=True)
class RoundServices:
    """What all rounds of a combiner share."""

    clients: Clients
    objects: ObjectCache
    encoded: EncodedModels
    admission: Admission
    spool: Spool
    executor: Executor
    """Threads for sums."""
    metrics: CombinerMetrics
    max_model_bytes: int
    lineages: Lineages


class ResultsOwner(Protocol):
    """The round, which is told what became of each result."""

    def result_counts(self, arrived: Arrived) -> None: ...

    def result_refused(self, arrived: Arrived, error: FednError) -> None: ...

    def results_lost(self, error: BaseException) -> None:
        """The sum is in an unknown state: no result can come of the round."""


class Results:
    """One round's results. Belongs to the round's loop.

    Raises:
        InvalidInput: the rule or a codec is unknown, the train tasks start from several models, or the combiner keeps
            less of earlier updates than the rule goes by.
    """

    def __init__(self, spec: RoundSpec, services: RoundServices, owner: ResultsOwner) -> None:
        self.base_id, self._brought_by, self._sections = _base_of(spec)
        """The model that the train tasks start from; empty where there are none. Then the object that brings it, and
        what follows the model in there."""
        self.base: ModelSpec | None = None
        """What updates must be like, once the base model is here."""
        self.extras: dict[str, ModelSpec] = {}
        """What follows the tensors of each, by name and in this order."""
        for chain in {repr(task.update_chain): task.update_chain for task in spec.tasks}.values():
            make_chain(chain)
        self._encodings: dict[str, Encoding] = {}
        self._spec = spec
        self._services = services
        self._owner = owner
        self._rule = _rule(spec.rule, json.dumps(spec.rule_options, sort_keys=True))
        self._scaling = _scaling(spec.scaling_factor, json.dumps(spec.scaling_options, sort_keys=True))
        self.required = [
            *((key, f"the rule {self._rule.name}") for key in sorted(self._rule.required)),
            *((key, f"the scaling factor {self._scaling.name}") for key in sorted(self._scaling.required)),
            *sorted(spec.required_metadata.items()),
        ]
        """(field, who needs it) of the metadata that every update must have."""
        if spec.combiner_optimizer and (spec.buffered or spec.members is not None or self._rule.weighted_only):
            raise InvalidInput(
                "bad_plan",
                "an optimizer at combiners needs rounds in which each combiner has a mean of its own",
                fix="Use server_optimizer instead.",
                where={"field": "combiner_optimizer"},
            )
        self._optimized: OptimizedTotal | None = None
        self._state_here = asyncio.Event()
        """The state of this combiner's optimizer is here, or there is none."""
        if not spec.optimizer_state_id:
            self._state_here.set()
        self._lineage: Lineage | None = None
        if spec.members is not None:
            self._lineage = services.lineages.of(spec.name.session, cast(LineageRule, self._rule))
        self._standing: LineageTotal | None = None
        """What the fold adds to, where the rule goes by earlier updates."""
        self._fold: Fold | None = None
        self._order: InOrder | None = None
        if spec.deterministic:
            # Only what trains has an update to wait for.
            trained = [task for task in spec.tasks if task.kind is TaskKind.TRAIN]
            by_name = sorted(trained, key=lambda task: (task.client, task.task_id))
            self._order = InOrder([task.task_id for task in by_name], services.spool, self._add, owner.result_refused)
        self._contributions: dict[tuple[str, str], link.Contribution] = {}
        """By client and task."""
        self._first: StoredObject | None = None
        """The model of an init task."""
        self._bundle_id = ""
        """The updates that are forwarded, as one object."""
        self._closed = False
        self._jobs = Jobs(owner.results_lost)

    def grow(self, spec: RoundSpec) -> None:
        """More tasks: the first of a round that began without any say which base model is meant."""
        if not self.base_id:
            self.base_id, self._brought_by, self._sections = _base_of(spec)

    def take_base(self) -> None:
        """Reads what updates must be like, if the base model is here.

        InvalidInput (`bad_model`) where it is none, or one that the rule cannot start from.
        """
        self.look_for_state()
        stored = self._services.objects.get(self._brought_by) if self.base_id else None
        if stored is None or self.base is not None:
            return
        if self._sections:
            sizes = {section.name: section.size_bytes for section in self._sections}
            model, _ = sections_of(stored.bytes_in_pieces(), sizes)
            stored = stored.beginning(self.base_id, len(model))
        self.base = self._rule.update_spec(spec_of(stored.bytes_in_pieces()))
        self.extras = extra_specs(self._rule, self.base)
        self._fold = self._new_fold(self._total(stored, self.base), self.base.size_bytes)

    def look_for_state(self) -> None:
        """The state of this combiner's optimizer may have come, perhaps when all updates were in already."""
        if self._spec.optimizer_state_id in self._services.objects:
            self._state_here.set()

    def _total(self, stored: StoredObject, base: ModelSpec) -> Total:
        if self._lineage is not None:
            self._standing = self._lineage_total(self._lineage, stored, base)
            return self._standing
        total = total_of(self._rule, self._spec, stored, base, self._services.spool.folder)
        if self._spec.combiner_optimizer:
            total = self._optimized = OptimizedTotal(total, self._spec, stored, base)
        return TotalWithExtras(total, extra_specs(self._rule, base)) if self._rule.extras else total

    def _lineage_total(
        self, lineage: Lineage, stored: StoredObject | None = None, base: ModelSpec | None = None
    ) -> LineageTotal:
        return LineageTotal(
            lineage,
            None if self._spec.buffered else frozenset(self._spec.members or ()),
            repeats=self._spec.deterministic,
            algorithm=check_digest(self.base_id)[0] if self.base_id else ALGORITHM,
            base=stored,
            spec=base,
        )

    def _new_fold(self, total: Total, size_bytes: int) -> Fold:
        return Fold(
            total,
            size_bytes,
            self._services.executor,
            self._folded,
            self._owner.results_lost,
            weight_of=self._scaling.weight_of,
        )

    @property
    def update_bytes(self) -> int | None:
        """Size of an update that went through no chain; None until the base model is here."""
        if self.base is None:
            return None
        return self.base.size_bytes + sum(spec.size_bytes for spec in self.extras.values())

    def encoding(self, chain: CodecChain) -> Encoding:
        """What a chain that tasks asked for makes of updates. `base` is there."""
        assert self.base is not None
        key = repr(chain)
        if key not in self._encodings:
            self._encodings[key] = make_chain(chain).of(self.base, self.base_id)
        return self._encodings[key]

    def put(self, kind: TaskKind, arrived: Arrived) -> None:
        """Takes a result over, with its storage; the owner is told what became of it."""
        if kind is not TaskKind.TRAIN:
            self._jobs.start(self._keep(kind, arrived))
        elif self._order is not None:
            self._order.put(arrived)
        else:
            self._add(arrived)

    def skip(self, task_id: str) -> None:
        """No result will come of this task."""
        if self._order is not None:
            self._order.skip(task_id)

    async def seal(self, reason: str) -> link.RoundDone:
        """When all that was put is in: the round's result, its model kept among the objects under the round's name.

        InvalidInput (`sum_overflow`) where the mean is not finite.
        """
        stored, fold_ms = self._first, 0.0
        weight = sum(part.weight for part in self._contributions.values())
        if self._lineage is not None and not self._closed:
            self._standing_fold(self._lineage)
        if stored is None and self._fold is not None and (self._contributions or self._lineage is not None):
            # Nothing is dispatched any more: the base model makes room for the one that comes of the sum.
            await self._fold.settled()
            await self._state_here.wait()
            if self._fold is None:
                return link.RoundDone(reason=reason)  # closed meanwhile
            if self._optimized is not None and self._spec.optimizer_state_id:
                self._optimized.state = self._services.objects.get(self._spec.optimizer_state_id)
            if self._fold.let_base_go():
                self._services.objects.let_go(self._brought_by, self._spec.name)
                if self.base is not None and self.base.size_bytes >= _GIGANTIC_BYTES:
                    run = asyncio.get_running_loop().run_in_executor
                    await run(self._services.executor, return_freed_memory)
            stored, weight, fold_ms = await self._fold.seal()
            if self._lineage is not None:
                self._contributions = {(kept.client, ""): _contribution(kept) for kept in self._fold.counted}
        parts = [self._contributions[place] for place in sorted(self._contributions)]
        result = self._told(stored, weight, fold_ms, parts)
        result.reason = reason
        if stored is not None and self._rule.gathers and cast(GatheringRule, self._rule).scope == "global":
            self._bundle_id = stored.object_id
        return result

    async def hand_up(self, members: frozenset[str]) -> link.RoundDone:
        """What is in by now, as `seal`; what comes later is of the next one.

        Args:
            members: whose updates count, where the rule goes by earlier ones: those of all rounds that are in by now.
        """
        if self._lineage is not None and not self._closed:
            return await self._hand_up_standing(self._lineage, members)
        if self._fold is None:
            return link.RoundDone()
        stored, weight, fold_ms = await self._fold.hand_up()
        parts = [self._contributions[place] for place in sorted(self._contributions)]
        result = self._told(stored, weight, fold_ms, parts)
        self._contributions.clear()
        return result

    async def _hand_up_standing(self, lineage: Lineage, members: frozenset[str]) -> link.RoundDone:
        fold, total = self._standing_fold(lineage)
        total.expect(members)
        stored, weight, fold_ms = await fold.hand_up()
        return self._told(stored, weight, fold_ms, [_contribution(kept) for kept in fold.counted])

    def _standing_fold(self, lineage: Lineage) -> tuple[Fold, LineageTotal]:
        """Of what counts already, where this round has no base model, or not yet."""
        if self._fold is None or self._standing is None:
            self._standing = self._lineage_total(lineage)
            self._fold = self._new_fold(self._standing, 0)
        return self._fold, self._standing

    def _told(
        self, stored: StoredObject | None, weight: float, fold_ms: float, contributions: list[link.Contribution]
    ) -> link.RoundDone:
        if stored is None or self._closed:
            return link.RoundDone()
        self._hold(stored)
        if self._optimized is not None and self._optimized.new_state is not None:
            self._services.objects.add(self._optimized.new_state)  # the next round may begin with it
        return link.RoundDone(
            model_id=stored.object_id,
            size_bytes=stored.size_bytes,
            weight=weight,
            contributions=contributions,
            fold_ms=fold_ms,
            memory_bytes=psutil.Process().memory_info().rss,
        )

    def close(self) -> None:
        """Lets go of the sum and of all that waits; what is being added in a thread ends first."""
        if self._closed:
            return
        self._closed = True
        self._state_here.set()
        self._contributions.clear()
        self._first = None
        if self._order is not None:
            self._jobs.start(self._order.close())
        if self._fold is not None:
            self._jobs.start(self._fold.abandon())
            self._fold = None

    def let_go(self) -> None:
        """Nobody will fetch forwarded updates any more: they make room at once."""
        if self._bundle_id:
            self._services.objects.let_go(self._bundle_id, self._spec.name)

    async def wait_closed(self) -> None:
        await self._jobs.wait()

    def _add(self, arrived: Arrived) -> None:
        if self._fold is None:
            arrived.storage.release()
        else:
            self._fold.put(arrived)

    def _folded(self, folded: Folded) -> None:
        arrived = folded.arrived
        if self._closed:
            return
        if folded.error is not None:
            self._owner.result_refused(arrived, folded.error)
            return
        self._contribute(arrived, folded.weight)
        self._owner.result_counts(arrived)

    def _contribute(self, arrived: Arrived, weight: float) -> None:
        self._contributions[arrived.client, arrived.task_id] = link.Contribution(
            client=arrived.client,
            update_id=arrived.update_id,
            num_examples=arrived.metadata.num_examples,
            weight=weight,
        )

    async def _keep(self, kind: TaskKind, arrived: Arrived) -> None:
        """Keeps the tensors of an init or predict task as an object that the reducer may fetch."""

        def cut_model() -> StoredObject:
            parts = evenly(arrived.storage.pieces())
            return cut(common.OBJECT_KIND_MODEL, parts, check_digest(arrived.update_id)[0])

        try:
            stored = await asyncio.get_running_loop().run_in_executor(self._services.executor, cut_model)
        finally:
            arrived.storage.release()
        if self._closed:
            return
        self._hold(stored)
        if kind is TaskKind.INIT:
            self._first = stored
            self._contribute(arrived, float(max(arrived.metadata.num_examples, 1)))
        self._owner.result_counts(arrived)

    def _hold(self, stored: StoredObject) -> None:
        self._services.objects.pin(stored.object_id, self._spec.name)
        self._services.objects.add(stored)


def _contribution(kept: KeptUpdate) -> link.Contribution:
    return link.Contribution(
        client=kept.client,
        update_id=kept.update_id,
        num_examples=kept.num_examples,
        weight=kept.weight,
        base_index=kept.round_index,
    )


@lru_cache(maxsize=16)
def _rule(name: str, options_json: str) -> Rule:
    """Rules are makers of aggregates, without state; to find one costs more than a small round."""
    return get_rule(name, json.loads(options_json))


@lru_cache(maxsize=16)
def _scaling(name: str, options_json: str) -> ScalingFactor:
    """As `_rule`."""
    return get_scaling_factor(name, json.loads(options_json))


def _base_of(spec: RoundSpec) -> tuple[str, str, Sections]:
    """(Model, object that brings it, what follows it there) of the train tasks; all empty where there are none."""
    bases = {(task.model_id, task.brings_model, task.extras) for task in spec.tasks if task.kind is TaskKind.TRAIN}
    if len(bases) > 1 or any(not model_id for model_id, _, _ in bases):
        raise InvalidInput(
            "round_of_many_bases",
            f"the train tasks of a round start from {len(bases)} models",
            fix="Name one base model for all train tasks.",
            where={"round": spec.name},
        )
    return next(iter(bases), ("", "", ()))
