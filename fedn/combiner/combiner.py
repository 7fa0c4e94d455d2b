"""A combiner, whole: its parts put together, started and stopped in any event loop."""

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from fedn.combiner.admission import Admission, AdmissionStatistics
from fedn.combiner.attach import AttachServices, attach
from fedn.combiner.buffers import Spool
from fedn.combiner.clients import Clients
from fedn.combiner.encoded import EncodedModels
from fedn.combiner.jobs import Jobs
from fedn.combiner.lineage import Lineages
from fedn.combiner.link import Epoch, LinkServices, link
from fedn.combiner.metrics import CombinerMetrics
from fedn.combiner.objects import ObjectCache
from fedn.combiner.options import SEND_BYTES, CombinerOptions, TlsFiles
from fedn.combiner.results import RoundServices
from fedn.combiner.rounds import Rounds
from fedn.combiner.sending import SendGate
from fedn.combiner.server import CLIENT_SERVICE, LINK_SERVICE, WORKER_SERVICE, CombinerServer
from fedn.combiner.workers.groups import Groups
from fedn.combiner.workers.peers import Peers, RelayDesk
from fedn.combiner.workers.stream import WorkerServices
from fedn.combiner.workers.stream import attach as attach_worker
from fedn.combiner.workers.stream import detour as detour_worker
from fedn.combiner.workers.stream import relay as relay_worker
from fedn.combiner.workers.ways import Detours
from fedn.network.tickets import TicketVerifier
from fedn.network.tokens import TokenVerifier
from fedn.plan.garbage import Turnover
from fedn.plan.logs import bind
from fedn.protocol.errors import Unavailable
from fedn.stores.open import open_update_store
from fedn.stores.updates.store import UpdateStore

_log = bind(__name__)

_STOP_GRACE_S = 2.0
_FOLD_THREADS = 2


class Combiner:
    """Serves clients and the reducer. It needs no reducer to start: registration is another part's work.

    Args:
        options: name, federation, address, limits.
        verifier: knows the federation's tokens.
        tickets: knows those of its workers.
        desk: the reducer, for workers of groups that meet at other combiners; None: none of these is taken in.
        tls: key and certificates (PEM); None for plain text on a loopback address.

    Use `async with Combiner(...)`, or `start` and `stop`; both belong to one event loop.
    """

    def __init__(
        self,
        options: CombinerOptions,
        *,
        verifier: TokenVerifier,
        tickets: TicketVerifier,
        tls: TlsFiles | None,
        desk: RelayDesk | None = None,
    ) -> None:
        self.options = options
        self.instance = uuid.uuid4().hex
        self.metrics = CombinerMetrics()
        self._clients = Clients(options.max_clients)
        self._objects = ObjectCache()
        self._spool = Spool(options.data_dir / "spool")
        self._executor = ThreadPoolExecutor(_FOLD_THREADS, thread_name_prefix="fedn-fold")
        self._admission = Admission(options.upload_memory_bytes, self._spool, options.slow_after_s)
        self._updates = open_update_store(options.updates, federation=options.federation, combiner=options.name)
        self._sending = SendGate(SEND_BYTES, options.slow_after_s)
        self._lineages = Lineages(self._updates)
        services = RoundServices(
            clients=self._clients,
            objects=self._objects,
            encoded=EncodedModels(self._objects, self._executor),
            admission=self._admission,
            spool=self._spool,
            executor=self._executor,
            metrics=self.metrics,
            max_model_bytes=options.max_model_bytes,
            lineages=self._lineages,
        )
        self._rounds = Rounds(services, options.keep_result_s)
        self._epoch = Epoch()
        self._looking = Jobs(lambda error: _log.warning(f"the update store cannot be used yet: {error}"))
        self._parking = Jobs(lambda error: _log.error("an upload could not be set aside", exc_info=error))
        self._attach = AttachServices(
            options=options,
            instance=self.instance,
            verifier=verifier,
            clients=self._clients,
            rounds=self._rounds,
            objects=self._objects,
            admission=self._admission,
            sending=self._sending,
            spool=self._spool,
            parking=self._parking,
            metrics=self.metrics,
        )
        self._link = LinkServices(
            options=options,
            instance=self.instance,
            verifier=verifier,
            clients=self._clients,
            rounds=self._rounds,
            objects=self._objects,
            lineages=self._lineages,
            epoch=self._epoch,
        )
        self._groups = Groups(options.name, options.workers, self.metrics)
        detours = Detours()
        peers = Peers(tls, desk, detours, self.metrics)
        self._workers = WorkerServices(options, verifier, tickets, self._groups, peers, detours, self.metrics)
        self._server = CombinerServer(
            options,
            tls,
            verifier,
            {
                CLIENT_SERVICE: {"Attach": lambda context: attach(context, self._attach)},
                LINK_SERVICE: {"Link": lambda context: link(context, self._link)},
                WORKER_SERVICE: {
                    "Attach": lambda context: attach_worker(context, self._workers),
                    "Relay": lambda context: relay_worker(context, self._workers),
                    "Detour": lambda context: detour_worker(context, self._workers),
                },
            },
        )
        self.metrics.uploads_waiting.set_function(lambda: self._admission.statistics.waiting)
        self.metrics.upload_memory_free.set_function(lambda: self._admission.statistics.free_bytes)
        if (updates := self._updates) is not None:
            self.metrics.kept_updates.set_function(lambda: updates.statistics.entries)
            self.metrics.kept_bytes.set_function(lambda: updates.statistics.size_bytes)

    @property
    def port(self) -> int:
        """Where it listens, after `start`."""
        return self._server.port

    @property
    def attached_clients(self) -> int:
        return len(self._clients)

    @property
    def admission(self) -> AdmissionStatistics:
        """The queue of uploads at this moment."""
        return self._admission.statistics

    @property
    def rounds(self) -> int:
        """Rounds that it holds, running or done."""
        return len(list(self._rounds))

    @property
    def worker_groups(self) -> Groups:
        """Those at home here."""
        return self._groups

    @property
    def turnover(self) -> Turnover:
        """Who came and went, and what is under way: what garbage there may be."""
        came = self._clients.came
        return Turnover(came=came, went=came - len(self._clients), busy=self.rounds, done=self._rounds.ended)

    async def start(self) -> None:
        """Conflict (`port_taken`) where the address cannot be had; nothing is left running then."""
        try:
            await self._server.start()
        except BaseException:
            await self._close_parts()
            raise
        _log.info("combiner listens", extra={"combiner": self.options.name, "port": self.port})
        if self._updates is not None:
            self._looking.start(self._look_at(self._updates))

    async def _look_at(self, updates: UpdateStore) -> None:
        """So that a wrong password or address is told now, not in the first session that needs the store."""
        kept = await asyncio.to_thread(updates.sessions)
        if kept:
            _log.info(f"the update store has updates of {len(kept)} earlier session(s)")

    async def stop(self) -> None:
        """Says goodbye to everybody and leaves nothing behind; results that nobody fetched are lost."""
        leaving = Unavailable("combiner_stopping", "the combiner stops", fix="Ask the reducer for another one.")
        for peer in self._clients:
            peer.end(leaving, 1.0)
        if self._epoch.link is not None:
            self._epoch.link.end(leaving)
        self._groups.end(leaving)
        await self._server.stop(_STOP_GRACE_S)
        await self._close_parts()

    async def _close_parts(self) -> None:
        await self._looking.wait()
        await self._lineages.wait_closed()
        await self._parking.wait()
        await self._rounds.close()
        await self._admission.close()
        self._sending.close()
        await asyncio.to_thread(self._spool.close)
        await asyncio.to_thread(self._executor.shutdown)
        if self._updates is not None:
            await asyncio.to_thread(self._updates.close)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
