"""A running client between a stand-in reducer and stand-in combiners."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.client.agent import ClientAgent
from fedn.models.digest import digest
from fedn.models.wire import encode
from fedn.plan.settings import ClientSettings
from tests.integration.client.stand_ins import FakeReducer, Place, write_learner
from tests.support.fake_combiner import FakeCombiner, FakeStream


@pytest.fixture
def reducer(tmp_path: Path) -> Iterator[FakeReducer]:
    folder = tmp_path / "reducer"
    folder.mkdir()
    with FakeReducer(folder) as reducer:
        yield reducer


@pytest.fixture
def settings(tmp_path: Path, reducer: FakeReducer) -> Callable[..., ClientSettings]:
    """Makes settings of a client with the learner PlusOne; keywords change them."""

    def make(**changes: Any) -> ClientSettings:
        fields: dict[str, Any] = {
            "name": "alice",
            "join": reducer.join,
            "data_dir": tmp_path / "client",
            "learner": write_learner(tmp_path / "code"),
        }
        return ClientSettings(**(fields | changes))

    return make


@asynccontextmanager
async def running(settings: ClientSettings) -> AsyncIterator[ClientAgent]:
    """A client that runs until the end of the block, and then ends cleanly."""
    agent = ClientAgent(settings)
    task = asyncio.create_task(agent.run())
    try:
        yield agent
    finally:
        agent.stop()
        await task


@asynccontextmanager
async def attached(
    reducer: FakeReducer, settings: ClientSettings
) -> AsyncIterator[tuple[FakeStream, FakeCombiner, ClientAgent]]:
    """A client that is attached to a stand-in combiner."""
    async with FakeCombiner(reducer.ca) as combiner:
        reducer.places = [Place(combiner.name, combiner.port)]
        async with running(settings) as agent:
            yield await combiner.attached(), combiner, agent


def model_of(*arrays: np.ndarray) -> tuple[str, bytes]:
    """(digest, bytes) of a model of unnamed arrays."""
    data = bytes(encode({str(position): array for position, array in enumerate(arrays)}))
    return digest(data), data
