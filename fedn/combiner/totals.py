"""What becomes of a round's updates: a sum that grows with each, or all of them on disk, for a rule that compares them.

Not here: in which thread (fedn.combiner.fold), and the arithmetic (fedn.aggregation).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from fedn.aggregation.base import Aggregate, Rule
from fedn.aggregation.extra import ExtraSums, extra_specs, sections_of
from fedn.aggregation.gathering.base import Gathered, GatheringRule
from fedn.combiner.buffers import Storage
from fedn.combiner.coding import read_update
from fedn.combiner.objects import StoredObject, cut, evenly
from fedn.combiner.spill import SpillFile, bundle
from fedn.models.codecs.chain import Encoding
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec
from fedn.network.frames import CHUNK_BYTES
from fedn.network.generated import common_pb2 as wire
from fedn.protocol.errors import FednError
from fedn.protocol.names import check_digest
from fedn.protocol.tasks import UpdateMetadata

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

    def close(self) -> None:
        """Lets go of everything; may follow `seal`."""


def total_of(rule: Rule, sum_dtype: str, base: StoredObject, spec: ModelSpec, folder: Path) -> Total:
    """The empty total of a round.

    Args:
        rule, sum_dtype: of the plan.
        base: the round's base model.
        folder: where updates wait for a rule that gathers them.
    """
    if rule.gathers:
        return GatheredTotal(cast(GatheringRule, rule), base, spec, folder)
    total = SummedTotal(rule, sum_dtype, base, spec)
    return TotalWithExtras(total, extra_specs(rule, spec)) if rule.extras else total


class SummedTotal:
    """Models and deltas are summed apart: only deltas need the base model's bytes."""

    inline_bytes = _INLINE_BYTES

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
            needed = form == "delta" or self._rule.needs_base
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
        stored = cut(wire.OBJECT_KIND_MODEL, total.result(CHUNK_BYTES), self._algorithm)
        self._sums.clear()
        return stored, total.weight

    def close(self) -> None:
        self._sums.clear()


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


def _add(aggregate: Aggregate, arrived: Arrived, weight: float, share: float) -> None:
    form, data = arrived.metadata.form, arrived.storage.pieces()
    if arrived.encoding is not None:
        aggregate.add_encoded(read_update(arrived.encoding, data), weight, form=form, share=share)
        return
    assert arrived.spec is not None  # only packed bytes have none, and those are encoded
    aggregate.add(data, arrived.spec, weight, form=form, share=share)
