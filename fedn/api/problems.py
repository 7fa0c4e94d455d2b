"""Turns an error answer of the REST API (problem+json, RFC 9457) back into the typed error that the reducer raised."""

import json
from collections.abc import Mapping
from typing import Any

from fedn.protocol.errors import (
    Conflict,
    FednError,
    Forbidden,
    IntegrityError,
    InvalidInput,
    InvalidSettings,
    LimitExceeded,
    NotFound,
    Unauthenticated,
    Unavailable,
)

_BY_STATUS: dict[int, type[FednError]] = {
    400: InvalidInput,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: InvalidInput,
    409: Conflict,
    413: LimitExceeded,
    415: InvalidInput,
    422: InvalidInput,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}

_INTEGRITY_CODES = frozenset({"trail_broken", "trail_cut", "trail_rolled_back", "digest_mismatch"})
"""Codes whose class cannot be told from the status."""


def error_from_answer(status: int, body: bytes, *, url: str) -> FednError:
    """The error that an answer of status ≥ 400 stands for.

    An answer that is no problem+json (a proxy's page, another server) becomes `not_a_reducer` or, for a gateway's
    status, the retryable `reducer_unreachable`.
    """
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    if isinstance(problem, Mapping) and isinstance(problem.get("code"), str):
        return _from_problem(status, problem)
    if status in {502, 503, 504}:
        return Unavailable(
            "reducer_unreachable",
            f"something between here and the reducer answered with status {status}",
            fix="Try again; if it stays so, look at the proxy or load balancer in front of the reducer.",
            where={"url": url},
        )
    return not_a_reducer(url, f"status {status} and no error that fedn knows")


def not_a_reducer(url: str, what: str) -> FednError:
    """The error for an answer that no reducer gives."""
    return InvalidInput(
        "not_a_reducer",
        f"the answer is not a reducer's: {what}",
        fix="Check the address and port: it is the one that `fedn reducer start` prints.",
        where={"url": url},
    )


def _from_problem(status: int, problem: Mapping[str, Any]) -> FednError:
    nested = problem.get("problems")
    if problem["code"] == "invalid_settings" and isinstance(nested, list):
        faults = [_from_problem(422, item) for item in nested if isinstance(item, Mapping) and "code" in item]
        return InvalidSettings(faults, what="What was sent")
    where = problem.get("where")
    kind = IntegrityError if problem["code"] in _INTEGRITY_CODES else _BY_STATUS.get(status, FednError)
    return kind(
        str(problem["code"]),
        str(problem.get("title") or f"the reducer answered with status {status}"),
        fix=str(problem.get("fix") or ""),
        where=where if isinstance(where, Mapping) else None,
    )
