"""Sends one spooled result, from the offset that a grant names."""

from fedn.client.spool import SpooledResult
from fedn.network.frames import CHUNK_BYTES, encode_piece
from fedn.network.generated import client_pb2 as wire
from fedn.protocol.errors import InvalidInput


class Upload:
    """The pieces of a result, and the message that ends them; see `fedn.client.stream.PieceSource`.

    Args:
        result: stays in the spool until it is acknowledged.
        offset: bytes that the combiner has already.
        chunk_bytes: size of the pieces.
        says_end: whether the pieces are followed by an UploadEnd.

    Raises:
        InvalidInput: (`bad_frame`) the offset lies outside the result.
    """

    def __init__(
        self, result: SpooledResult, offset: int, chunk_bytes: int = CHUNK_BYTES, *, says_end: bool = True
    ) -> None:
        if offset > result.size_bytes:
            raise InvalidInput("bad_frame", f"a grant from {offset}, the result has {result.size_bytes} bytes")
        self.task_id = result.metadata.task_id
        self._result = result
        self._offset = offset
        self._chunk_bytes = chunk_bytes
        self._view: memoryview | None = None
        self._ended = not says_end

    def next_message(self) -> bytes | None:
        if self._offset < self._result.size_bytes:
            if self._view is None:
                self._view = self._result.open()
            with self._view[self._offset : self._offset + self._chunk_bytes] as data:
                message = encode_piece(self._offset, data)
                self._offset += len(data)
            return message
        self.close()
        if self._ended:
            return None
        self._ended = True
        return wire.ClientFrame(upload_end=wire.UploadEnd(task_id=self.task_id)).SerializeToString()

    def close(self) -> None:
        """Lets the file go; may be called twice."""
        if self._view is not None:
            self._view.release()
            self._view = None
