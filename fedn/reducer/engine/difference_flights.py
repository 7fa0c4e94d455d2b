"""Flights of a rule whose combiners hand up mean differences: an update is in one of them, as old as its base model."""

import asyncio
from collections.abc import Sequence
from typing import cast

from fedn.protocol.rounds import CombinerModel
from fedn.reducer.engine.buffer_part import BufferPart
from fedn.reducer.engine.difference_part import DifferencePart
from fedn.reducer.engine.flights import Base, Flights, Taken
from fedn.reducer.engine.part import PartLost


class DifferenceFlights(Flights):
    """See the module, and `Flights`."""

    part_kind = DifferencePart
    form = "delta"

    async def collect(self, base: Base) -> None:
        found = [(of, part) for of, part in self._parts() if part.has_more]
        results = await asyncio.gather(*(part.hand_up() for _, part in found), return_exceptions=True)
        for (of, part), result in zip(found, results, strict=True):
            if isinstance(result, PartLost):
                self._lose(of, part, result)
                continue
            if isinstance(result, BaseException):
                raise result
            for handed, tensors in result:
                self._taken.append(Taken(of, part, handed, tensors))
                for client in handed.clients:
                    flight = self._summed.pop(client, None)
                    if flight is not None:
                        self._handed[client] = flight

    def shares(self, index: int) -> Sequence[float]:
        return [self._scheduler.share(index - taken.base.index) for taken in self.taken]

    def counted(self, index: int) -> dict[str, tuple[int, float]]:
        found: dict[str, tuple[int, float]] = {}
        for taken in self._taken:
            staleness = index - taken.base.index
            discount = self._scheduler.discount(staleness)
            found |= {part.client: (staleness, part.weight * discount) for part in taken.handed.model.contributions}
        return found

    def _model_of(self, taken: Taken) -> CombinerModel:
        return taken.handed.model.model_copy(update={"base_index": taken.base.index})

    def _drop_unanswered(self, base: Base, part: BufferPart) -> None:
        super()._drop_unanswered(base, part)
        counted = cast(DifferencePart, part).counted
        for client in self._of(base, part.combiner):
            if client not in counted:
                del self._summed[client]
                self._refuse_uncounted(client, "the combiner's round ended without a sum that counts this update")

    def _parts(self) -> list[tuple[Base, DifferencePart]]:
        """All parts; they are of this class's kind."""
        return [(base, cast(DifferencePart, part)) for base in self._bases.values() for part in base.parts.values()]
