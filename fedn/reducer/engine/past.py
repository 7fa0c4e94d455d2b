"""What is known of a session's earlier rounds: who was asked when, and what each client said of its latest work.

Selectors and step budgets go by it. It is kept in memory, and read from the rounds' records when a session goes on.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from fedn.protocol.rounds import StepBudgets
from fedn.protocol.tasks import UpdateMetadata
from fedn.reducer.engine.records import ROUNDS, read_answers, read_budgets
from fedn.reducer.engine.roster import AttachedClient
from fedn.scheduling.selection.base import Candidate
from fedn.stores.base import StateStore

ROUNDS_REMEMBERED = 1000
"""Rounds that are read back at the most: of clients that took no part in these, nothing is known."""
_BATCH = 50


class Past:
    """See the module. Belongs to one thread at a time."""

    def __init__(self) -> None:
        self.latest: dict[str, UpdateMetadata] = {}
        """What each client said of its latest work."""
        self.first_budgets: StepBudgets | None = None
        """The first step budget that each client had, and the first window."""
        self._asked: dict[str, int] = {}
        """Client to the index of the latest round that it was asked in, but for the round that was opened last."""
        self._times: Counter[str] = Counter()
        """Client to the number of those rounds."""
        self._opened: tuple[int, tuple[str, ...]] = (-1, ())
        """Index and cohort of that round: another attempt at it chooses as the first one did."""

    def note_cohort(self, index: int, clients: Iterable[str]) -> None:
        """An attempt at a round begins."""
        self._fold(index)
        self._opened = index, tuple(clients)

    def note_budgets(self, budgets: StepBudgets | None) -> None:
        """Of a round that follows those which are known."""
        self.first_budgets = _earlier(self.first_budgets, budgets)

    def candidates(self, able: Mapping[str, AttachedClient], index: int) -> list[Candidate]:
        """The clients that could take part in a round, as selectors look at them."""
        self._fold(index)
        return [
            Candidate(client, one.attributes, self.latest.get(client), self._asked.get(client), self._times[client])
            for client, one in able.items()
        ]

    def _fold(self, index: int) -> None:
        opened, clients = self._opened
        if opened < index:
            self._asked.update(dict.fromkeys(clients, opened))
            self._times.update(clients)
            self._opened = -1, ()

    def read(self, state: StateStore, session: str, before: int) -> None:
        """Takes in the records of the session's training rounds before this index, the latest ones first."""
        offset = read = 0
        while read < ROUNDS_REMEMBERED:
            where = {"session": session, "kind": "train"}
            batch = state.find(ROUNDS, where, order_by="index", descending=True, limit=_BATCH, offset=offset)
            for document in batch:
                if document["index"] >= before:
                    continue
                read += 1
                self.first_budgets = _earlier(read_budgets(document), self.first_budgets)
                self._times.update(document["cohort"])
                for client in document["cohort"]:
                    self._asked.setdefault(client, document["index"])
                for client, metadata in read_answers(state, document):
                    if client not in self.latest:
                        self.latest[client] = UpdateMetadata.model_validate(metadata)
            if len(batch) < _BATCH:
                return
            offset += _BATCH


def _earlier(first: StepBudgets | None, later: StepBudgets | None) -> StepBudgets | None:
    """Each client's budget in the first of both that has one."""
    if first is None or later is None:
        return first or later
    return first.model_copy(update={"clients": {**later.clients, **first.clients}})
