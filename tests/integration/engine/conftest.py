"""What the engine's tests share."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a round waits for after a combiner is gone is not what these tests are about."""
    monkeypatch.setattr("fedn.reducer.engine.roster.REATTACH_GRACE_S", 0.2)
    return
