"""One combiner's part in a round: started, followed event by event, its result fetched, whatever the link does."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fedn.models.pieces import Pieces
from fedn.network.convert import ledger_from_wire, result_from_wire, spec_to_wire
from fedn.network.generated import combiner_pb2 as link
from fedn.network.generated import common_pb2 as wire
from fedn.protocol.errors import FednError, IntegrityError, InvalidInput, Unavailable
from fedn.protocol.rounds import CombinerModel, LedgerEntry, LedgerState, RoundSpec
from fedn.protocol.tasks import TaskKind
from fedn.reducer.engine.connection import Connection, LinkDown
from fedn.reducer.engine.gathered import InFile
from fedn.reducer.engine.link import CombinerLink
from fedn.reducer.engine.objects import Download, InMemory, ObjectCache, check_size

T = TypeVar("T")

SILENCE_S = 30.0
"""A combiner closes a round at its deadline by itself; if it has not said so this much later, it is given up. So is one
whose result does not come: not a byte of it, or no link, for so long."""
_REASON_CHARS = 4000
MAX_DAMAGES = 3
"""Times that a result may arrive as something else."""


class PartLost(Unavailable):
    """A combiner's part in a round cannot be had any more; whatever it says of this attempt later is refused."""


@dataclass(frozen=True)
class PartResult:
    """What a combiner made of its tasks."""

    model: CombinerModel
    tensors: Pieces | None
    """The combiner model's bytes; None where no update counted, none was asked for, or it was not fetched yet."""
    predictions: dict[str, Pieces]
    """Client name to the tensors that it predicted, in a round of kind predict."""
    reason: str = ""
    """Why the combiner's round ended, in its own words."""

    @property
    def has_model(self) -> bool:
        """Whether a combiner model came of it, here or still at the combiner."""
        return bool(self.model.model_id)


class RoundPart:
    """See the module.

    Args:
        instance: the combiner process that was told to start, where that is known from before a restart of the reducer.
        fetches: whether `run` fetches the combiner model too; else `fetch` does, when it is wanted.
        forwarded_to: folder for the updates that the combiner forwards instead of a model; None: it makes a model.
        on_ledger: called for each change of a client's state.
        on_instance: called when a combiner process was told to start.
    """

    def __init__(
        self,
        combiner_link: CombinerLink,
        spec: RoundSpec,
        objects: ObjectCache,
        *,
        max_model_bytes: int,
        on_ledger: Callable[[LedgerEntry], None],
        on_instance: Callable[[str, str], None],
        instance: str | None = None,
        fetches: bool = True,
        forwarded_to: Path | None = None,
    ) -> None:
        self._link = combiner_link
        self._spec = spec
        self._objects = objects
        self._max_model_bytes = max_model_bytes
        self._on_ledger = on_ledger
        self._on_instance = on_instance
        self._instance = instance
        self._fetches = fetches
        self._forwarded_to = forwarded_to
        self._closes_at = time.monotonic() + spec.deadline_s
        self._next_event = 1
        self._done: link.RoundDone | None = None
        self._progress_at = 0.0
        """Monotonic time of the last sign that the result comes."""
        self._close_reason: str | None = None
        self._downloads: dict[str, tuple[Download, InMemory | InFile]] = {}
        self._updates: dict[str, LedgerEntry] = {}
        self._bases = {task.client: task.model_id for task in spec.tasks}

    @property
    def combiner(self) -> str:
        return self._link.name

    async def run(self) -> PartResult:
        """The result. PartLost where the combiner died, lost the round, refused it, or fell silent."""
        result = await self._over_cuts(self._advance)
        self._downloads.clear()
        return result

    async def fetch(self, download: Download) -> None:
        """Receives an object of this round, after `run`. PartLost as there."""
        self._progress_at = time.monotonic()
        await self._over_cuts(lambda connection: self._receive(connection, download))

    async def _over_cuts(self, step: Callable[[Connection], Awaitable[T]]) -> T:
        """Does it again with each new connection, for as long as the combiner is not given up."""
        while True:
            try:
                connection = await self._link.connected(self._gives_up_at)
            except LinkDown as error:
                raise self._lost("combiner_lost", f"the combiner is gone: {error.message}") from error
            try:
                return await step(connection)
            except LinkDown as error:
                if time.monotonic() >= self._gives_up_at:
                    raise self._lost("combiner_lost", f"the combiner is gone: {error.message}") from error
            except TimeoutError as error:
                raise self._lost("combiner_silent", f"the combiner did not {self._missing}") from error
            except FednError as error:
                if isinstance(error, PartLost):
                    raise
                raise self._lost(error.code, error.message) from error

    @property
    def _missing(self) -> str:
        """What is waited for in vain."""
        return "close the round in time" if self._done is None else f"send its result for {SILENCE_S:g} s"

    @property
    def _gives_up_at(self) -> float:
        """Monotonic time. The round's deadline ends with the round: after it, only progress counts."""
        if self._done is not None:
            return self._progress_at + SILENCE_S
        return self._closes_at + self._spec.upload_grace_s + SILENCE_S

    async def _advance(self, connection: Connection) -> PartResult:
        if self._done is None:
            try:
                async with asyncio.timeout_at(self._gives_up_at - time.monotonic() + asyncio.get_running_loop().time()):
                    await self._begin(connection)
                    self._done = await self._follow(connection)
                    self._progress_at = time.monotonic()
            finally:
                connection.forget(self._spec.name)
        return await self._collect(connection, self._done)

    async def _begin(self, connection: Connection) -> None:
        """Starts the round at the combiner, or goes on watching it where it runs already."""
        name = self._spec.name
        if self._instance is not None and self._instance != connection.instance:
            raise self._lost("combiner_restarted", "the combiner was restarted and lost the round")
        connection.listen(name)
        if self._instance is not None and name in connection.rounds:
            status = await connection.watch(name, self._next_event)
        else:
            left_s = max(1.0, self._closes_at - time.monotonic())
            status = await connection.start_round(spec_to_wire(self._spec.model_copy(update={"deadline_s": left_s})))
        if self._instance is None:
            self._instance = connection.instance
            self._on_instance(self._link.name, connection.instance)
        if self._close_reason is not None:
            connection.close_round(name, self._close_reason)  # it may have been lost with the last link
        await self._push_needed(connection, status)

    async def _push_needed(self, connection: Connection, status: link.RoundStatus) -> None:
        for object_id in status.needed_objects:
            connection.push(await self._objects.get(object_id, self._kind_of(object_id)))

    def _kind_of(self, object_id: str) -> wire.ObjectKind:
        is_package = any(task.package_id == object_id for task in self._spec.tasks)
        return wire.OBJECT_KIND_PACKAGE if is_package else wire.OBJECT_KIND_MODEL

    async def _follow(self, connection: Connection) -> link.RoundDone:
        while True:
            event = await connection.next_event(self._spec.name)
            if event.number < self._next_event:
                continue
            self._next_event = event.number + 1
            if event.HasField("done"):
                return event.done
            self._take(event)

    def _take(self, event: link.RoundEvent) -> None:
        """What became of a client."""
        entry = _bounded(ledger_from_wire(event.ledger, combiner=self._link.name, updated_at=event.time_unix_s))
        if entry.state is LedgerState.UPDATED:
            self._check_base(entry)
            self._updates[entry.client] = entry
        self._on_ledger(entry)

    def _check_base(self, entry: LedgerEntry) -> None:
        """A round of the same name that an earlier process started from another model is another round."""
        base = self._bases.get(entry.client)
        if base is not None and entry.metadata is not None and entry.metadata.base_model_id != base:
            raise InvalidInput("update_other_base", "an update was made from another model than the round's")

    async def _collect(self, connection: Connection, done: link.RoundDone) -> PartResult:
        model = result_from_wire(done, self._link.name)
        self._check(model)
        kinds = {task.kind for task in self._spec.tasks}
        predictions = {}
        if TaskKind.PREDICT in kinds:
            for client, entry in self._updates.items():
                predictions[client] = await self._fetch(connection, entry.update_id, entry.size_bytes)
        tensors = None
        if model.model_id and TaskKind.PREDICT not in kinds:
            forwarded = len(model.contributions) if self._forwarded_to is not None else 1
            check_size(model.model_id, model.size_bytes, self._max_model_bytes * forwarded)
            if self._fetches:
                tensors = await self._fetch(connection, model.model_id, model.size_bytes, self._forwarded_to)
        return PartResult(model, tensors, predictions, done.reason)

    async def _fetch(
        self, connection: Connection, object_id: str, size_bytes: int, folder: Path | None = None
    ) -> Pieces:
        if object_id not in self._downloads:
            sink: InMemory | InFile
            if folder is None:
                check_size(object_id, size_bytes, self._max_model_bytes)
                sink = InMemory(object_id)
            else:
                sink = InFile(object_id, size_bytes, folder)
            self._downloads[object_id] = Download(object_id, size_bytes, sink), sink
        download, sink = self._downloads[object_id]
        await self._receive(connection, download)
        return sink.pieces()

    async def _receive(self, connection: Connection, download: Download) -> None:
        if download.damages >= MAX_DAMAGES:
            raise IntegrityError("transfer_damaged", f"its result arrived damaged {download.damages} times")
        if download.done.is_set():
            return
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(SILENCE_S) as silence:

            def progress() -> None:
                self._progress_at = time.monotonic()
                if not silence.expired():
                    silence.reschedule(loop.time() + SILENCE_S)

            download.on_progress = progress
            try:
                await connection.fetch(download)
            finally:
                download.on_progress = _nothing

    def _check(self, model: CombinerModel) -> None:
        """A combiner model may count only clients that this combiner was given, each once, with honest weights."""
        counted = [part.client for part in model.contributions]
        if len(set(counted)) != len(counted) or not self._given.issuperset(counted):
            raise InvalidInput("foreign_contribution", "a combiner model counts clients that it was not given")
        total = sum(part.weight for part in model.contributions)
        if not abs(total - model.weight) <= 1e-9 * max(1.0, abs(total)):
            raise InvalidInput("wrong_weight", f"weight {model.weight} is not the sum {total} of its contributions")

    @property
    def _given(self) -> frozenset[str]:
        """Clients whose updates a model of this combiner may count."""
        return frozenset(task.client for task in self._spec.tasks).union(self._spec.members or ())

    def _lost(self, code: str, message: str) -> PartLost:
        where = {"combiner": self._link.name, "round": self._spec.name}
        return PartLost(code, message, where=where, fix="Look at the combiner's log and its network.")

    def close(self, reason: str) -> None:
        """No more updates are waited for."""
        self._close_reason = reason
        if self._done is None:
            self._tell(lambda connection: connection.close_round(self._spec.name, reason))

    def cancel(self, reason: str) -> None:
        """The combiner may forget the round; told if it can be reached, and it forgets by itself otherwise."""
        self._tell(lambda connection: connection.cancel_round(self._spec.name, reason))
        # A round that is only cancelled is kept, with its models, for as long as the link that watches it is there.
        self.acknowledge()

    def acknowledge(self) -> None:
        """The round is over for the reducer; the combiner may forget it."""
        self._tell(lambda connection: connection.acknowledge_commit(self._spec.name))

    def _tell(self, order: Callable[[Connection], None]) -> None:
        """Says what need not arrive: a combiner that is away learns it from the next round, or by its own clock."""
        if self._link.connection is not None:
            with contextlib.suppress(LinkDown):
                order(self._link.connection)


def _bounded(entry: LedgerEntry) -> LedgerEntry:
    """With no more words than a ledger has room for: what a client says of its failure may be of any length."""
    reason = entry.reason
    if reason is None or max(len(reason.code), len(reason.message), len(reason.fix)) <= _REASON_CHARS:
        return entry
    cut = {
        "code": reason.code[:_REASON_CHARS],
        "message": reason.message[:_REASON_CHARS],
        "fix": reason.fix[:_REASON_CHARS],
    }
    return entry.model_copy(update={"reason": reason.model_copy(update=cut)})


def _nothing() -> None:
    """Nobody waits for a download's progress."""
