"""The program `fedn combiner start`: a combiner that enrols, registers and serves until it is told to end."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from prometheus_client import start_http_server

from fedn.api.trust import wait_for_authority
from fedn.combiner.combiner import Combiner
from fedn.combiner.metrics import CombinerMetrics
from fedn.combiner.options import CombinerOptions, TlsFiles, WorkerLimits
from fedn.combiner.registration import Announcement, Load, Registration
from fedn.combiner.workers.peers import RelayDesk
from fedn.network.identity import Identity
from fedn.network.join import JoinString, join_of
from fedn.network.open_files import raise_open_files
from fedn.network.tickets import TicketVerifier
from fedn.network.tokens import Role, TokenVerifier
from fedn.plan.garbage import garbage_schedule
from fedn.plan.logs import bind, configure_logging
from fedn.plan.settings import CombinerSettings
from fedn.protocol.errors import Conflict, FednError, InvalidInput, LimitExceeded
from fedn.stores.open import open_update_store

_log = bind(__name__)

_SWITCH_INTERVAL_S = 0.0005
"""How long a thread may keep the interpreter while another wants it. Sums hold it for microseconds at a time, and
with Python's 5 ms would wait for the event loop at every step."""

_OTHER_FILES = 512
"""Open files besides the clients' connections: spool files, the reducer's link, the program itself."""


def run(settings: CombinerSettings) -> int:
    """Runs until SIGINT or SIGTERM; the program's exit status."""
    configure_logging(settings.log_level, settings.log_format)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        raise_open_files(settings.max_clients + _OTHER_FILES)
    except LimitExceeded as error:
        _log.warning(f"not all of max_clients ({settings.max_clients}) can attach: {error}")
    try:
        with Identity(settings.data_dir, settings.name, Role.COMBINER) as identity:
            asyncio.run(_serve_until_signal(settings, identity))
    except FednError as error:
        _log.error(str(error))
        return 1
    return 0


async def _serve_until_signal(settings: CombinerSettings, identity: Identity) -> None:
    serving = asyncio.create_task(_join_and_serve(settings, identity))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def _join_and_serve(settings: CombinerSettings, identity: Identity) -> None:
    await wait_for_authority(settings)
    await serve(settings, identity, join_of(settings))


async def serve(settings: CombinerSettings, identity: Identity, join: JoinString) -> None:
    """Enrols, serves and sends heartbeats until it is cancelled.

    Raises:
        FednError: enrolment was refused, or the port is taken.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="fedn-register") as executor:
        registration = Registration(
            identity,
            join,
            executor,
            hosts=tuple(dict.fromkeys((settings.public_host, "localhost", "127.0.0.1"))),
            heartbeat_s=settings.heartbeat_s,
        )
        try:
            await registration.enrol()
            combiner = combiner_of(settings, identity, secure=bool(join.ca_fingerprint), desk=registration)
            with _metrics_server(settings.metrics_bind, settings.metrics_port, combiner.metrics):
                async with combiner, garbage_schedule(lambda: combiner.turnover):
                    announcement = Announcement(
                        combiner.instance,
                        settings.public_host,
                        settings.public_port or combiner.port,
                        settings.max_clients,
                    )
                    await registration.run(
                        announcement, lambda: Load(combiner.attached_clients, combiner.rounds), combiner.worker_groups
                    )
        finally:
            registration.close()


def forget_updates(settings: CombinerSettings) -> int:
    """Removes all that the combiner keeps of its clients' updates; how many there were.

    Raises:
        Conflict: (`data_dir_in_use`) it runs.
        InvalidInput: (`nothing_kept`) its settings keep nothing that outlives it, or it never enrolled.
        StoreUnavailable: the store does not answer.
    """
    with Identity(settings.data_dir, settings.name, Role.COMBINER) as identity:
        if settings.updates.kind in {"memory", "off"} or not identity.enrolled:
            raise InvalidInput(
                "nothing_kept",
                "this combiner keeps no updates that outlive its process",
                fix="Give the settings that it is started with; only the kinds files and redis outlive it.",
                where={"combiner": settings.name, "updates.kind": settings.updates.kind},
            )
        store = open_update_store(settings.updates, federation=identity.federation, combiner=settings.name)
        assert store is not None  # only of the kind off
        with contextlib.closing(store):
            store.sessions()
            count = store.statistics.entries
            store.expunge()
    return count


def combiner_of(settings: CombinerSettings, identity: Identity, *, secure: bool, desk: RelayDesk) -> Combiner:
    """The combiner that settings and an enrolled identity describe; without TLS only where the reducer has none."""
    options = CombinerOptions(
        name=settings.name,
        federation=identity.federation,
        data_dir=settings.data_dir,
        bind=settings.bind,
        port=settings.port,
        max_clients=settings.max_clients,
        upload_memory_bytes=int(settings.upload_memory_bytes),
        max_model_bytes=int(settings.max_model_bytes),
        progress_s=settings.progress_s,
        keep_result_s=settings.keep_result_s,
        mutual_tls=settings.mutual_tls,
        workers=WorkerLimits(
            max_frame_bytes=int(settings.worker_message_bytes),
            spool_bytes=int(settings.worker_spool_bytes),
            pair_bytes=int(settings.worker_pair_bytes),
            grace_s=settings.worker_grace_s,
            max_groups=settings.max_worker_groups,
        ),
        updates=settings.updates,
    )
    verifier = TokenVerifier(identity.token_key_pem, identity.federation, combiner=settings.name)
    tls = TlsFiles(identity.key_pem, identity.certificate_pem, identity.ca_pem) if secure else None
    tickets = TicketVerifier(identity.token_key_pem, identity.federation)
    return Combiner(options, verifier=verifier, tickets=tickets, tls=tls, desk=desk)


@contextmanager
def _metrics_server(bind: str, port: int, metrics: CombinerMetrics) -> Iterator[None]:
    """Serves metrics; port 0: nowhere."""
    if port == 0:
        yield
        return
    try:
        server, thread = start_http_server(port, addr=bind, registry=metrics.registry)
    except OSError as error:
        raise Conflict(
            "port_taken",
            f"metrics cannot be served at {bind}, port {port}: {error.strerror}",
            fix="Choose another metrics_port (0 for none), or an address of this machine as metrics_bind.",
            where={"bind": bind, "port": port},
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
