"""One running container: the sockets by which its guard and the agent are connected, how it ended, and its end."""

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

from fedn.client.command import LAST_WORDS_S
from fedn.client.isolation.exchange import Exchange
from fedn.client.output import Output
from fedn.protocol.errors import TaskFailed

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """How a container's command ended."""

    status: int | None
    """128 + the number of the signal; None: the whole container was ended, and nobody could tell."""
    out_of_memory: bool = False


class Container:
    """A container whose guard has connected.

    Args:
        lifeline: to the guard, which ends the container when it is let go.
        prints: where all that is printed comes.
        output: takes it.
        exchange: the files; removed at the end.
        remove: kills the container and waits until it has gone; blocks.
    """

    def __init__(
        self,
        lifeline: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        prints: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        output: Output,
        exchange: Exchange,
        remove: Callable[[], asyncio.Future[None]],
    ) -> None:
        self.exchange = exchange
        self.output = output
        self._lifeline, self._lifeline_writer = lifeline
        self._prints_writer = prints[1]
        self._remove = remove
        self._reading = asyncio.create_task(output.read(prints[0]))
        self._reporting = asyncio.create_task(self._read_report())

    async def report(self) -> Report:
        """Waits until the command has ended."""
        return await asyncio.shield(self._reporting)

    def kill(self) -> None:
        """Ends the container at once."""
        self._lifeline_writer.transport.abort()

    async def end(self, *, wait_for_report: bool = False) -> Report:
        """Ends the container, takes in its last words, and removes what it left.

        Args:
            wait_for_report: its command has just ended by itself, so the guard is about to tell how.
        """
        try:
            await asyncio.wait({self._reporting}, timeout=LAST_WORDS_S if wait_for_report else 0)
            report = self._reporting.result() if self._reporting.done() else Report(None)
            self.kill()
            try:
                await self._remove()
            except TaskFailed as error:  # its guard ends it nevertheless; the next start sweeps
                _LOG.warning("a container may be left: %s", error)
            await asyncio.wait({self._reading}, timeout=LAST_WORDS_S)
        finally:
            self._reading.cancel()
            self._reporting.cancel()
            self.kill()
            self._prints_writer.transport.abort()
            await asyncio.to_thread(self.exchange.close)
        return report

    async def _read_report(self) -> Report:
        try:
            line = await self._lifeline.readline()
        except (ConnectionError, ValueError):
            return Report(None)
        if not line.endswith(b"\n"):
            return Report(None)
        content = json.loads(line)
        return Report(content["status"], content["oom"])


async def accept(listening: socket.socket, count: int) -> list[socket.socket]:
    """So many connections, in the order in which they were made."""
    loop = asyncio.get_running_loop()
    accepted: list[socket.socket] = []
    try:
        while len(accepted) < count:
            connection, _ = await loop.sock_accept(listening)
            connection.setblocking(False)
            accepted.append(connection)
    except BaseException:
        for connection in accepted:
            connection.close()
        raise
    return accepted
