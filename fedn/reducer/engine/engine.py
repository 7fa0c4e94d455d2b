"""The engine: an asyncio loop in a thread of its own, with a link to each combiner and the session that runs."""

import asyncio
import logging
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from fedn.network.dialing import OwnTls
from fedn.network.tls import grpc_channel_credentials
from fedn.network.tokens import TokenIssuer
from fedn.plan.settings import ReducerSettings
from fedn.protocol.errors import Conflict, NotFound, Unavailable
from fedn.protocol.rounds import Reason
from fedn.reducer.catalog import Catalog
from fedn.reducer.engine.context import EngineContext
from fedn.reducer.engine.link import CombinerLink, LinkSettings
from fedn.reducer.engine.records import SESSIONS, SessionRecord, SessionState, read_session
from fedn.reducer.engine.roster import Roster
from fedn.reducer.engine.session_run import SessionRun
from fedn.reducer.events import EventLog
from fedn.reducer.registry import Registry
from fedn.reducer.sessions import Sessions
from fedn.reducer.trail import Trail
from fedn.stores.base import ModelStore, StateStore

log = logging.getLogger(__name__)

T = TypeVar("T")
CALL_TIMEOUT_S = 30.0


class Engine:
    """See the module. `start` and `stop` may be called from any thread, once each."""

    def __init__(
        self,
        *,
        state: StateStore,
        models: ModelStore,
        trail: Trail,
        registry: Registry,
        events: EventLog,
        catalog: Catalog,
        tokens: TokenIssuer,
        tls: OwnTls | None,
        epoch: int,
        settings: ReducerSettings,
    ) -> None:
        self._registry = registry
        self._events = events
        self._state = state
        self._links: dict[str, CombinerLink] = {}
        self._link_settings = LinkSettings(
            federation=settings.federation,
            epoch=epoch,
            credentials=grpc_channel_credentials(tls.ca_pem, tls.key_pem, tls.cert_pem) if tls else None,
            tokens=tokens,
            token_ttl_s=settings.token_ttl_s,
            dead_after_s=settings.combiner_dead_after_s,
        )
        self.roster = Roster(events.publish)
        self._context = EngineContext(
            state=state,
            models=models,
            trail=trail,
            events=events,
            catalog=catalog,
            roster=self.roster,
            link=self._link,
            linked=lambda: sorted(name for name, link in self._links.items() if link.connection is not None),
            place=registry.place,
            epoch=epoch,
            algorithm=settings.digest,
            max_model_bytes=settings.max_model_bytes,
            spool=settings.data_dir / "spool",
        )
        self._small: set[asyncio.Task[None]] = set()
        self._run: SessionRun | None = None
        self._running: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        """The end of the session that somebody stopped, which may wait for a store that is away."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._thread_main, name="engine")
        self._failure: BaseException | None = None
        self.sessions = Sessions(self, state, trail, catalog)

    # From any thread

    def start(self) -> None:
        """Returns when the loop runs and the session that was interrupted, if any, goes on."""
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        """Ends the links and the loop. A running session stays `running`, for the next reducer process."""
        if self._loop is not None and self._ending is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()
        self._context.close()

    @property
    def current(self) -> SessionRun | None:
        """The session that runs, or the last one that did."""
        return self._run

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the loop and waits for its end. Unavailable (`engine_busy`) if that takes too long."""
        if self._loop is None or self._loop.is_closed():
            work.close()
            raise Unavailable("reducer_ending", "the reducer is ending", fix="Try again when it is back.")
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(CALL_TIMEOUT_S)
        except TimeoutError as error:
            future.cancel()
            raise Unavailable(
                "engine_busy", f"the engine did not answer within {CALL_TIMEOUT_S:g} s", fix="Try again."
            ) from error

    # On the loop

    def _thread_main(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        loop = self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        unsubscribe = self._registry.on_change(lambda: loop.call_soon_threadsafe(self._sync_links))
        try:
            self._sync_links()
            await self._resume_interrupted()
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._started.set()
        try:
            await self._ending.wait()
        finally:
            unsubscribe()
            # Links first: a combiner that is not told anything keeps the round for the next reducer process.
            await asyncio.gather(*(link.close() for link in self._links.values()))
            await self._cancel_running()

    async def _cancel_running(self) -> None:
        for task in (self._stopping, self._running):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    @property
    def _busy(self) -> bool:
        """Whether a session runs, or is being stopped."""
        return any(task is not None and not task.done() for task in (self._running, self._stopping))

    def _sync_links(self) -> None:
        """Makes the links those of the registry's combiners."""
        records = {record.name: record for record in self._registry.combiners()}
        for name, record in records.items():
            if name in self._links:
                self._links[name].update(record)
            else:
                self._links[name] = CombinerLink(
                    record, self._link_settings, self.roster, self._registry.set_link, self._detach
                )
        for name in self._links.keys() - records.keys():
            log.info("combiner %s was removed", name)
            self._tell(self._links.pop(name).close())

    def _detach(self, client: str, combiner: str) -> None:
        if combiner in self._links:
            message = "the client is attached to another combiner"
            self._links[combiner].detach_client(client, "replaced", message)

    def _tell(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs something small that nobody waits for, and keeps hold of it until it is done."""
        task = asyncio.create_task(work)
        self._small.add(task)
        task.add_done_callback(self._small.discard)

    def _link(self, combiner: str) -> CombinerLink:
        link = self._links.get(combiner)
        if link is None:
            raise NotFound("no_such_combiner", "a combiner is gone", where={"combiner": combiner})
        return link

    async def _resume_interrupted(self) -> None:
        documents = await self._context.store(
            lambda: self._state.find(SESSIONS, {"state": str(SessionState.RUNNING)}, order_by="created_at")
        )
        for document in documents[:1]:
            record = read_session(document)
            log.info("session %s was running when the reducer ended: going on with it", record.id)
            self._launch(record)

    def _launch(self, record: SessionRecord) -> None:
        run = self._run = SessionRun(record, self._context)
        self._running = asyncio.create_task(run.run(), name=f"session {record.id}")
        self._running.add_done_callback(lambda task: self._note_end(run, task))

    def _note_end(self, run: SessionRun, task: asyncio.Task[None]) -> None:
        """A session that ended by an unforeseen error is a fault of ours: it is told, and the reducer lives on."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("session %s broke off", run.record.id, exc_info=error)
        reason = Reason(
            code="internal_error",
            message=f"{type(error).__name__}: {error}",
            fix="This is a fault of fedn: report it with the reducer's log; the session can be resumed.",
        )
        changes = {"state": SessionState.FAILED, "error": reason, "ended_at": time.time()}
        broken = run.record.model_copy(update=changes)
        run.record = broken
        self._context.store_later(lambda: self._state.put(SESSIONS, broken.id, broken.document()))
        self._events.publish("session_failed", session=broken.id, reason=reason.message)

    async def start_session(self, record: SessionRecord) -> None:
        """Makes the session durable and runs it. Conflict (`session_running`) where one runs."""
        if self._busy and self._run is not None:
            raise Conflict(
                "session_running",
                "a session is running already",
                fix=f"Wait for its end, or stop it: fedn session stop {self._run.record.id}",
                where={"session": self._run.record.id},
            )
        # The task is there before the first await, so that two starts at once cannot both pass the check above.
        run = self._run = SessionRun(record, self._context)
        self._running = asyncio.create_task(self._begin(run), name=f"session {record.id}")
        self._running.add_done_callback(lambda task: self._note_end(run, task))
        await self._context.store(lambda: self._state.put(SESSIONS, record.id, record.document()))

    async def _begin(self, run: SessionRun) -> None:
        self._events.publish(
            "session_started", session=run.record.id, name=run.record.name, rounds=run.record.plan.rounds
        )
        await run.run()

    async def detach_client(self, client: str, code: str, message: str) -> None:
        """Lets the combiner that a client is attached to, if any, send it away."""
        combiner = self.roster.combiner_of(client)
        if combiner in self._links:
            self._links[combiner].detach_client(client, code, message)

    async def stop_session(self, session: str) -> None:
        """Ends the running session now; its combiners are told to cancel the round.

        It ends also where the caller does not wait for it; until then no other session starts.
        """
        run, running = self._run, self._running
        if run is None or running is None or not self._busy or run.record.id != session:
            raise Conflict(
                "session_not_running",
                "the session is not running",
                fix="See its state: fedn session show " + session,
                where={"session": session},
            )
        if self._stopping is None or self._stopping.done():
            self._stopping = asyncio.create_task(self._stop(run, running), name=f"stop {session}")
            self._stopping.add_done_callback(lambda task: self._note_end(run, task))
        await asyncio.shield(self._stopping)

    async def _stop(self, run: SessionRun, running: asyncio.Task[None]) -> None:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await run.stop()
