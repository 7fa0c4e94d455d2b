"""A combiner model that is the next global model as it is, on its way from the link into the model store.

It is checked, hashed and written while it arrives, by another thread than the loop's, and does not lie in memory as a
whole unless the store is slower than the link.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from fedn.aggregation.checks import FiniteCheck
from fedn.aggregation.combine import MeanLayout, does_not_fit
from fedn.protocol.errors import IntegrityError, InvalidInput, UpdateRefused
from fedn.protocol.names import check_digest
from fedn.stores.base import ModelStore, ObjectWriter

_HAND_OVER = 4
"""Pieces that wait before the other thread is asked to take them: what is smaller is taken at the end, at once."""

Execute = Callable[[Callable[[], None]], "Future[None]"]


class ModelArrival:
    """The sink of a download. `take`, `finish` and `drop` belong to the loop, `keep` to the thread of `execute`.

    Args:
        layout: what the model must be like.
        execute: has a call done by the one thread that writes models, again for as long as the store is away.
    """

    def __init__(self, object_id: str, layout: MeanLayout, store: ModelStore, execute: Execute) -> None:
        self._object_id = object_id
        self._layout = layout
        self._store = store
        self._execute = execute
        self._pieces: deque[tuple[int, memoryview]] = deque()
        self._asked = False
        """Whether the other thread was asked to take what has come."""
        self._writer: ObjectWriter | None = None
        self._check = FiniteCheck(layout.spec)
        self._misfit = False
        """Whether its header is not the one that it must have."""
        self._dropped = self._kept = False

    def take(self, offset: int, data: memoryview) -> None:
        self._pieces.append((offset, data))
        if len(self._pieces) >= _HAND_OVER and not self._asked:
            self._asked = True
            loop = asyncio.get_running_loop()
            self._execute(self._write).add_done_callback(lambda _: loop.call_soon_threadsafe(self._written))

    def _written(self) -> None:
        self._asked = False

    def finish(self) -> str:
        return ""  # told by `keep`

    def drop(self) -> None:
        """Nobody wants it any more. Harmless after `keep`."""
        if self._kept:
            return
        self._dropped = True
        self._execute(self._close)

    def keep(self) -> None:
        """Stores the model durably, once all of it has come.

        Raises:
            IntegrityError: (`digest_mismatch`) it did not arrive as it was sent.
            InvalidInput: (`combiner_model_does_not_fit`, `combiner_model_not_finite`) it must not become global.
            StoreUnavailable: the call may be repeated.
        """
        self._write()
        writer = self._opened()
        found = writer.digest()
        if found != self._object_id:
            raise IntegrityError(
                "digest_mismatch",
                f"a combiner model arrived with the digest {found}",
                fix="It is fetched again; if this repeats, look at the network between the tiers.",
                where={"object": self._object_id},
            )
        if self._misfit:
            raise does_not_fit("The combiner model", "its header is another one")
        try:
            self._check.finish()
        except UpdateRefused as error:
            raise InvalidInput(
                "combiner_model_not_finite",
                f"the combiner model cannot become the global model: {error.message}",
                fix="The round is tried again; look at the clients' updates and the combiner's log.",
                where=error.where,
            ) from error
        writer.keep(self._object_id)
        self._kept = True
        self._close()

    def _opened(self) -> ObjectWriter:
        if self._writer is None:
            algorithm, _ = check_digest(self._object_id)
            self._writer = self._store.writer(algorithm, self._layout.spec.size_bytes)
        return self._writer

    def _write(self) -> None:
        """Takes in what has come. Where the store is away, a piece stays until the call is repeated."""
        while self._pieces and not self._dropped:
            offset, data = self._pieces[0]
            self._opened().write(data)
            self._pieces.popleft()
            expected = self._layout.header[offset : offset + len(data)]
            self._misfit = self._misfit or data[: len(expected)] != expected
            self._check.feed(offset, data)

    def _close(self) -> None:
        self._pieces.clear()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
