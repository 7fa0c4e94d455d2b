"""Checks, before a client starts, what would not work and why. What it finds is data; showing it is the CLI's part.

It enrols the site if that has not been done: nothing less proves that it can. It attaches to no combiner.
"""

import asyncio
import http.client
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import grpc

from fedn.client.isolation.choice import isolation_of
from fedn.client.objects import Held
from fedn.client.runtimes import Runtimes
from fedn.client.site import Site
from fedn.client.slots import HeldFile
from fedn.network.dialing import open_channel
from fedn.network.generated import common_pb2 as common
from fedn.network.identity import Identity
from fedn.network.join import JoinString, join_of
from fedn.network.tls import client_context, fetch_pinned_ca
from fedn.network.tokens import Role
from fedn.plan.settings import ClientSettings
from fedn.privacy.keys import read_key
from fedn.privacy.models import ModelCipher
from fedn.protocol.errors import FednError, InvalidInput, LimitExceeded, Unavailable
from fedn.protocol.rest import Assignment
from fedn.protocol.tasks import TaskKind, TaskSpec

_TIMEOUT_S = 10.0
_MAX_SKEW_S = 20.0
_MIN_FREE_BYTES = 1 << 30


@dataclass(frozen=True)
class Check:
    """What one check found."""

    name: str
    """join_string, data_dir, disk_space, data_path, encryption, reducer, clock, enrolment, assignment, combiner,
    isolation, code."""
    ok: bool
    detail: str
    """What was found, or what is wrong."""
    fix: str = ""
    """What to do where it is not ok."""
    skipped: bool = False
    """Not made, because one that it needs failed; `ok` is False then."""


def preflight(settings: ClientSettings) -> list[Check]:
    """All checks, in their order, whatever fails. Conflict (`data_dir_in_use`) shows as a failed check too."""
    return asyncio.run(_Preflight(settings).run())


class _Preflight:
    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings.anchored()
        self._stack = ExitStack()
        self._checks: list[Check] = []
        self._join: JoinString | None = None
        self._ca = b""
        self._identity: Identity | None = None
        self._site: Site | None = None
        self._assignment: Assignment | None = None

    async def run(self) -> list[Check]:
        with self._stack:
            await self._check("join_string", self._join_string)
            await self._check("data_dir", self._data_dir)
            await self._check("disk_space", self._disk_space, "data_dir")
            await self._check("data_path", self._data_path)
            await self._check("encryption", self._encryption)
            await self._check("reducer", self._reducer, "join_string")
            await self._check("clock", self._clock, "reducer")
            await self._check("enrolment", self._enrolment, "reducer", "data_dir")
            await self._check("assignment", self._assigned, "enrolment")
            await self._check("combiner", self._combiner, "assignment")
            in_container = self._settings.isolation != "process"
            await self._check("isolation", self._isolation, "data_dir", *(("data_path",) if in_container else ()))
            # Only the reducer knows which package it is, where the client brings no code of its own.
            await self._check("code", self._code, "isolation", *(() if self._own_code else ("assignment",)))
        return self._checks

    async def _check(self, name: str, look: Callable[[], Awaitable[str]], *needs: str) -> None:
        failed = [check.name for check in self._checks if check.name in needs and not check.ok]
        if failed:
            self._checks.append(Check(name, False, f"not looked at, since {failed[0]} failed", skipped=True))
            return
        try:
            self._checks.append(Check(name, True, await look()))
        except FednError as error:
            self._checks.append(Check(name, False, f"{error.message} [{error.code}]", error.fix))

    async def _join_string(self) -> str:
        self._join = join_of(self._settings)
        return f"the reducer is {self._join.url}"

    async def _data_dir(self) -> str:
        folder = self._settings.data_dir
        try:
            self._identity = self._stack.enter_context(Identity(folder, self._settings.name, Role.CLIENT))
        except OSError as error:
            raise InvalidInput(
                "data_dir_not_writable",
                f"{folder} cannot be used: {error.strerror}",
                fix="Give a folder that this user may write to with --data-dir.",
            ) from error
        return f"{folder} belongs to the client {self._identity.name}"

    async def _disk_space(self) -> str:
        free = shutil.disk_usage(self._settings.data_dir).free
        if free < _MIN_FREE_BYTES:
            raise LimitExceeded(
                "disk_full", f"only {free >> 20} MiB are free", fix="Models are kept in data_dir: make room there."
            )
        return f"{free >> 30} GiB are free"

    async def _data_path(self) -> str:
        own = self._settings.data_path
        folders = [*([own] if own is not None else []), *self._settings.data_folders]
        if not folders:
            return "no data_path is set; the learner finds its data by itself"
        for path in folders:
            if not os.access(path, os.R_OK):
                raise InvalidInput(
                    "data_path_unreadable",
                    f"{path} is not there, or may not be read by this user",
                    fix=f"Correct {'data_path' if path == own else 'data_folders'}, or its permissions.",
                )
        return f"{', '.join(map(str, folders))} can be read"

    async def _encryption(self) -> str:
        path = self._settings.encryption_key
        if path is None:
            return "no encryption_key is set: updates leave as they are"
        cipher = await asyncio.to_thread(lambda: ModelCipher(read_key(path)))
        return f"updates are encrypted with the key {cipher.key_id}"

    async def _reducer(self) -> str:
        assert self._join is not None
        if not self._join.ca_fingerprint:
            return f"{self._join.url} is used without TLS"
        self._ca = await asyncio.to_thread(fetch_pinned_ca, self._join.url, self._join.ca_fingerprint, _TIMEOUT_S)
        return f"{self._join.url} answers, certified by the authority that the join string names"

    async def _clock(self) -> str:
        assert self._join is not None
        skew_s = await asyncio.to_thread(clock_skew_s, self._join.url, self._ca)
        if abs(skew_s) > _MAX_SKEW_S:
            raise InvalidInput(
                "clock_skew",
                f"this machine's clock is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} the reducer's",
                fix="Set it by NTP: tokens and certificates are good for a time only.",
            )
        return "the clock agrees with the reducer's to about a second"

    async def _enrolment(self) -> str:
        assert self._identity is not None and self._join is not None
        self._site = Site(self._identity, self._join)
        self._stack.callback(self._site.close)
        await self._site.enrol()
        await self._site.renew_token()
        return f"enrolled as {self._identity.name} in the federation {self._identity.federation}"

    async def _assigned(self) -> str:
        assert self._site is not None
        self._assignment = assignment = await self._site.assign(self._settings.combiner or "", ())
        if assignment.status != "assigned":
            raise Unavailable(
                assignment.code or "no_combiner",
                f"the reducer has no combiner for us now: {assignment.reason}",
                fix="Start a combiner, or one more; the client asks again by itself.",
            )
        return f"assigned to the combiner {assignment.combiner} at {assignment.host}:{assignment.port}"

    async def _combiner(self) -> str:
        assert self._site is not None and self._assignment is not None
        endpoint = self._site.endpoint(self._assignment)
        channel = open_channel(endpoint)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await channel.channel_ready()
        except (TimeoutError, grpc.aio.AioRpcError) as error:
            raise Unavailable(
                "combiner_unreachable",
                f"no TLS connection to {endpoint.host}:{endpoint.port} within {_TIMEOUT_S:g} s",
                fix="Let outgoing connections to that address through, and check that the combiner's public_host is "
                "the name under which sites reach it.",
            ) from error
        finally:
            await channel.close(None)
        return f"{endpoint.host}:{endpoint.port} can be reached"

    async def _isolation(self) -> str:
        """Makes a container as those of packages, where they are asked for."""
        if self._settings.learner is not None:
            return "the site's own learner runs as a process of this user"
        isolation = isolation_of(self._settings, self._settings.data_dir)
        try:
            return await isolation.start()
        finally:
            await isolation.close()

    async def _code(self) -> str:
        """Loads the learner or makes the package ready, exactly as the client would."""
        package_id = self._assignment.package_id if self._assignment is not None else ""
        if not self._own_code and not package_id:
            return "the federation has no compute package yet; one is fetched when a session uses it"
        runtimes = Runtimes(self._settings, self._settings.data_dir, self._fetch)
        started = time.monotonic()
        try:
            await runtimes.start()
            task = TaskSpec(task_id="", client=self._settings.name, kind=TaskKind.TRAIN, package_id=package_id)
            await runtimes.for_task(task)
            kinds = ", ".join(sorted(runtimes.kinds))
        finally:
            await runtimes.close()
        return f"loaded in {time.monotonic() - started:.1f} s; can do: {kinds}"

    @property
    def _own_code(self) -> bool:
        return self._settings.learner is not None or self._settings.package not in {"remote", "none"}

    async def _fetch(self, package_id: str, kind: common.ObjectKind) -> Held:
        assert self._site is not None
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(dir=self._settings.data_dir))
        path = Path(folder) / "package.tar.gz"
        await self._site.download_package(package_id, path)
        return HeldFile(path, path.stat().st_size)


def clock_skew_s(url: str, ca: bytes) -> float:
    """Seconds by which this machine's clock is ahead of the reducer's, to about a second.

    Raises:
        Unavailable: (`reducer_unreachable`) no answer, or one without a date.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(host, parts.port, timeout=_TIMEOUT_S, context=client_context(ca))
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/api/v1/ca")
        answer = connection.getresponse()
        answer.read()
        told = parsedate_to_datetime(answer.headers.get("Date", ""))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable("reducer_unreachable", f"the reducer does not tell its time: {error}") from error
    finally:
        connection.close()
    return time.time() - told.timestamp()
