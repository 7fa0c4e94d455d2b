"""The part of a combiner that hands up its whole mean: of each of its clients' latest update, from whichever model.

So a new hand-up takes the place of those before; nothing of it is summed twice.
"""

from typing import Any

from fedn.models.pieces import Pieces
from fedn.network.convert import result_from_wire
from fedn.network.generated import combiner_pb2 as link
from fedn.protocol.errors import InvalidInput
from fedn.protocol.rounds import CombinerModel, HandsUp
from fedn.reducer.engine.buffer_part import BufferPart, HandedUp


class MeanPart(BufferPart):
    """See the module, and `BufferPart`."""

    hands_up = HandsUp.MEAN

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._members: frozenset[str] = frozenset()
        self._mean: HandedUp | None = None
        """The answer to the last question."""

    async def hand_up(self, members: frozenset[str]) -> tuple[HandedUp, Pieces] | None:
        """The mean as it is now, with its bytes; None where none of the members has an update there.

        Args:
            members: whose updates may be in it; those of others are taken out.

        Raises:
            PartLost: it cannot be had any more.
        """
        # What was told to another reducer process comes first, under numbers of its own.
        await self._until(lambda: self._caught_up)
        if self.over:
            return None
        self._members, self._mean = members, None
        await self._ask_up(lambda connection, number: connection.hand_up(self._spec.name, number, members))
        if self._mean is None:
            return None
        tensors = await self._take_model(self._mean.model)
        self._downloads.clear()
        return self._mean, tensors

    @property
    def _given(self) -> frozenset[str]:
        return self._members

    def _keep(self, number: int, result: link.RoundDone) -> None:
        handed = HandedUp(number, result_from_wire(result, self._link.name))
        if not number or number != self._wanted or not handed.model.model_id:
            self.acknowledge_hand_up(handed)
            return
        self._check(handed.model)
        self._mean = handed

    def _check(self, model: CombinerModel) -> None:
        super()._check(model)
        latest = self._spec.name.index
        if not all(part.base_index is not None and part.base_index <= latest for part in model.contributions):
            raise InvalidInput(
                "foreign_contribution", "a combiner does not say which rounds' models its updates were made from"
            )
