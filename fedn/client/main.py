"""Runs a client as a program: logging, signals, exit status. The client itself is `fedn.client.agent`."""

import asyncio
import logging
import signal

from fedn.client.agent import ClientAgent
from fedn.plan.logs import configure_logging
from fedn.plan.settings import ClientSettings
from fedn.protocol.errors import FednError

_LOG = logging.getLogger(__name__)


def run(settings: ClientSettings) -> int:
    """Runs until SIGINT or SIGTERM (status 0), or until the client cannot go on (status 1, the reason in the log)."""
    secrets = [text for text in (settings.join, settings.enrolment_secret) if text is not None]
    configure_logging(settings.log_level, settings.log_format, secrets=secrets)
    try:
        asyncio.run(_run(settings))
    except FednError as error:
        _LOG.error("%s", error)
        return 1
    return 0


async def _run(settings: ClientSettings) -> None:
    agent = ClientAgent(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, agent.stop)
    await agent.run()
