"""Every error that fedn raises on purpose, each with a code that the documentation explains.

A message has three parts: what happened, where (session, round, client, field, file), what to do. The HTTP status and
the gRPC status belong to the class; the code names the case.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self


class FednError(Exception):
    """Base of all errors of fedn.

    Args:
        code: the case, in lower_snake_case; explained in docs/reference/errors.md, and by `fedn explain CODE`.
        message: what happened, in one sentence.
        fix: what to do about it, in one sentence; empty where nothing can be done.
        where: names of things the error is about: session, round, client, field, file and the like.
    """

    http_status: ClassVar[int] = 500
    grpc_status: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False

    def __init__(self, code: str, message: str, *, fix: str = "", where: Mapping[str, object] | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.fix = fix
        self.where = {key: str(value) for key, value in (where or {}).items()}

    @property
    def placed(self) -> str:
        """What happened, and where."""
        place = ", ".join(f"{key} {value}" for key, value in self.where.items())
        return f"{self.message} ({place})" if place else self.message

    def __str__(self) -> str:
        text = self.placed
        text = text if text.endswith((".", "!", "?")) else text + "."
        return f"{text} {self.fix}".rstrip() + f" [{self.code}]"

    def without_frames(self) -> Self:
        """This error, for who keeps it: without the frames that it passed through, which hold all their variables."""
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self

    def as_problem(self) -> dict[str, Any]:
        """The error as problem+json (RFC 9457). `type` is a page that every reducer serves."""
        return {
            "type": f"/errors/{self.code}",
            "title": self.message,
            "status": self.http_status,
            "code": self.code,
            "fix": self.fix,
            "where": self.where,
            "retryable": self.retryable,
        }


class InvalidInput(FednError):
    """What was given does not fit: a value, a file, a plan, a model."""

    http_status = 422
    grpc_status = "INVALID_ARGUMENT"


class InvalidSettings(InvalidInput):
    """Several faults of one configuration, told at once."""

    def __init__(self, problems: list[FednError], *, what: str) -> None:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__("invalid_settings", f"{what} has {len(problems)} fault(s):\n{lines}")
        self.problems = problems

    def as_problem(self) -> dict[str, Any]:
        return {**super().as_problem(), "problems": [problem.as_problem() for problem in self.problems]}


class Unauthenticated(FednError):
    """Nobody, or nobody known: the token or certificate is missing, wrong or expired."""

    http_status = 401
    grpc_status = "UNAUTHENTICATED"


class Forbidden(FednError):
    """Known, but not allowed to do this."""

    http_status = 403
    grpc_status = "PERMISSION_DENIED"


class NotFound(FednError):
    http_status = 404
    grpc_status = "NOT_FOUND"


class Conflict(FednError):
    """It contradicts what is there already: a taken name, a running session, a trail index that exists."""

    http_status = 409
    grpc_status = "FAILED_PRECONDITION"


class LimitExceeded(FednError):
    """Larger, longer or more than allowed."""

    http_status = 413
    grpc_status = "RESOURCE_EXHAUSTED"


class Unavailable(FednError):
    """Not now: a peer or a store is away, or everything is full. Trying again later may help."""

    http_status = 503
    grpc_status = "UNAVAILABLE"
    retryable = True


class StoreUnavailable(Unavailable):
    """A model store or state store does not answer; its state is unchanged or unknown, and the call may be repeated."""


class IntegrityError(FednError):
    """Bytes, a hash chain or a signature are not what they must be."""

    http_status = 500
    grpc_status = "DATA_LOSS"


class TrailCut(IntegrityError):
    """A trail does not hold an entry that is known to have been written: it contradicts what the caller knows."""

    http_status = 409


class UpdateRefused(InvalidInput):
    """An update that must not count: wrong round, base, names, shapes, dtypes, values or weight."""


class TaskFailed(FednError):
    """The client's own code failed, hung, or was killed."""

    http_status = 500
    grpc_status = "ABORTED"
