"""What every test may use: real servers, one of each for the whole run, started when first asked for."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support import servers

# The machine that runs the tests may be slow and shared: no example fails for the time that it took.
# The same code passes or fails each time; `thorough` is the one that looks for new examples.
settings.register_profile(
    "fedn", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("thorough", parent=settings.get_profile("fedn"), derandomize=False, max_examples=1000)
settings.load_profile("fedn")

# Programs that tests start are ended with Ctrl-C. A run in the background ignores that signal, and its children would
# inherit this; they do not inherit a handler.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def mongodb_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`mongodb://host:port` of a real MongoDB. Use a database of your own."""
    with servers.mongodb_url(tmp_path_factory.mktemp("mongodb")) as url:
        yield url


@pytest.fixture(scope="session")
def s3_moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.S3Account]:
    """An S3 server with versions and object lock. Use a bucket of your own."""
    with servers.s3_moto(tmp_path_factory.mktemp("moto")) as account:
        yield account


@pytest.fixture(scope="session")
def s3_rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.S3Account]:
    """An S3 server without versions. Use a bucket of your own."""
    with servers.s3_rclone(tmp_path_factory.mktemp("rclone")) as account:
        yield account


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`redis://host:port/0` of a real Redis."""
    with servers.redis_url(tmp_path_factory.mktemp("redis")) as url:
        yield url
