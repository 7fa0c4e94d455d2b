"""Every algorithm runs over every back end."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.support.worker_backends import NAMES, Run, connect_over, run_over


@pytest.fixture(params=NAMES)
def run(request: pytest.FixtureRequest) -> Run:
    over: Callable[[int, Callable[[int], Any]], list[Any]] = partial(run_over, connect_over(request))
    return over
