"""Waiting for a condition that callbacks bring about, without sleeping."""

import asyncio
from collections.abc import Callable


class Changes:
    """`note` is called whenever something changed; `until` waits for a condition over what changes."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def note(self) -> None:
        self._event.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self._event.clear()
                await self._event.wait()
