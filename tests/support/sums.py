"""Results of aggregates, put together."""

from fedn.aggregation.base import Aggregate


def whole_result(aggregate: Aggregate, piece_bytes: int = 128) -> bytearray:
    """In pieces so small that tests' models have several."""
    whole = bytearray()
    for piece in aggregate.result(piece_bytes):
        whole += piece
    return whole
