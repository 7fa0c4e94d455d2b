"""A federation's trust, as for the combiner's own tests."""

import pytest

from tests.support.wire import Trust


@pytest.fixture(scope="session")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return Trust(tmp_path_factory.mktemp("trust"))
