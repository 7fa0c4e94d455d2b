"""Waits for objects that tasks need: those the combiner pushes, and those it is asked for."""

import asyncio
from collections.abc import Callable

from fedn.client.objects import Held, Incoming, ObjectCache
from fedn.network.generated import client_pb2 as wire
from fedn.network.generated import common_pb2 as common
from fedn.protocol.errors import FednError, IntegrityError, InvalidInput, TaskFailed

_TRIES = 3

Post = Callable[[wire.ClientFrame], None]


class Downloads:
    """What arrives, and who waits for it. Outlives the streams.

    Args:
        cache: where objects are kept.
        post: sends a control message, if a stream is open.
    """

    def __init__(self, cache: ObjectCache, post: Post) -> None:
        self._cache = cache
        self._post = post
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._asked: dict[str, common.ObjectKind] = {}
        self._tries: dict[str, int] = {}
        self._incoming: Incoming | None = None
        self._skipping = False

    async def get(self, object_id: str, kind: common.ObjectKind) -> Held:
        """The object, as soon as it is here.

        Raises:
            TaskFailed: `object_missing`, the combiner has it not.
            IntegrityError: `digest_mismatch`, again and again.
            LimitExceeded: `disk_full`.
        """
        while (held := self._cache.get(object_id)) is None:
            future = self._waiting.get(object_id)
            if future is None:
                future = self._waiting[object_id] = asyncio.get_running_loop().create_future()
            self.ask(object_id, kind)
            await asyncio.shield(future)
        return held

    def ask(self, object_id: str, kind: common.ObjectKind) -> None:
        """Asks the combiner for an object, unless it is here, on its way, or asked for on this stream already."""
        on_its_way = self._incoming is not None and self._incoming.object_id == object_id
        if on_its_way or object_id in self._asked or self._cache.get(object_id) is not None:
            return
        self._asked[object_id] = kind
        offset = self._cache.received(object_id)
        self._post(wire.ClientFrame(fetch=common.ObjectFetch(object_id=object_id, offset=offset, kind=kind)))

    def resume(self) -> None:
        """A new stream: packages that somebody waits for are asked for again; models come with their tasks."""
        wanted = {name: kind for name, kind in self._asked.items() if name in self._waiting}
        self._asked.clear()
        for object_id, kind in wanted.items():
            if kind == common.OBJECT_KIND_PACKAGE:
                self.ask(object_id, kind)

    def pause(self) -> None:
        """The stream broke."""
        self._incoming = None
        self._skipping = False
        self._cache.pause()

    def begin(self, message: common.ObjectBegin) -> None:
        """InvalidInput (`bad_frame`, `bad_digest`) where the combiner is out of step: end the stream."""
        self._incoming, self._skipping = None, False
        try:
            self._incoming = self._cache.begin(message.object_id, message.kind, message.size_bytes, message.offset)
        except InvalidInput:
            raise
        except FednError as error:
            self._fail(message.object_id, error)
        self._skipping = self._incoming is None
        if self._incoming is not None and message.offset == message.size_bytes:
            self.piece(message.offset, memoryview(b""))

    def piece(self, offset: int, data: memoryview) -> None:
        """InvalidInput (`bad_frame`) where the combiner is out of step: end the stream."""
        item = self._incoming
        if item is None:
            if self._skipping:
                return
            raise InvalidInput("bad_frame", "a piece came that belongs to no object")
        if offset != item.received:
            raise InvalidInput("bad_frame", f"a piece came at {offset}, the object goes on at {item.received}")
        try:
            whole = self._cache.take(item, data)
        except InvalidInput:
            raise
        except IntegrityError as error:
            self._incoming, self._skipping = None, True
            self._ask_again(item, error)
        except FednError as error:
            self._incoming, self._skipping = None, True
            self._fail(item.object_id, error)
        else:
            if whole:
                self._incoming = None
                self._settle(item.object_id)

    def missing(self, object_id: str) -> None:
        """The combiner has it not."""
        self._fail(object_id, TaskFailed("object_missing", f"the combiner does not have the object {object_id}"))

    def _ask_again(self, item: Incoming, error: IntegrityError) -> None:
        tries = self._tries[item.object_id] = self._tries.get(item.object_id, 0) + 1
        if tries >= _TRIES:
            self._fail(item.object_id, error)
        else:
            self._asked.pop(item.object_id, None)
            self.ask(item.object_id, item.kind)

    def _settle(self, object_id: str) -> None:
        self._asked.pop(object_id, None)
        self._tries.pop(object_id, None)
        future = self._waiting.pop(object_id, None)
        if future is not None and not future.done():
            future.set_result(None)

    def _fail(self, object_id: str, error: FednError) -> None:
        self._asked.pop(object_id, None)
        self._tries.pop(object_id, None)
        future = self._waiting.pop(object_id, None)
        if future is not None and not future.done():
            future.set_exception(error)
            future.exception()  # seen: the one who waited may have been cancelled
