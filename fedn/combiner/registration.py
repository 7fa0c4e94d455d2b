"""The combiner's talk with the reducer over REST: enrolment, "add me", heartbeats, tokens.

It lives beside the gRPC server and is never needed for a round: a reducer that is away is asked again until it is
back, and one that forgot this combiner is told of it again.
"""

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

import psutil

from fedn.api.client import APIClient
from fedn.network.identity import Identity
from fedn.network.join import JoinString
from fedn.network.tls import fetch_pinned_ca
from fedn.network.tokens import make_assertion
from fedn.plan.logs import bind
from fedn.protocol.errors import FednError, InvalidInput, NotFound, Unauthenticated, Unavailable

_log = bind(__name__)

_TIMEOUT_S = 5.0
_MAX_PAUSE_S = 2.0
_RENEW_BEFORE_S = 60.0
_RENEW_CERTIFICATE_BEFORE_S = 14 * 86400.0


@dataclass(frozen=True)
class Announcement:
    """What the reducer is told of the combiner."""

    instance: str
    host: str
    port: int
    max_clients: int


class Registration:
    """Calls block in threads of `executor`, never the loop.

    Args:
        identity: open; enrolled here if it is not.
        join: where the reducer is and how to trust it; its secret is needed for the first enrolment alone.
        hosts: names and addresses that the certificate must name.
        heartbeat_s: seconds between heartbeats.
    """

    def __init__(
        self, identity: Identity, join: JoinString, executor: Executor, *, hosts: tuple[str, ...], heartbeat_s: float
    ) -> None:
        self._identity = identity
        self._join = join
        self._executor = executor
        self._hosts = hosts
        self._heartbeat_s = heartbeat_s
        self._api: APIClient | None = None
        self._expires_at = 0.0

    async def enrol(self) -> None:
        """Enrols, unless this site is enrolled and its certificate lasts; waits for a reducer that is away.

        Raises:
            Unauthenticated: `wrong_ca`, or the enrolment secret is wrong.
            Conflict: `name_taken`.
            InvalidInput: `secret_missing`.
        """
        if self._identity.enrolled and not self._needs_certificate():
            return
        failures = 0
        while True:
            try:
                await self._in_thread(self._enrol)
                return
            except Unavailable as error:
                failures += 1
                _log.warning(f"cannot enrol yet: {error}")
                await asyncio.sleep(_pause_s(failures))

    async def run(self, announcement: Announcement, load: Callable[[], tuple[int, int]]) -> None:
        """Registers and sends heartbeats until it is cancelled.

        Args:
            load: numbers of attached clients and of rounds that are held.
        """
        registered, failures = False, 0
        while True:
            try:
                if registered:
                    clients, rounds = load()
                    await self._in_thread(self._beat, announcement.instance, clients, rounds)
                else:
                    await self._in_thread(self._register, announcement)
                    _log.info("registered with the reducer", extra={"url": self._join.url})
                registered, failures = True, 0
            except NotFound:
                registered = False  # the reducer forgot us: tell it again at once
                failures += 1
            except FednError as error:
                failures += 1
                log = _log.info if error.retryable and failures == 1 else _log.warning
                log(f"the reducer did not take a heartbeat: {error}")
                if isinstance(error, Unauthenticated):
                    self._expires_at = 0.0
            await asyncio.sleep(self._heartbeat_s if not failures else min(_pause_s(failures), self._heartbeat_s))

    def close(self) -> None:
        if self._api is not None:
            self._api.close()

    async def _in_thread(self, call: Callable[..., None], *arguments: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, call, *arguments)

    def _needs_certificate(self) -> bool:
        return self._identity.certificate_ends_at - time.time() < _RENEW_CERTIFICATE_BEFORE_S and bool(
            self._join.secret
        )

    def _enrol(self) -> None:
        if not self._join.secret:
            raise InvalidInput(
                "secret_missing",
                "this combiner is not enrolled, and its settings hold no enrolment secret",
                fix="Start it once with the join string that `fedn token create` prints at the reducer.",
            )
        ca = None
        if self._join.ca_fingerprint:
            ca = fetch_pinned_ca(self._join.url, self._join.ca_fingerprint, _TIMEOUT_S)
        with APIClient(self._join.url, ca=ca, timeout_s=_TIMEOUT_S) as api:
            reply = api.enrol(
                name=self._identity.name,
                role="combiner",
                csr=self._identity.csr(),
                secret=self._join.secret,
                hosts=self._hosts,
            )
        self._identity.save_enrolment(
            federation=reply.federation,
            certificate=reply.certificate.encode(),
            ca=reply.ca.encode(),
            token_key=reply.token_key.encode(),
        )
        self._opened().token, self._expires_at = reply.token, reply.expires_at
        _log.info("enrolled", extra={"combiner": self._identity.name, "federation": reply.federation})

    def _opened(self) -> APIClient:
        if self._api is None:
            secure, identity = bool(self._join.ca_fingerprint), self._identity
            self._api = APIClient(
                self._join.url,
                ca=identity.ca_path if secure else None,
                certificate=identity.certificate_path if secure else None,
                key=identity.key_path if secure else None,
                timeout_s=_TIMEOUT_S,
            )
        return self._api

    def _renewed(self) -> APIClient:
        """The client with a token that lasts."""
        api = self._opened()
        if time.time() > self._expires_at - _RENEW_BEFORE_S:
            identity = self._identity
            reply = api.renew_token(make_assertion(identity.key_pem, identity.name, identity.federation))
            api.token, self._expires_at = reply.token, reply.expires_at
        return api

    def _register(self, announcement: Announcement) -> None:
        self._renewed().add_combiner(
            name=self._identity.name,
            host=announcement.host,
            port=announcement.port,
            max_clients=announcement.max_clients,
            instance=announcement.instance,
        )

    def _beat(self, instance: str, clients: int, rounds: int) -> None:
        self._renewed().heartbeat(
            self._identity.name,
            instance=instance,
            attached_clients=clients,
            rounds=rounds,
            rss_bytes=psutil.Process().memory_info().rss,
        )


def _pause_s(failures: int) -> float:
    """Doubles from about 0.1 s to 2 s, jittered, so that many combiners do not come back in one moment."""
    return min(_MAX_PAUSE_S, 0.1 * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
