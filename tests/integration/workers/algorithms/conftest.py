"""Every algorithm runs over every back end."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.support.worker_backends import CONNECTS, Run, run_over


@pytest.fixture(params=CONNECTS.values(), ids=CONNECTS.keys())
def run(request: pytest.FixtureRequest) -> Run:
    over: Callable[[int, Callable[[int], Any]], list[Any]] = partial(run_over, request.param)
    return over
