"""Rounds from start to commit, over real streams: what is dispatched, what counts, and what the ledger says."""

import asyncio

import numpy as np

from fedn.models.digest import digest
from fedn.models.wire import decode
from fedn.network.convert import round_from_wire
from fedn.network.generated import client_pb2, combiner_pb2
from fedn.protocol.rounds import LedgerState
from fedn.protocol.tasks import TaskKind
from tests.support.wire import Scene, WireClient, model, round_spec, scenario

BASE = model(0.0)
OBJECTS = {digest(BASE): BASE}


async def attached(scene: Scene, *names: str) -> list[WireClient]:
    clients = [scene.client(name) for name in names]
    for client in clients:
        assert isinstance(await client.hello(), client_pb2.Welcome)
    return clients


@scenario()
async def test_a_round_gives_the_mean_weighted_by_examples(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        a, b = await attached(scene, "a", "b")
        async with a, b:
            spec = round_spec(BASE, ["a", "b"])
            status = await reducer.start(spec, OBJECTS)
            assert list(status.needed_objects) == [digest(BASE)]
            for client, value, examples in ((a, 1.0, 30), (b, 5.0, 10)):
                task = await client.accept()
                assert task.model_id == digest(BASE) and bytes(client.objects[digest(BASE)]) == BASE
                assert task.parameters_json == '{"epochs": 1}' and 0 < task.deadline_s <= 600
                assert isinstance(await client.answer(task, model(value), num_examples=examples), client_pb2.Ack)
                change = await reducer.ledger(client.name, LedgerState.UPDATED)
                assert change.object_id == digest(model(value)) and change.metadata.num_examples == examples
                assert change.size_bytes == len(model(value))
            done = await reducer.done(spec.name)
            assert (done.reason, done.weight) == ("all in", 40.0)
            assert [(part.client, part.weight, part.num_examples) for part in done.contributions] == [
                ("a", 30.0, 30),
                ("b", 10.0, 10),
            ]
            result = await reducer.fetch(done.model_id)
            assert result is not None
            assert np.all(decode(result)["w"] == 2.0) and len(result) == done.size_bytes
            await reducer.order("commit_ack", spec.name)
            assert (await reducer.watch(spec.name)).problem.code == "round_unknown"


@scenario()
async def test_the_next_round_on_the_combiners_own_model_needs_no_push(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        (a,) = await attached(scene, "a")
        async with a:
            first = round_spec(BASE, ["a"])
            await reducer.start(first, OBJECTS)
            await a.answer(await a.accept(), model(1.0))
            done = await reducer.done(first.name)
            await reducer.order("commit_ack", first.name)
            second = round_spec(model(1.0), ["a"], index=1)
            assert done.model_id == digest(model(1.0))
            assert list((await reducer.start(second)).needed_objects) == []
            task = await a.accept()
            assert bytes(a.objects[task.model_id]) == model(1.0)


@scenario()
async def test_a_failed_task_is_named_in_the_ledger_and_the_round_goes_on(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        a, b = await attached(scene, "a", "b")
        async with a, b:
            spec = round_spec(BASE, ["a", "b"])
            await reducer.start(spec, OBJECTS)
            await a.fail(await a.accept(), "ZeroDivisionError: division by zero")
            change = await reducer.ledger("a", LedgerState.FAILED)
            assert change.problem.message == "ZeroDivisionError: division by zero"
            await b.answer(await b.accept(), model(3.0))
            done = await reducer.done(spec.name)
            assert [part.client for part in done.contributions] == ["b"]
            await a.ping()  # the client that failed is attached still


@scenario()
async def test_a_round_in_which_nobody_succeeds_has_no_model(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        (a,) = await attached(scene, "a")
        async with a:
            spec = round_spec(BASE, ["a"])
            await reducer.start(spec, OBJECTS)
            await a.fail(await a.accept(), "no data")
            done = await reducer.done(spec.name)
            assert (done.reason, done.model_id, done.weight) == ("all in", "", 0.0)


@scenario()
async def test_a_round_without_tasks_is_done_at_once(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        spec = round_spec(BASE, [])
        await reducer.start(spec)
        assert (await reducer.done(spec.name)).reason == "empty"


@scenario()
async def test_at_the_deadline_those_who_train_are_late_and_told_to_stop(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        a, b = await attached(scene, "a", "b")
        async with a, b:
            spec = round_spec(BASE, ["a", "b"])
            await reducer.start(spec, OBJECTS)
            await a.answer(await a.accept(), model(1.0))
            task = await b.accept()
            await reducer.ledger("a", LedgerState.UPDATED)
            await reducer.order("extend", spec.name, deadline_s=0.01)
            assert (await reducer.ledger("b", LedgerState.LATE)).problem.code == "update_late"
            assert (await b.expect("cancelled")).task_id == task.task_id
            done = await reducer.done(spec.name)
            assert (done.reason, done.weight) == ("deadline", 10.0)
            refused = await b.answer(task, model(9.0))
            assert refused.problem.code == "update_late"
            result = await reducer.fetch(done.model_id)
            assert result == model(1.0)


@scenario()
async def test_an_upload_under_way_at_the_deadline_gets_its_grace(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        a, b = await attached(scene, "a", "b")
        async with a, b:
            spec = round_spec(BASE, ["a", "b"])
            await reducer.start(spec, OBJECTS)
            task = await a.accept()
            await b.accept()
            await a.announce(task, model(7.0))
            await a.expect("grant")
            await reducer.order("extend", spec.name, deadline_s=0.01)
            await reducer.ledger("b", LedgerState.LATE)  # the deadline passed, and a still uploads
            await a.send(task, model(7.0))
            await a.expect("ack")
            done = await reducer.done(spec.name)
            assert [part.client for part in done.contributions] == ["a"]


@scenario()
async def test_an_upload_that_outlasts_the_grace_is_late(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        (a,) = await attached(scene, "a")
        async with a:
            spec = round_spec(BASE, ["a"], upload_grace_s=0.05)
            await reducer.start(spec, OBJECTS)
            task = await a.accept()
            await a.announce(task, model(7.0))
            await a.expect("grant")
            await reducer.order("extend", spec.name, deadline_s=0.01)
            assert (await a.expect("refused")).problem.code == "update_late"
            await reducer.ledger("a", LedgerState.LATE)
            assert (await reducer.done(spec.name)).model_id == ""


@scenario()
async def test_close_counts_what_is_in_and_cancel_throws_it_away(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        a, b = await attached(scene, "a", "b")
        async with a, b:
            for index, order in enumerate(("close", "cancel")):
                spec = round_spec(BASE, ["a", "b"], index=index)
                await reducer.start(spec, OBJECTS)
                await a.answer(await a.accept(), model(1.0))
                await b.accept()
                await reducer.ledger("a", LedgerState.UPDATED)
                await reducer.order(order, spec.name, reason="enough")
                await b.expect("cancelled", where=lambda cancelled: cancelled.reason == "enough")
                done = await reducer.done(spec.name)
                assert done.reason == ("closed" if order == "close" else "cancelled")
                assert bool(done.model_id) is (order == "close")


@scenario()
async def test_a_client_away_for_longer_than_the_grace_is_disconnected(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        a, b = await attached(scene, "a", "b")
        async with b:
            spec = round_spec(BASE, ["a", "b", "never"], disconnect_grace_s=0.05)
            await reducer.start(spec, OBJECTS)
            await a.accept()
            await a.close()
            for name in ("a", "never"):
                change = await reducer.ledger(name, LedgerState.DISCONNECTED)
                assert change.problem.code == "client_disconnected"
            await b.answer(await b.accept(), model(2.0))
            assert (await reducer.done(spec.name)).weight == 10.0


@scenario()
async def test_a_client_that_comes_back_gets_its_open_task_again(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        (a,) = await attached(scene, "a")
        spec = round_spec(BASE, ["a"])
        await reducer.start(spec, OBJECTS)
        first = await a.accept()
        await a.close()
        (again,) = await attached(scene, "a")
        async with again:
            task = await again.accept()
            assert task.task_id == first.task_id
            await again.answer(task, model(4.0))
            assert (await reducer.done(spec.name)).weight == 10.0


@scenario()
async def test_a_spooled_result_answers_without_the_model_being_sent(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        spec = round_spec(BASE, ["a"])
        await reducer.start(spec, OBJECTS)
        async with scene.client("a") as a:
            await a.hello(spooled_tasks=[spec.tasks[0].task_id])
            await a.answer(await a.accept(), model(4.0))
            assert a.objects == {}
            assert (await reducer.done(spec.name)).weight == 10.0


@scenario()
async def test_validation_results_are_metrics_alone(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        (a,) = await attached(scene, "a")
        async with a:
            spec = round_spec(BASE, ["a"], kind=TaskKind.VALIDATE)
            await reducer.start(spec, OBJECTS)
            task = await a.accept()
            reply = await a.answer(task, b"", num_examples=0, metrics={"accuracy": 0.5, "loss": float("nan")})
            assert isinstance(reply, client_pb2.Ack)
            change = await reducer.ledger("a", LedgerState.UPDATED)
            assert change.metadata.metrics["accuracy"] == 0.5 and np.isnan(change.metadata.metrics["loss"])
            done = await reducer.done(spec.name)
            assert (done.reason, done.model_id) == ("all in", "")


@scenario()
async def test_a_validation_with_tensors_is_refused(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        (a,) = await attached(scene, "a")
        async with a:
            await reducer.start(round_spec(BASE, ["a"], kind=TaskKind.VALIDATE), OBJECTS)
            refused = await a.answer(await a.accept(), model(1.0), object_id="x")
            assert refused.problem.code == "update_with_tensors"


@scenario()
async def test_a_task_goes_out_once_to_a_client_that_attaches_while_its_round_starts(scene: Scene) -> None:
    async with scene.reducer() as reducer, scene.client("a") as a:
        await reducer.hello()
        await asyncio.gather(a.hello(), reducer.start(round_spec(BASE, ["a"]), OBJECTS))
        task = await a.accept()
        await a.answer(task, model(1.0))
        assert [frame for frame in a.inbox if frame.HasField("task")] == []


@scenario()
async def test_an_init_task_makes_the_model_as_it_is(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        (a,) = await attached(scene, "a")
        async with a:
            spec = round_spec(b"", ["a"], kind=TaskKind.INIT)
            await reducer.start(spec)
            seed = model(0.25, n=np.array([3], np.int64))
            await a.answer(await a.accept(), seed, num_examples=0)
            done = await reducer.done(spec.name)
            assert done.model_id == digest(seed) and done.weight == 1.0
            assert await reducer.fetch(done.model_id) == seed


@scenario()
async def test_predictions_are_objects_that_the_ledger_names(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        a, b = await attached(scene, "a", "b")
        async with a, b:
            spec = round_spec(BASE, ["a", "b"], kind=TaskKind.PREDICT)
            await reducer.start(spec, OBJECTS)
            for client, value in ((a, 1.0), (b, 2.0)):
                predictions = model(value, size=5)
                await client.answer(await client.accept(), predictions, num_examples=5)
                change = await reducer.ledger(client.name, LedgerState.UPDATED)
                assert await reducer.fetch(change.object_id) == predictions
            assert (await reducer.done(spec.name)).model_id == ""


@scenario()
async def test_deltas_and_models_mix_to_the_same_mean(scene: Scene) -> None:
    base = model(10.0)
    async with scene.reducer() as reducer:
        await reducer.hello()
        a, b, c = await attached(scene, "a", "b", "c")
        async with a, b, c:
            spec = round_spec(base, ["a", "b", "c"])
            await reducer.start(spec, {digest(base): base})
            await a.answer(await a.accept(), model(11.0), num_examples=1)
            await b.answer(await b.accept(), model(2.0), num_examples=2, form="delta")
            await c.answer(await c.accept(), model(-1.0), num_examples=1, form="delta")
            done = await reducer.done(spec.name)
            result = await reducer.fetch(done.model_id)
            assert result is not None
            assert np.all(decode(result)["w"] == (11.0 + 2 * 12.0 + 9.0) / 4)


@scenario()
async def test_a_deterministic_round_folds_by_name_whatever_the_order_of_arrival(scene: Scene) -> None:
    names = ["a", "b", "c", "d"]
    rng = np.random.default_rng(7)
    updates = {
        name: model(0.0, w=rng.standard_normal(999).astype(np.float32) * 10.0**i) for i, name in enumerate(names)
    }
    base = model(0.0, w=np.zeros(999, np.float32))
    results = []
    async with scene.reducer() as reducer:
        await reducer.hello()
        clients = {client.name: client for client in await attached(scene, *names)}
        for index, order in enumerate((["d", "b", "a", "c"], ["a", "b", "c", "d"], ["c", "d", "b", "a"])):
            spec = round_spec(base, names, index=index, deterministic=True, sum_dtype="float32")
            await reducer.start(spec, {digest(base): base})
            for name in order:
                await clients[name].answer(await clients[name].accept(), updates[name], num_examples=3)
            done = await reducer.done(spec.name)
            results.append(done.model_id)
        for client in clients.values():
            await client.close()
    assert len(set(results)) == 1


@scenario()
async def test_a_deterministic_round_goes_on_past_a_client_that_fails(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        a, b = await attached(scene, "a", "b")
        async with a, b:
            spec = round_spec(BASE, ["a", "b"], deterministic=True)
            await reducer.start(spec, OBJECTS)
            await b.answer(await b.accept(), model(2.0))
            await a.fail(await a.accept(), "no data")
            assert [part.client for part in (await reducer.done(spec.name)).contributions] == ["b"]


@scenario()
async def test_starting_a_round_again_by_its_name_changes_nothing(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        (a,) = await attached(scene, "a")
        async with a:
            spec = round_spec(BASE, ["a"])
            await reducer.start(spec, OBJECTS)
            task = await a.accept()
            status = await reducer.start(spec)
            assert list(status.needed_objects) == [] and not status.done
            await a.answer(task, model(1.0))
            assert (await reducer.done(spec.name)).weight == 10.0
            await a.ping()
            assert [frame for frame in a.inbox if frame.HasField("task")] == []


@scenario()
async def test_a_higher_attempt_takes_the_place_of_the_lower_one(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        (a,) = await attached(scene, "a")
        async with a:
            first, second = round_spec(BASE, ["a"]), round_spec(BASE, ["a"], attempt=1)
            await reducer.start(first, OBJECTS)
            old_task = await a.accept()
            await reducer.start(second, OBJECTS)
            assert (await reducer.done(first.name)).reason == "cancelled"
            await a.expect("cancelled")
            task = await a.accept()
            assert task.task_id == old_task.task_id and round_from_wire(task.round) == second.name
            assert isinstance(await a.answer(task, model(1.0)), client_pb2.Ack)
            refused = await reducer.start(first)
            assert isinstance(refused, combiner_pb2.RoundRefused) and refused.problem.code == "round_fenced"


@scenario()
async def test_a_reducer_that_comes_back_hears_every_event_once_more_in_order(scene: Scene) -> None:
    (a,) = await attached(scene, "a")
    async with a:
        spec = round_spec(BASE, ["a"])
        async with scene.reducer() as reducer:
            await reducer.hello(epoch=1)
            await reducer.start(spec, OBJECTS)
            task = await a.accept()
            await reducer.ledger("a", LedgerState.TRAINING)
        await a.answer(task, model(1.0))  # nobody watches
        async with scene.reducer() as reducer:
            welcome = await reducer.hello(epoch=2)
            assert [round_from_wire(name) for name in welcome.rounds] == [spec.name]
            await reducer.watch(spec.name, from_event=2)
            updated = await reducer.expect("event")
            done = await reducer.expect("event")
            assert (updated.number, done.number) == (2, 3)
            assert updated.HasField("ledger") and done.HasField("done")
            assert await reducer.fetch(done.done.model_id) == model(1.0)


@scenario(keep_result_s=0.05)
async def test_a_result_that_nobody_watches_goes_after_its_time(scene: Scene) -> None:
    (a,) = await attached(scene, "a")
    async with a:
        spec = round_spec(BASE, ["a"])
        async with scene.reducer() as reducer:
            await reducer.hello()
            await reducer.start(spec, OBJECTS)
            await a.answer(await a.accept(), model(1.0))
            await reducer.done(spec.name)
        async with asyncio.timeout(30):
            while scene.combiner.rounds:
                await a.ping()


@scenario()
async def test_an_unknown_rule_is_refused_by_name(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        refused = await reducer.start(round_spec(BASE, ["a"], rule="no-such-rule"))
        assert refused.problem.code == "unknown_option"


@scenario()
async def test_a_base_model_that_is_no_model_fails_the_round_and_says_so(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        nonsense = b"\xff" * 100
        spec = round_spec(nonsense, ["a"])
        await reducer.start(spec, {digest(nonsense): nonsense})
        done = await reducer.done(spec.name)
        assert done.reason.startswith("failed") and done.model_id == ""


@scenario()
async def test_two_rounds_run_beside_each_other(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        a, b = await attached(scene, "a", "b")
        async with a, b:
            train = round_spec(BASE, ["a"])
            check = round_spec(BASE, ["b"], session="v", kind=TaskKind.VALIDATE)
            await reducer.start(train, OBJECTS)
            await reducer.start(check, OBJECTS)
            await b.answer(await b.accept(), b"", metrics={"loss": 1.0})
            await a.answer(await a.accept(), model(1.0))
            assert (await reducer.done(check.name)).model_id == ""
            assert (await reducer.done(train.name)).weight == 10.0


@scenario()
async def test_a_deterministic_round_does_not_wait_for_updates_of_clients_that_only_validate(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        eyes, hands = await attached(scene, "a-eyes", "b-hands")
        async with eyes, hands:
            spec = round_spec(BASE, ["a-eyes", "b-hands"], deterministic=True)
            tasks = (spec.tasks[0].model_copy(update={"kind": TaskKind.VALIDATE}), spec.tasks[1])
            spec = spec.model_copy(update={"tasks": tasks})
            await reducer.start(spec, OBJECTS)
            assert isinstance(await hands.answer(await hands.accept(), model(2.0)), client_pb2.Ack)
            await eyes.answer(await eyes.accept(), b"", num_examples=0, metrics={"loss": 1.0})
            done = await reducer.done(spec.name)
            assert [part.client for part in done.contributions] == ["b-hands"]
