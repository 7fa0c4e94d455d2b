"""One certificate authority for all tests of the combiner: making keys costs more than using them."""

import pytest

from tests.support.wire import Trust


@pytest.fixture(scope="session")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return Trust(tmp_path_factory.mktemp("trust"))
