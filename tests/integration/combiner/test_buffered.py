"""Buffered rounds, of asynchronous sessions, over real streams: sums are handed up while tasks go on and are added."""

import asyncio

import numpy as np

from fedn.models.digest import digest
from fedn.models.wire import decode
from fedn.network.generated import client_pb2
from fedn.protocol.rounds import LedgerState
from tests.integration.combiner.test_rounds import attached
from tests.support.wire import Scene, model, round_spec, scenario

BASE = model(1.0, n=np.int64(4))
OBJECTS = {digest(BASE): BASE}


def update(value: float) -> bytes:
    return model(value, n=np.int64(8))


@scenario()
async def test_what_is_in_is_handed_up_as_a_difference_and_what_comes_later_goes_into_the_next_one(
    scene: Scene,
) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        a, b, c = await attached(scene, "a", "b", "c")
        async with a, b, c:
            spec = round_spec(BASE, ["a", "b"], buffered=True)
            await reducer.start(spec, OBJECTS)
            await a.answer(await a.accept(), update(3.0), num_examples=30)
            await reducer.ledger("a", LedgerState.UPDATED)
            await reducer.order("hand_up", spec.name, number=1)
            first = await reducer.handed_up(1)
            assert [(part.client, part.weight) for part in first.contributions] == [("a", 30.0)] and first.weight == 30
            tensors = decode(await reducer.fetch(first.model_id) or b"")
            np.testing.assert_array_equal(tensors["w"], np.full_like(tensors["w"], 2.0))
            assert tensors["n"] == 8.0  # what is no float is the mean itself
            # One more task, from the same base, while b still works on its own.
            more = round_spec(BASE, ["a", "b", "c"], buffered=True)
            assert list((await reducer.start(more)).needed_objects) == []
            await c.answer(await c.accept(), update(0.0), num_examples=10)
            await b.answer(await b.accept(), update(2.0), num_examples=10)
            for client in ("b", "c"):
                await reducer.ledger(client, LedgerState.UPDATED)
            await reducer.order("hand_up", spec.name, number=2)
            second = await reducer.handed_up(2)
            assert [part.client for part in second.contributions] == ["b", "c"] and second.weight == 20.0
            tensors = decode(await reducer.fetch(second.model_id) or b"")
            np.testing.assert_array_equal(tensors["w"], np.zeros_like(tensors["w"]))
            # Nothing is in: nothing is handed up, and the number counts all the same.
            await reducer.order("hand_up", spec.name, number=3)
            assert not (await reducer.handed_up(3)).model_id
            await reducer.order("commit_ack", spec.name)
            assert (await reducer.watch(spec.name)).problem.code == "round_unknown"


@scenario()
async def test_a_reducer_that_comes_back_hears_of_a_hand_up_again_and_finds_its_model_until_it_is_durable(
    scene: Scene,
) -> None:
    (a,) = await attached(scene, "a")
    async with a:
        spec = round_spec(BASE, ["a"], buffered=True)
        async with scene.reducer() as reducer:
            await reducer.hello()
            await reducer.start(spec, OBJECTS)
            await a.answer(await a.accept(), update(3.0))
            await reducer.ledger("a", LedgerState.UPDATED)
            await reducer.order("hand_up", spec.name, number=1)
            told = await reducer.handed_up(1)
        async with scene.reducer() as reducer:
            await reducer.hello(epoch=2)
            await reducer.watch(spec.name)
            await reducer.order("hand_up", spec.name, number=1)
            assert await reducer.handed_up(1) == told
            assert await reducer.fetch(told.model_id) is not None
            await reducer.order("hand_up_ack", spec.name, number=1)
            await reducer.ping()
            await reducer.order("hand_up", spec.name, number=2)
            assert not (await reducer.handed_up(2)).model_id


@scenario()
async def test_a_task_has_its_own_deadline_and_the_round_lives_on_until_it_is_closed(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        a, b = await attached(scene, "a", "b")
        async with a, b:
            spec = round_spec(BASE, ["a"], buffered=True, deadline_s=0.05)
            await reducer.start(spec, OBJECTS)
            await a.accept()
            change = await reducer.ledger("a", LedgerState.LATE)
            assert change.problem.code == "update_late"
            more = round_spec(BASE, ["a", "b"], buffered=True, deadline_s=600)
            await reducer.start(more)
            await b.answer(await b.accept(), update(3.0))
            await reducer.ledger("b", LedgerState.UPDATED)
            await reducer.order("close", spec.name, reason="enough")
            done = await reducer.done(spec.name)
            assert (done.reason, [part.client for part in done.contributions]) == ("closed", ["b"])
            assert isinstance(await a.expect("cancelled"), client_pb2.TaskCancelled)


@scenario()
async def test_updates_that_arrive_during_a_hand_up_are_each_in_exactly_one_sum(scene: Scene) -> None:
    names = [f"c{number:02d}" for number in range(12)]
    async with scene.reducer() as reducer:
        await reducer.hello()
        clients = await attached(scene, *names)
        spec = round_spec(BASE, names, buffered=True)
        await reducer.start(spec, OBJECTS)

        async def work(number: int) -> None:
            client = clients[number]
            await client.answer(await client.accept(), update(1.0 + 2.0**number), num_examples=1)

        jobs = [asyncio.create_task(work(number)) for number in range(len(names))]
        sums: list[float] = []
        counted: list[str] = []
        number = 0
        while len(counted) < len(names):
            number += 1
            await reducer.order("hand_up", spec.name, number=number)
            told = await reducer.handed_up(number)
            counted += [part.client for part in told.contributions]
            if told.model_id:
                delta = decode(await reducer.fetch(told.model_id) or b"")["w"]
                sums.append(float(delta[0]) * told.weight)
        await asyncio.gather(*jobs)
        assert sorted(counted) == names
        assert round(sum(sums)) == 2 ** len(names) - 1
        for client in clients:
            await client.close()
