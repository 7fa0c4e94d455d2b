"""Updates that combiners forward, for a rule over all clients: received into files, and looked at where they lie.

Not here: the rules (fedn.aggregation.gathering).
"""

import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from fedn.aggregation.base import Rule
from fedn.aggregation.gathering.base import GatheringRule, Rows
from fedn.aggregation.values import UpdateValues
from fedn.models.digest import Hasher
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec
from fedn.protocol.errors import InvalidInput, LimitExceeded
from fedn.protocol.names import check_digest
from fedn.protocol.rounds import CombinerModel


def forwards(rule: Rule) -> bool:
    """Whether combiners forward their updates, instead of a model."""
    return rule.gathers and cast(GatheringRule, rule).scope == "global"


def looks_at_base(rule: Rule) -> bool:
    """Whether the rule over all updates needs the base model's bytes."""
    return forwards(rule) and cast(GatheringRule, rule).over_needs_base


class InFile:
    """The sink of a download that keeps an object in a mapped file without a name, hashed as it comes.

    The file goes with the last view of its bytes.

    Raises:
        LimitExceeded: (`disk_full`) there is no room.
    """

    def __init__(self, object_id: str, size_bytes: int, folder: Path) -> None:
        self._object_id = object_id
        self._algorithm, _ = check_digest(object_id)
        self._hasher = Hasher(self._algorithm)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder, prefix="updates-") as file:
                os.posix_fallocate(file.fileno(), 0, size_bytes)
                self._map = mmap.mmap(file.fileno(), size_bytes)
        except OSError as error:
            raise LimitExceeded(
                "disk_full",
                f"there is no room for the {size_bytes} bytes of a combiner's updates: {error.strerror}",
                fix="Free space at the reducer's data_dir.",
                where={"folder": folder},
            ) from error

    def take(self, offset: int, data: memoryview) -> None:
        if not offset:
            self._hasher = Hasher(self._algorithm)
        self._hasher.update(data)
        self._map[offset : offset + len(data)] = data

    def finish(self) -> str:
        return "" if self._hasher.digest() == self._object_id else "its digest is another one"

    def pieces(self) -> Pieces:
        return Pieces((memoryview(self._map),))


def over_all(
    rule: Rule,
    bundles: Sequence[tuple[CombinerModel, Pieces]],
    base: ModelSpec,
    row_bytes: int,
    base_model: Pieces | None = None,
) -> UpdateValues:
    """What the rule makes of the updates of all combiners.

    Args:
        bundles: each combiner's updates, one behind the other in the order of its contributions.
        row_bytes: of each update.
        base_model: the base model's bytes, where `looks_at_base`.

    Raises:
        InvalidInput: (`combiner_model_does_not_fit`, `too_few_updates`).
    """
    models: list[Pieces] = []
    weights: list[float] = []
    for said, data in bundles:
        if len(data) != row_bytes * len(said.contributions):
            raise InvalidInput(
                "combiner_model_does_not_fit",
                f"{said.combiner} forwards {len(data)} bytes for {len(said.contributions)} updates of {row_bytes}",
                fix="Run the same version of fedn on the reducer and the combiners.",
            )
        for at, contribution in enumerate(said.contributions):
            models.append(Pieces(tuple(data.views(at * row_bytes, (at + 1) * row_bytes))))
            weights.append(contribution.weight)
    return cast(GatheringRule, rule).over(Rows(models, weights, base, base_model))
