"""What becomes of a round's updates: a sum that grows with each, all of them on disk, for a rule that compares them, or
part of what clients sent in all rounds.

Not here: in which thread (fedn.combiner.fold), and the arithmetic (fedn.aggregation).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from fedn.aggregation.base import Aggregate, Rule, SummedAggregate
from fedn.aggregation.extra import ExtraSums, sections_of
from fedn.aggregation.gathering.base import Gathered, GatheringRule
from fedn.aggregation.rows import RowMaker
from fedn.combiner.buffers import Storage
from fedn.combiner.coding import read_update
from fedn.combiner.lineage import Lineage
from fedn.combiner.objects import StoredObject, cut, evenly
from fedn.combiner.spill import SpillFile, bundle
from fedn.models.codecs.chain import Encoding
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec
from fedn.network.frames import CHUNK_BYTES
from fedn.network.generated import common_pb2 as wire
from fedn.protocol.errors import FednError
from fedn.protocol.names import check_digest
from fedn.protocol.rounds import RoundSpec
from fedn.protocol.tasks import UpdateMetadata
from fedn.stores.updates.base import KeptUpdate, UpdateFacts

_INLINE_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class Arrived:
    """An update, whole and checked. Whoever folds it releases the storage."""

    client: str
    task_id: str
    update_id: str
    size_bytes: int
    metadata: UpdateMetadata
    spec: ModelSpec | None
    """What the bytes hold; None where they are packed."""
    storage: Storage
    encoding: Encoding | None = None
    """Of the chain that it went through; None where it came as it is."""

    @property
    def work_bytes(self) -> int:
        """What adding it has to go through."""
        return self.size_bytes if self.encoding is None else max(self.size_bytes, self.encoding.base.size_bytes)


class Total(Protocol):
    """For one thread at a time. FednError where an update cannot count; nothing is added then."""

    inline_bytes: int
    """Updates and models up to that size may be worked on in the event loop: they take less than a hand-over."""

    def add(self, arrived: Arrived, weight: float) -> None: ...

    def let_base_go(self) -> bool:
        """Drops the base model where the sealed model does not need its bytes; whether it did."""

    def seal(self) -> tuple[StoredObject | None, float]:
        """(Combiner model, its weight); no model of no updates. InvalidInput (`sum_overflow`): it is not finite."""

    @property
    def counted(self) -> Sequence[KeptUpdate]:
        """Of a rule that goes by earlier updates: the latest update of each client that the sealed model counts."""

    def close(self) -> None:
        """Lets go of everything; may follow `seal`."""


def total_of(rule: Rule, round_spec: RoundSpec, base: StoredObject, spec: ModelSpec, folder: Path) -> Total:
    """The empty total of a round whose rule goes by the round's updates alone.

    Args:
        base: the round's base model, and `spec` what it is like.
        folder: where updates wait for a rule that gathers them.
    """
    sum_dtype = round_spec.sum_dtype
    if round_spec.buffered:
        return DifferenceTotal(rule, sum_dtype, base, spec)
    if rule.gathers:
        return GatheredTotal(cast(GatheringRule, rule), base, spec, folder)
    return SummedTotal(rule, sum_dtype, base, spec)


class SummedTotal:
    """Models and deltas are summed apart: only deltas need the base model's bytes."""

    inline_bytes = _INLINE_BYTES
    counted = ()

    def __init__(self, rule: Rule, sum_dtype: str, base: StoredObject, spec: ModelSpec) -> None:
        self._rule = rule
        self._sum_dtype = sum_dtype
        self._base: StoredObject | None = base
        self._algorithm = check_digest(base.object_id)[0]
        self._spec = spec
        self._sums: dict[str, Aggregate] = {}

    def add(self, arrived: Arrived, weight: float) -> None:
        form = arrived.metadata.form
        if form not in self._sums:
            needed = self._needs_base(form)
            base_model = self._base.bytes_in_pieces() if needed and self._base is not None else None
            self._sums[form] = self._rule.start(self._spec, self._sum_dtype, base_model)
        _add(self._sums[form], arrived, weight, self._rule.share_of(arrived.metadata))

    def let_base_go(self) -> bool:
        if "delta" in self._sums or self._rule.needs_base:
            return False
        self._base = None
        return True

    def seal(self) -> tuple[StoredObject | None, float]:
        # Deltas last: their aggregate has the base that the merged result needs.
        sums = [self._sums[form] for form in ("delta", "model") if form in self._sums]
        total = next((aggregate for aggregate in sums if aggregate.count), None)
        if total is None:
            return None, 0.0
        for other in sums:
            if other is not total and other.count:
                total.merge(other)
        stored = cut(wire.OBJECT_KIND_MODEL, self._pieces(total), self._algorithm)
        self._sums.clear()
        return stored, total.weight

    def close(self) -> None:
        self._sums.clear()

    def _needs_base(self, form: str) -> bool:
        return form == "delta" or self._rule.needs_base

    def _pieces(self, total: Aggregate) -> Iterator[memoryview]:
        return total.result(CHUNK_BYTES)


class DifferenceTotal(SummedTotal):
    """The mean's difference to the base model: what is added after `seal` goes into the next one."""

    def let_base_go(self) -> bool:
        return False

    def _needs_base(self, form: str) -> bool:
        return True

    def _pieces(self, total: Aggregate) -> Iterator[memoryview]:
        return cast(SummedAggregate, total).difference(CHUNK_BYTES)


class TotalWithExtras:
    """A total, and apart from it the sums of what updates carry beside their tensors; together they are one object."""

    def __init__(self, total: Total, specs: Mapping[str, ModelSpec]) -> None:
        self._total = total
        self._extras = ExtraSums(specs)
        self.inline_bytes = total.inline_bytes

    def add(self, arrived: Arrived, weight: float) -> None:
        sizes = {section.name: section.size_bytes for section in arrived.metadata.extras}
        _, sections = sections_of(arrived.storage.pieces(), sizes)
        self._total.add(arrived, weight)
        self._extras.add(sections)  # checked when they arrived: it fits whatever fits the total

    @property
    def counted(self) -> Sequence[KeptUpdate]:
        return self._total.counted

    def let_base_go(self) -> bool:
        return self._total.let_base_go()

    def seal(self) -> tuple[StoredObject | None, float]:
        stored, weight = self._total.seal()
        if stored is None:
            return None, weight
        views = [*stored.bytes_in_pieces().views()]
        for mean in self._extras.means():
            views += mean.views()
        return cut(stored.kind, evenly(Pieces(views)), check_digest(stored.object_id)[0]), weight

    def close(self) -> None:
        self._total.close()


class GatheredTotal:
    """All updates: the rule over them, or with the scope `global` they themselves, in the order of their clients."""

    inline_bytes = 0
    counted = ()

    def __init__(self, rule: GatheringRule, base: StoredObject, spec: ModelSpec, folder: Path) -> None:
        self._rule = rule
        self._base = base
        self._spec = spec
        self._folder = folder
        self._rows: Gathered | None = None
        """Made with the first update, as its file is: not on the event loop."""
        self._spill: SpillFile | None = None
        self._from: list[tuple[str, str]] = []
        """(client, task) of each update."""

    def add(self, arrived: Arrived, weight: float) -> None:
        if self._rows is None:
            spill = SpillFile(self._folder)
            try:
                self._rows = self._rule.gather(self._spec, self._base.bytes_in_pieces(), spill)
            except FednError:  # the base model is none that the rule can do anything with
                spill.close()
                raise
            self._spill = spill
        _add(self._rows, arrived, weight, self._rule.share_of(arrived.metadata))
        self._from.append((arrived.client, arrived.task_id))

    def let_base_go(self) -> bool:
        return False

    def seal(self) -> tuple[StoredObject | None, float]:
        if self._rows is None or not self._rows.count:
            return None, 0.0
        algorithm = check_digest(self._base.object_id)[0]
        try:
            if self._rule.scope == "global":
                rows = self._rows.rows()
                order = sorted(range(len(rows)), key=lambda at: self._from[at])
                stored = bundle([rows[at] for at in order], algorithm)
            else:
                stored = cut(wire.OBJECT_KIND_MODEL, self._rows.result(CHUNK_BYTES), algorithm)
            return stored, self._rows.weight
        finally:
            self.close()

    def close(self) -> None:
        self._rows = None
        if self._spill is not None:
            self._spill.close()
            self._spill = None


class LineageTotal:
    """What counts of all clients' updates, this round's and earlier ones; it outlives the round.

    Args:
        members: the clients whose updates count; others are forgotten. None: `expect` says it, before each `seal`.
        repeats: whether the model must be the same to the bit, however often a client's update was replaced.
        base, spec: of the updates; None where no client was asked for one.
    """

    inline_bytes = -1
    """Nothing at all: the store may take its time."""

    def __init__(
        self,
        lineage: Lineage,
        members: frozenset[str] | None,
        *,
        repeats: bool,
        algorithm: str,
        base: StoredObject | None = None,
        spec: ModelSpec | None = None,
    ) -> None:
        self._lineage = lineage
        self._members = members
        self._expected: frozenset[str] | None = None
        self._repeats = repeats
        self._algorithm = algorithm
        self._base = base
        self._spec = spec
        self._maker: RowMaker | None = None
        self._begun = False
        self.counted: Sequence[KeptUpdate] = ()

    def expect(self, members: frozenset[str]) -> None:
        """Whose updates the next sealed model counts."""
        self._expected = members

    def add(self, arrived: Arrived, weight: float) -> None:
        self._begin()
        metadata = arrived.metadata
        row = self._row_of(arrived)
        facts = UpdateFacts(
            session=self._lineage.session,
            client=arrived.client,
            round_index=metadata.round.index,
            update_id=arrived.update_id,
            base_model_id=metadata.base_model_id,
            num_examples=metadata.num_examples,
            weight=weight,
        )
        self._lineage.put(facts, Pieces.of(row))

    def let_base_go(self) -> bool:
        return False

    def seal(self) -> tuple[StoredObject | None, float]:
        self._begin()
        if self._repeats:
            self._lineage.make_anew()
        with self._lineage.sealed(self._expected) as (aggregate, counted):
            self.counted = counted
            if aggregate is None:
                return None, 0.0
            stored = cut(wire.OBJECT_KIND_MODEL, aggregate.result(CHUNK_BYTES), self._algorithm)
            return stored, aggregate.weight

    def close(self) -> None:
        self._maker = None

    def _begin(self) -> None:
        """Once, and not on the event loop: it may take as long as the store takes."""
        if self._begun:
            return
        if self._members is None:
            self._lineage.open()
        else:
            self._lineage.keep_only(self._members)
        self._begun = True

    def _row_of(self, arrived: Arrived) -> memoryview:
        assert self._base is not None and self._spec is not None  # there is no update of a round without a base
        if self._maker is None:
            self._maker = RowMaker(self._spec, self._base.bytes_in_pieces())
        form, data = arrived.metadata.form, arrived.storage.pieces()
        if arrived.encoding is not None:
            return self._maker.encoded(read_update(arrived.encoding, data), form)
        assert arrived.spec is not None  # as in `_add`
        return self._maker.plain(data, arrived.spec, form)


def _add(aggregate: Aggregate, arrived: Arrived, weight: float, share: float) -> None:
    form, data = arrived.metadata.form, arrived.storage.pieces()
    if arrived.encoding is not None:
        aggregate.add_encoded(read_update(arrived.encoding, data), weight, form=form, share=share)
        return
    assert arrived.spec is not None  # only packed bytes have none, and those are encoded
    aggregate.add(data, arrived.spec, weight, form=form, share=share)
