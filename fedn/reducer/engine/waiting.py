"""The wait for a round's clients, and the choice of its cohort among them.

Not here: what each of them is asked (fedn.reducer.engine.tasks), and how one is chosen (fedn.scheduling).
"""

import time
from collections.abc import Mapping

from fedn.plan.session import SessionPlan
from fedn.protocol.errors import Unavailable
from fedn.protocol.rounds import RoundKind
from fedn.protocol.tasks import RoundName, TaskKind
from fedn.reducer.engine.context import EngineContext
from fedn.reducer.engine.past import Past
from fedn.reducer.engine.roster import AttachedClient
from fedn.scheduling.cohort import select_cohort
from fedn.scheduling.selection.base import Cohort, Draw, Selector


class Waiting:
    """For the clients of one round of a session."""

    def __init__(
        self, kind: RoundKind, plan: SessionPlan, context: EngineContext, past: Past, selector: Selector
    ) -> None:
        self._kind = kind
        self._plan = plan
        self._context = context
        self._past = past
        self._selector = selector

    async def gather(self, name: RoundName) -> Cohort:
        """The cohort, once one comes of the clients that are there which can reach the quorum.

        Raises:
            Unavailable: (`too_few_clients`) they did not come in time; (`clients_not_placed`) or not to the combiners
                that a deterministic session gives them.
        """
        plan, kind, roster = self._plan, self._kind, self._context.roster
        wanted = required = plan.clients_required if kind is RoundKind.TRAIN else 1
        if kind is RoundKind.VALIDATE and roster.snapshot() and not roster.able(TaskKind.VALIDATE):
            wanted = required = 0  # clients are there, and none of them validates: there is nobody to wait for
        give_up = time.monotonic() + plan.wait_for_clients_s
        while True:
            able = await roster.gather(TaskKind(kind.value), wanted, max(0.0, give_up - time.monotonic()))
            cohort = self._choose(able, name)
            # One more may be what it takes; there are fewer than wanted where the time is over.
            if len(cohort.clients) >= required or len(able) < wanted:
                break
            wanted = len(able) + 1
        if len(cohort.clients) < required and kind is not RoundKind.VALIDATE:
            taken = f", of which the selection {plan.selection.name} takes {len(cohort.clients)}" * (
                len(cohort.clients) < len(able)
            )
            raise Unavailable(
                "too_few_clients",
                f"{len(able)} clients that can {kind} are attached{taken}; {required} are required",
                fix="Start more clients, or ask for fewer with clients_required; then resume the session.",
                where={"session": name.session, "round": name.index},
            )
        if plan.deterministic and kind is RoundKind.TRAIN:
            await self._settle(able, name)
        return cohort

    def _choose(self, able: Mapping[str, AttachedClient], name: RoundName) -> Cohort:
        plan, kind = self._plan, self._kind
        if kind is RoundKind.TRAIN:
            candidates = self._past.candidates(able, name.index)
            return self._selector.select(candidates, Draw(plan.seed, name.index), plan.clients_requested)
        # A first model that one client could not make is asked of another one.
        requested, turn = (1, name.index + name.attempt) if kind is RoundKind.INIT else (None, name.index)
        return Cohort(tuple(select_cohort(list(able), requested, seed=plan.seed, round_index=turn)))

    async def _settle(self, able: Mapping[str, AttachedClient], name: RoundName) -> None:
        """Brings every client to the combiner that its place in the sorted names gives it.

        How clients are spread decides how sums are rounded: a run that shall repeat to the bit needs the same spread.
        """
        context, combiners = self._context, self._context.linked()
        places = {client: combiners[at % len(combiners)] for at, client in enumerate(sorted(able))}
        context.place(places)
        for client, attached in able.items():
            if attached.combiner != places[client]:
                moving = "the session is deterministic, and gives each client its combiner"
                context.link(attached.combiner).detach_client(client, "reassigned", moving)
        if missing := await context.roster.placed(places, self._plan.wait_for_clients_s):
            raise Unavailable(
                "clients_not_placed",
                f"{len(missing)} clients did not come to their combiner, among them {missing[0]}",
                fix="Let clients prefer no combiner, and give each combiner places enough; then resume the session.",
                where={"session": name.session, "round": name.index},
            )
