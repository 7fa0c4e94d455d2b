"""One client's way through its tasks, over real gRPC and TLS, with the learner in its real worker process."""

import asyncio
from collections.abc import Callable

import numpy as np

from fedn.models.digest import digest
from fedn.models.wire import decode
from fedn.plan.settings import ClientSettings
from tests.integration.client.conftest import model_of, running
from tests.integration.client.stand_ins import FakeReducer, Place
from tests.support.fake_combiner import FakeCombiner, round_name, train_task

MakeSettings = Callable[..., ClientSettings]


def test_trains_and_uploads_what_it_made(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        model_id, data = model_of(np.arange(4, dtype=np.float32))
        async with FakeCombiner(reducer.ca) as combiner:
            reducer.places = [Place("fake", combiner.port)]
            async with running(settings()):
                stream = await combiner.attached()
                assert stream.hello.client == "alice"
                assert sorted(stream.hello.kinds) == [1, 2, 3, 4]
                await stream.push(model_id, data)
                await stream.task(train_task("alice", model_id, validate_incoming=True), round_name())
                assert (await stream.expect("task_accepted")).task_id == "t1"
                ready, update = await stream.take("t1")
                assert digest(update) == ready.object_id
                np.testing.assert_array_equal(decode(update)["0"], [1, 2, 3, 4])
                metadata = ready.metadata
                assert (metadata.num_examples, metadata.num_steps, metadata.base_model_id) == (7, 3, model_id)
                assert dict(metadata.metrics) == {"loss": 0.25}
                assert dict(metadata.validation) == {"mean": 1.5}
                assert metadata.num_validation_examples == 5

    asyncio.run(scenario())
