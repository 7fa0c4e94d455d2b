"""The models that the light clients of one process work on: their bytes are held once, however many clients hold them.

Each client still receives and verifies what it says it received; of its bytes it keeps nothing. One of those that
receive a model at the same time, the keeper, writes what it gets into the one copy.
"""

import asyncio
import mmap
import tempfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from fedn.models.digest import Hasher, algorithm_of
from fedn.models.wire import ModelSpec, read_spec
from fedn.protocol.errors import IntegrityError, InvalidInput, LimitExceeded

_IN_MEMORY_BYTES = 64 << 20
"""Larger models lie in a file without a name, mapped: the kernel may take their memory back."""
_KEPT = 2
"""Models that nobody works on any more, the newest."""

Bytes = bytearray | mmap.mmap


@dataclass(frozen=True, eq=False)
class SharedModel:
    """A model, whole and verified. What works on it holds it; the bytes go with the last of them."""

    object_id: str
    buffer: Bytes
    spec: ModelSpec


class SharedModels:
    """See the module. Belongs to one loop.

    Args:
        folder: for large models; None: the system's temporary folder.
        kept: models kept that nobody works on.
    """

    def __init__(self, folder: Path | None = None, kept: int = _KEPT) -> None:
        self._folder = folder
        self._kept = kept
        self._models: OrderedDict[str, SharedModel] = OrderedDict()
        self._keeping: dict[str, asyncio.Future[None]] = {}

    def __contains__(self, object_id: str) -> bool:
        return object_id in self._models

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._models)

    def get(self, object_id: str) -> SharedModel | None:
        model = self._models.get(object_id)
        if model is not None:
            self._models.move_to_end(object_id)
        return model

    def keep(self, object_id: str, size_bytes: int) -> "Keeper | None":
        """The right to bring the model's bytes; None where they are here, or somebody else brings them.

        LimitExceeded (`disk_full`) where there is no room.
        """
        if object_id in self._models or object_id in self._keeping:
            return None
        try:
            buffer = _room(size_bytes, self._folder)
        except OSError as error:
            raise LimitExceeded(
                "disk_full",
                f"there is no room for a model of {size_bytes} bytes: {error.strerror}",
                fix="Free space, or give the swarm another --data-dir.",
            ) from error
        self._keeping[object_id] = asyncio.get_running_loop().create_future()
        return Keeper(self, object_id, buffer)

    async def wait(self, object_id: str) -> SharedModel | None:
        """The model, once its keeper has it; None where nobody brings it, or its keeper did not get it whole."""
        keeping = self._keeping.get(object_id)
        if keeping is not None:
            await asyncio.shield(keeping)
        return self.get(object_id)

    def _kept_whole(self, model: SharedModel) -> None:
        self._models[model.object_id] = model
        self._end_keeping(model.object_id)
        while len(self._models) > self._kept:
            self._models.popitem(last=False)

    def _end_keeping(self, object_id: str) -> None:
        keeping = self._keeping.pop(object_id, None)
        if keeping is not None and not keeping.done():
            keeping.set_result(None)


class Keeper:
    """Brings the bytes of one model. To be ended by `finish` or `abandon`."""

    def __init__(self, models: SharedModels, object_id: str, buffer: Bytes) -> None:
        self._models = models
        self._object_id = object_id
        self._buffer = buffer

    def write(self, offset: int, data: memoryview) -> None:
        self._buffer[offset : offset + len(data)] = data

    def finish(self) -> None:
        """All is there, and the one who brought it has verified it. InvalidInput (`bad_model`) where it is no model."""
        try:
            spec = read_spec(self._buffer)
        except InvalidInput:
            self.abandon()
            raise
        self._models._kept_whole(SharedModel(self._object_id, self._buffer, spec))

    def abandon(self) -> None:
        """It does not come whole: another client shall bring it."""
        self._models._end_keeping(self._object_id)


class Receipt:
    """One object on its way to one client: hashed as it arrives, and forgotten. Outlives a broken stream.

    Args:
        keeper: writes the bytes down for the process; None where that is not this client's part.
    """

    __slots__ = ("_hasher", "keeper", "object_id", "received", "size_bytes")

    def __init__(self, object_id: str, size_bytes: int, keeper: Keeper | None) -> None:
        self.object_id = object_id
        self.size_bytes = size_bytes
        self.received = 0
        self.keeper = keeper
        self._hasher = Hasher(algorithm_of(object_id))

    def take(self, offset: int, data: memoryview) -> bool:
        """The next piece; whether the object is whole now.

        Raises:
            InvalidInput: (`bad_frame`) the piece is out of step: end the stream.
            IntegrityError: (`digest_mismatch`) the bytes are others than the digest says.
        """
        end = offset + len(data)
        if offset != self.received or end > self.size_bytes:
            raise InvalidInput("bad_frame", f"a piece came at {offset}, the object goes on at {self.received}")
        self._hasher.update(data)
        if self.keeper is not None:
            self.keeper.write(offset, data)
        self.received = end
        if end < self.size_bytes:
            return False
        if self._hasher.digest() != self.object_id:
            self.drop()
            where = {"object": self.object_id}
            raise IntegrityError("digest_mismatch", "an object arrived as something else", where=where)
        if self.keeper is not None:
            keeper, self.keeper = self.keeper, None
            keeper.finish()
        return True

    def drop(self) -> None:
        """It is not wanted any more, or not to be had."""
        if self.keeper is not None:
            self.keeper.abandon()
            self.keeper = None


def _room(size_bytes: int, folder: Path | None) -> Bytes:
    if size_bytes <= _IN_MEMORY_BYTES:
        return bytearray(size_bytes)
    with tempfile.TemporaryFile(dir=folder, prefix="swarm-model-") as file:
        file.truncate(size_bytes)
        return mmap.mmap(file.fileno(), size_bytes)
