"""What all payloads have in common: the prefix, pages of lists, JSON values, and the shape of an error."""

import math
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field

from fedn.protocol.tasks import Frozen

API_PREFIX = "/api/v1"
MAX_PAGE = 1000
"""Items of one page at the most; `limit` may ask for fewer."""

T = TypeVar("T")


def as_json(value: Any) -> Any:
    """The JSON value of a payload (or of lists and mappings of payloads), safe for strict JSON writers."""
    if isinstance(value, BaseModel):
        return as_json(value.model_dump(mode="json", by_alias=True))
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


class Page(Frozen, Generic[T]):
    """A part of a list: `items` are those from `offset` on, `limit` at the most, of `total`."""

    items: tuple[T, ...]
    total: int
    offset: int = 0
    limit: int


class ProblemView(BaseModel):
    """An error answer (RFC 9457), content type application/problem+json."""

    type: str
    title: str
    status: int
    code: str
    """Explained in docs/reference/errors.md."""
    fix: str = ""
    where: dict[str, str] = Field(default_factory=dict)
    retryable: bool = False
    problems: tuple["ProblemView", ...] = ()
    """The single faults of `invalid_settings`."""
