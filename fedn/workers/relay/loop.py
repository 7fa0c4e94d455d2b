"""The one event loop of this process' relayed workers, in a thread of its own, which ends with the process."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="fedn-worker-relay", daemon=True).start()
    return loop


def spawn(work: Coroutine[Any, Any, T]) -> "Future[T]":
    """Runs a coroutine in the loop, from any other thread."""
    return asyncio.run_coroutine_threadsafe(work, _loop())
