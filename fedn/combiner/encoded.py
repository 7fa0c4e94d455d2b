"""Global models as chains of codecs made them: each once, however many clients get it."""

import asyncio
from collections import OrderedDict
from concurrent.futures import Executor

from fedn.combiner.coding import encode_model
from fedn.combiner.objects import ObjectCache, StoredObject
from fedn.plan.logs import bind
from fedn.protocol.errors import FednError
from fedn.protocol.tasks import CodecChain

_log = bind(__name__)

_REMEMBERED = 8
"""Encoded models whose digests are known; the objects are held as others are."""

Coded = asyncio.Future[StoredObject | None]


class EncodedModels:
    """See the module. Belongs to one loop; encodes in threads."""

    def __init__(self, objects: ObjectCache, executor: Executor) -> None:
        self._objects = objects
        self._executor = executor
        self._known: OrderedDict[tuple[str, str], Coded] = OrderedDict()

    def get(self, stored: StoredObject, chain: CodecChain) -> Coded:
        """The encoded model; None where it cannot be encoded, and has to go out as it is."""
        key = stored.object_id, repr(chain)
        known = self._known.get(key)
        if known is not None and self._still_there(known):
            self._known.move_to_end(key)
            return known
        coded = self._known[key] = asyncio.ensure_future(self._encode(stored, chain))
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return coded

    def _still_there(self, coded: Coded) -> bool:
        if not coded.done():
            return True
        if coded.cancelled() or coded.exception() is not None:
            return False
        stored = coded.result()
        return stored is None or stored.object_id in self._objects

    async def _encode(self, stored: StoredObject, chain: CodecChain) -> StoredObject | None:
        loop = asyncio.get_running_loop()
        try:
            encoded = await loop.run_in_executor(self._executor, encode_model, stored, chain)
        except FednError as error:
            _log.warning("the model %s goes out as it is: %s", stored.object_id, error)
            return None
        self._objects.add(encoded)
        return encoded
