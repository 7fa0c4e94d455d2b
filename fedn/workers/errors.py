"""Why a message, a peer or a round of a worker fails, beside the errors of `fedn.protocol`."""

from fedn.protocol.errors import InvalidInput, Unavailable


class BadMessage(InvalidInput):
    """Bytes, or parameters, that are no message."""


class PeerUnavailable(Unavailable):
    """Another worker is gone, or takes nothing: waiting for it is in vain."""


class RoundIncomplete(Unavailable):
    """The messages of a round did not all come in time, nor a quorum of them."""
