"""Secrets that callers prove: compared in constant time, with a limit on wrong tries from one address."""

import hashlib
import hmac
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from fedn.protocol.errors import Unauthenticated, Unavailable

MAX_WRONG = 10
WINDOW_S = 60.0
_MAX_ADDRESSES = 10_000


class TooManyTries(Unavailable):
    """Wrong secrets came too fast."""

    http_status = 429
    grpc_status = "RESOURCE_EXHAUSTED"


class SecretGuard:
    """One secret. Thread-safe.

    After MAX_WRONG wrong tries within WINDOW_S seconds an address is not listened to, until that time has passed.

    Args:
        secret: not empty.
        what: its name, for messages: enrolment secret, admin secret.
        fix: where to find it.
    """

    def __init__(self, secret: str, *, what: str, fix: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._digest = _digest(secret)
        self._what = what
        self._fix = fix
        self._clock = clock
        self._lock = threading.Lock()
        self._wrong: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def check(self, given: str, address: str) -> None:
        """Returns where `given` is the secret.

        Raises:
            Unauthenticated: (`secret_wrong`).
            TooManyTries: (`too_many_tries`) whatever was given.
        """
        with self._lock:
            since, count = self._tries(address)
            if hmac.compare_digest(self._digest, _digest(given)):
                self._wrong.pop(address, None)
                return
            self._note(address, since, count)
        raise Unauthenticated("secret_wrong", f"this is not the {self._what}", fix=self._fix)

    def allow(self, address: str) -> None:
        """Returns where the address may try something else that stands for the secret. TooManyTries as `check`."""
        with self._lock:
            self._tries(address)

    def note_wrong(self, address: str) -> None:
        """Counts a wrong try of something else that stands for the secret."""
        with self._lock:
            self._note(address, *self._tries(address))

    def _tries(self, address: str) -> tuple[float, int]:
        """(since when, how often) the address was wrong. TooManyTries where that is enough."""
        since, count = self._wrong.get(address, (self._clock(), 0))
        left = since + WINDOW_S - self._clock()
        if left <= 0:
            since, count = self._clock(), 0
        if count >= MAX_WRONG:
            raise TooManyTries(
                "too_many_tries",
                f"the {self._what} was wrong {count} times",
                fix=f"Wait {math.ceil(left)} seconds. {self._fix}",
                where={"address": address},
            )
        return since, count

    def _note(self, address: str, since: float, count: int) -> None:
        self._wrong[address] = (since, count + 1)
        self._wrong.move_to_end(address)
        if len(self._wrong) > _MAX_ADDRESSES:
            self._wrong.popitem(last=False)


def _digest(text: str) -> bytes:
    """Of the same length for every text, so that comparing tells nothing of the secret's length."""
    return hashlib.sha256(text.encode()).digest()
