"""The part of a combiner that hands up mean differences: of the updates that came since the last time, to the model
that all tasks of the part start from.
"""

from typing import Any

from fedn.models.pieces import Pieces
from fedn.network.convert import result_from_wire
from fedn.network.generated import combiner_pb2 as link
from fedn.protocol.errors import InvalidInput
from fedn.protocol.rounds import HandsUp
from fedn.protocol.tasks import TaskKind
from fedn.reducer.engine.buffer_part import BufferPart, HandedUp


class DifferencePart(BufferPart):
    """See the module, and `BufferPart`."""

    hands_up = HandsUp.DIFFERENCE

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._handed: list[HandedUp] = []
        """Told of, and not taken yet."""
        self._counted: set[str] = set()
        """Clients whose updates are in what was handed up."""

    @property
    def counted(self) -> frozenset[str]:
        """Clients whose updates are in what was handed up."""
        return frozenset(self._counted)

    @property
    def has_more(self) -> bool:
        """Whether there is something that `hand_up` would take."""
        return bool(self._handed or self._summed)

    @property
    def _summed(self) -> set[str]:
        """Clients whose updates are in the sum that is to be handed up next, as far as is known."""
        trained = {task.client for task in self._spec.tasks if task.kind is TaskKind.TRAIN}
        return (self._updates.keys() & trained) - self._counted - self._accounted

    async def hand_up(self) -> list[tuple[HandedUp, Pieces]]:
        """All that is in and was not taken before, with its bytes. PartLost where it cannot be had any more."""
        if self._summed and not self.over:
            await self._ask_up(lambda connection, number: connection.hand_up(self._spec.name, number))
        taken = []
        while self._handed:
            handed = self._handed[0]
            tensors = await self._take_model(handed.model)
            self._handed.pop(0)
            taken.append((handed, tensors))
        self._downloads.clear()
        return taken

    def _keep(self, number: int, result: link.RoundDone) -> None:
        handed = HandedUp(number, result_from_wire(result, self._link.name))
        if not handed.model.model_id:
            return
        self._check(handed.model)
        if handed.clients & self._counted or not handed.clients <= self._updates.keys():
            raise InvalidInput(
                "foreign_contribution", "a combiner counts updates twice, or some that it never reported"
            )
        self._counted |= handed.clients
        if handed.clients <= self._accounted:
            self.acknowledge_hand_up(handed)
        else:
            self._handed.append(handed)
