"""Flights of a rule whose combiners hand up their whole means: of each client's latest update, however old.

A commit takes the newest mean of every combiner, also of one where nobody works. A client counts at one combiner: where
its latest update is.

What replaces an old contribution is its client's next update, so staleness discounts nothing.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

from fedn.protocol.errors import FednError, NotFound
from fedn.protocol.rounds import CombinerModel, Contribution, LedgerEntry
from fedn.protocol.tasks import TaskKind
from fedn.reducer.engine.flights import Base, Flight, Flights, Taken
from fedn.reducer.engine.mean_part import MeanPart
from fedn.reducer.engine.part import PartLost
from fedn.reducer.engine.roster import REATTACH_GRACE_S

_NOT_COUNTED = "the mean of the client's combiner does not count this update"


class MeanFlights(Flights):
    """See the module, and `Flights`."""

    part_kind = MeanPart
    form = "model"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._latest: dict[str, tuple[str, str]] = {}
        """Client to (combiner, digest) of its latest update that is known of."""

    def remember(self, models: Sequence[CombinerModel]) -> None:
        self._latest |= {
            part.client: (model.combiner, part.update_id) for model in models for part in model.contributions
        }

    async def collect(self, base: Base) -> None:
        # Who comes back in a moment, after a cut, is where it was: its contribution shall not blink.
        await self._context.roster.gather(TaskKind.TRAIN, 0, REATTACH_GRACE_S)
        members = self._members()
        before, waiting = self._taken, {*self._summed, *self._handed}
        self._taken = await self._hand_up(base, members)
        for taken in before:
            taken.part.acknowledge_hand_up(taken.handed)
        await self._until_told()
        self._sort_out(waiting)

    def shares(self, index: int) -> None:
        return None

    def counted(self, index: int) -> dict[str, tuple[int, float]]:
        there = self._there()
        return {client: (index - flight.base.index, there[client][1].weight) for client, flight in self._handed.items()}

    def outdated(self, index: int) -> list[str]:
        """Only who works on: what is at a combiner counts, however old."""
        return [client for client in self.clients_of(index) if client in self._flying]

    def _note_update(self, flight: Flight, entry: LedgerEntry) -> None:
        self._latest[entry.client] = flight.combiner, entry.update_id

    def _members(self) -> dict[str, frozenset[str]]:
        """Combiner to the clients that count there, each at one combiner.

        A new update counts where it is. A client without one counts where it is attached, or was a moment ago, unless
        its latest update is elsewhere.
        """
        arrived = {**self._summed, **self._handed}
        found: dict[str, set[str]] = {}
        for client, flight in arrived.items():
            found.setdefault(flight.combiner, set()).add(client)
        linked = set(self._context.linked())
        for combiner, clients in self._context.roster.members(TaskKind.TRAIN).items():
            for client in clients if combiner in linked else ():
                latest, _ = self._latest.get(client, (combiner, ""))
                if client not in arrived and latest == combiner:
                    found.setdefault(combiner, set()).add(client)
        return {combiner: frozenset(clients) for combiner, clients in sorted(found.items())}

    async def _hand_up(self, base: Base, members: Mapping[str, frozenset[str]]) -> list[Taken]:
        """The means of all combiners that can be reached."""
        parts: dict[str, MeanPart] = {}
        for combiner in members:
            try:
                parts[combiner] = self._part_at(base, combiner)
            except NotFound as error:  # the combiner was removed
                self._lose_combiner(combiner, error)
        asked = (part.hand_up(members[combiner]) for combiner, part in parts.items())
        results = await asyncio.gather(*asked, return_exceptions=True)
        found = []
        for part, result in zip(parts.values(), results, strict=True):
            if isinstance(result, PartLost):
                self._lose_combiner(part.combiner, result)
            elif isinstance(result, BaseException):
                raise result
            elif result is not None:
                found.append(Taken(base, part, *result))
        return found

    def _part_at(self, base: Base, combiner: str) -> MeanPart:
        """The combiner's part in the latest model; one without tasks where nobody works on that model there."""
        part = base.parts.get(combiner)
        if part is None:
            part = self._make_part(base, combiner, ())
            self.watch(base, part)
        return cast(MeanPart, part)

    def _lose_combiner(self, combiner: str, error: FednError) -> None:
        """Its tasks, and the updates that no commit has counted; what its store has may count when it is back."""
        for base in list(self._bases.values()):
            if (part := base.parts.get(combiner)) is not None:
                self._lose(base, part, error)
        for flights in (self._flying, self._summed, self._handed):
            for client in [client for client, flight in flights.items() if flight.combiner == combiner]:
                self._drop_lost(client, error)

    def _there(self) -> dict[str, tuple[str, Contribution]]:
        """Client to (combiner, contribution) of what was taken."""
        return {
            part.client: (taken.part.combiner, part)
            for taken in self._taken
            for part in taken.handed.model.contributions
        }

    async def _until_told(self) -> None:
        """Until each new update that was taken was told of, or will not be: the ledger comes by another way."""
        while any(self._is_untold(client, place, part) for client, (place, part) in self._there().items()):
            self._changed.clear()
            await self._changed.wait()
            self.check()

    def _is_untold(self, client: str, combiner: str, part: Contribution) -> bool:
        flight = self._flying.get(client)
        return (
            flight is not None
            and (flight.combiner, flight.base.index) == (combiner, part.base_index)
            and self._latest.get(client) != (combiner, part.update_id)
        )

    def _sort_out(self, waiting: set[str]) -> None:
        """Which updates are in what was taken.

        Args:
            waiting: clients whose updates must be in there, since they came before it was asked for.
        """
        there = self._there()
        arrived = {**self._handed, **self._summed}
        self._handed.clear()
        for client, flight in arrived.items():
            combiner, part = there.get(client, ("", None))
            latest = self._latest.get(client, ("", ""))
            if part is not None and (combiner, part.base_index, (combiner, part.update_id)) == (
                flight.combiner,
                flight.base.index,
                latest,
            ):
                self._summed.pop(client, None)
                self._handed[client] = flight
            elif client in waiting:
                self._summed.pop(client, None)
                self._refuse_uncounted(client, _NOT_COUNTED)
