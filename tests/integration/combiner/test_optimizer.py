"""An optimizer at a combiner, over real streams: its state is asked for, waited for, and returned with the model."""

import asyncio

import numpy as np

from fedn.aggregation.combine import mean_layout
from fedn.aggregation.optimizers.state import NewState, ServerState
from fedn.models.digest import digest
from fedn.models.wire import decode, read_spec
from fedn.network.generated import client_pb2
from fedn.protocol.rounds import LedgerState
from tests.support.wire import Scene, model, round_spec, scenario

BASE = model(0.0)
MOMENTUM = {"combiner_optimizer": "sgd", "combiner_optimizer_options": {"momentum": 0.5, "learning_rate": 1.0}}


def state_of(momentum: float, steps: int) -> bytes:
    """As a combiner with that optimizer leaves it, with the same momentum everywhere."""
    tensors = [(one.name, np.dtype(np.float64), one.shape) for one in read_spec(BASE).tensors if one.dtype.kind == "f"]
    new = NewState("sgd", ["momentum"], tensors, steps)
    for name, _, shape in tensors:
        new.slot("momentum", name, 0, int(np.prod(shape)))[:] = momentum
    return bytes(new.finished().data)


@scenario()
async def test_the_round_waits_for_the_state_and_returns_the_next_one(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        client = scene.client("a")
        assert isinstance(await client.hello(), client_pb2.Welcome)
        async with client:
            before = state_of(1.0, 3)
            spec = round_spec(BASE, ["a"], optimizer_state_id=digest(before), **MOMENTUM)
            status = await reducer.start(spec, {digest(BASE): BASE})
            assert set(status.needed_objects) == {digest(BASE), digest(before)}
            task = await client.accept()
            assert isinstance(await client.answer(task, model(2.0), num_examples=10), client_pb2.Ack)
            await reducer.ledger("a", LedgerState.UPDATED)
            done = asyncio.create_task(reducer.done(spec.name))
            await reducer.push(digest(before), before)
            result = await reducer.fetch((await done).model_id)
            assert result is not None
            size_bytes = mean_layout(read_spec(BASE)).spec.size_bytes
            # 0.5 · 1 + 2 is the momentum, and so the step.
            assert np.all(decode(bytes(result[:size_bytes]))["w"] == 2.5)
            after = ServerState.read(bytes(result[size_bytes:]))
            assert after.steps == 4 and np.all(after.slot("momentum", "w", 0, 1) == 2.5)

            # The next round may begin with it at once: this combiner has it.
            again = round_spec(BASE, ["a"], index=1, optimizer_state_id=digest(bytes(after.data)), **MOMENTUM)
            assert not (await reducer.start(again)).needed_objects


@scenario()
async def test_a_round_whose_state_never_comes_can_be_cancelled(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        client = scene.client("a")
        assert isinstance(await client.hello(), client_pb2.Welcome)
        async with client:
            spec = round_spec(BASE, ["a"], optimizer_state_id=digest(b"away"), **MOMENTUM)
            await reducer.start(spec, {digest(BASE): BASE})
            task = await client.accept()
            assert isinstance(await client.answer(task, model(2.0), num_examples=10), client_pb2.Ack)
            await reducer.ledger("a", LedgerState.UPDATED)
            await reducer.order("cancel", spec.name)
            assert (await reducer.done(spec.name)).reason == "cancelled"


@scenario()
async def test_a_round_without_means_of_its_own_is_refused(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        for index, changes in enumerate(({"rule": "fednova"}, {"buffered": True})):
            spec = round_spec(BASE, ["a"], index=index, **MOMENTUM, **changes)
            assert (await reducer.start(spec, {digest(BASE): BASE})).problem.code == "bad_plan"
