"""The reducer's link: which process is obeyed, what it is told of clients, and how objects reach the combiner."""

import grpc

from fedn.models.digest import digest
from fedn.network.frames import CHUNK_BYTES
from fedn.network.generated import client_pb2, combiner_pb2, common_pb2
from fedn.protocol.tasks import RoundName
from tests.support.wire import Scene, model, round_spec, scenario

BASE = model(0.0)
OBJECTS = {digest(BASE): BASE}


@scenario(max_clients=77)
async def test_the_welcome_names_the_combiner_and_its_clients(scene: Scene) -> None:
    async with scene.client("a") as a, scene.reducer() as reducer:
        await a.hello(kinds=[common_pb2.TASK_KIND_TRAIN], attributes={"country": "SE"})
        welcome = await reducer.hello()
        assert (welcome.combiner, welcome.max_clients) == ("c1", 77)
        assert welcome.instance == scene.combiner.instance
        (client,) = (await reducer.expect("attached")).clients
        assert (client.client, list(client.kinds), dict(client.attributes)) == ("a", [2], {"country": "SE"})
        assert client.since_unix_s > 0


@scenario()
async def test_a_reducer_of_a_lower_epoch_is_refused_for_ever(scene: Scene) -> None:
    async with scene.reducer() as new, scene.reducer() as old:
        await new.hello(epoch=5)
        problem = await old.hello(epoch=4)
        assert problem.code == "epoch_fenced"
        assert await old.wait_ended() is grpc.StatusCode.OK
        await new.ping()
        await new.close()
        async with scene.reducer() as still_old:
            assert (await still_old.hello(epoch=4)).code == "epoch_fenced"


@scenario()
async def test_a_newer_link_takes_over(scene: Scene) -> None:
    async with scene.reducer() as first, scene.reducer() as second:
        await first.hello(epoch=1)
        assert isinstance(await second.hello(epoch=1), combiner_pb2.LinkWelcome)
        assert (await first.expect("problem")).code == "link_replaced"
        await first.wait_ended()
        await second.ping()


@scenario()
async def test_a_reducer_of_another_federation_is_refused(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        assert (await reducer.hello(federation="another")).code == "wrong_federation"


@scenario()
async def test_a_detached_client_is_told_why(scene: Scene) -> None:
    async with scene.client("a") as a, scene.reducer() as reducer:
        await a.hello()
        await reducer.hello()
        problem = common_pb2.Problem(code="combiner_given_up", message="go elsewhere")
        detach = combiner_pb2.DetachClient(client="a", problem=problem)
        await reducer.write(combiner_pb2.ReducerFrame(detach=detach))
        bye = await a.expect("bye")
        assert (bye.problem.code, bye.problem.message) == ("combiner_given_up", "go elsewhere")
        change = await reducer.expect("client", where=lambda change: not change.attached)
        assert change.client.client == "a"


@scenario()
async def test_an_object_that_arrives_damaged_is_not_used(scene: Scene) -> None:
    async with scene.client("a") as a:
        await a.hello()
        spec = round_spec(BASE, ["a"])
        async with scene.reducer() as reducer:
            await reducer.hello()
            await reducer.start(spec)
            await reducer.push(digest(BASE), model(666.0))
            assert (await reducer.expect("problem")).code == "transfer_damaged"
            await reducer.wait_ended()
        async with scene.reducer() as reducer:
            await reducer.hello()
            status = await reducer.watch(spec.name)
            assert list(status.needed_objects) == [digest(BASE)]
            await reducer.push(digest(BASE), BASE)
            assert (await a.accept()).model_id == digest(BASE)


@scenario(max_model_bytes=1000)
async def test_an_object_over_the_limit_is_refused(scene: Scene) -> None:
    large = model(0.0, size=1000)
    async with scene.reducer() as reducer:
        await reducer.hello()
        await reducer.start(round_spec(large, ["a"]), {digest(large): large})
        assert (await reducer.expect("problem")).code == "object_too_large"


@scenario()
async def test_a_result_is_fetched_from_any_offset_and_a_missing_object_is_named(scene: Scene) -> None:
    base = model(0.0, size=CHUNK_BYTES // 2)
    async with scene.client("a") as a, scene.reducer() as reducer:
        await a.hello()
        await reducer.hello()
        spec = round_spec(base, ["a"])
        await reducer.start(spec, {digest(base): base})
        await a.answer(await a.accept(), model(1.0, size=CHUNK_BYTES // 2))
        done = await reducer.done(spec.name)
        whole = await reducer.fetch(done.model_id)
        assert whole == model(1.0, size=CHUNK_BYTES // 2)
        offset = CHUNK_BYTES + 12_345
        reducer.objects[done.model_id] = bytearray(whole[:offset]) + bytearray(len(whole) - offset)
        assert await reducer.fetch(done.model_id, offset) == whole
        assert await reducer.fetch(digest(b"never seen")) is None


@scenario()
async def test_orders_to_a_round_that_is_gone_do_no_harm(scene: Scene) -> None:
    gone = RoundName(session="gone", index=0, attempt=0, epoch=0)
    async with scene.reducer() as reducer:
        await reducer.hello()
        for order in ("close", "cancel", "commit_ack"):
            await reducer.order(order, gone)
        await reducer.order("extend", gone, deadline_s=1.0)
        assert (await reducer.watch(gone)).problem.code == "round_unknown"


@scenario()
async def test_a_bad_round_is_refused_and_the_link_stays(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        good = round_spec(BASE, ["a"])
        task = combiner_pb2.StartRound(round=common_pb2.RoundName(session="s"), deadline_s=-1.0)
        await reducer.write(combiner_pb2.ReducerFrame(start=task))
        assert (await reducer.expect("refused")).problem.code == "bad_message"
        two = good.model_copy(
            update={"tasks": (good.tasks[0], good.tasks[0].model_copy(update={"task_id": "t2", "model_id": ""}))}
        )
        assert (await reducer.start(two)).problem.code == "round_of_many_bases"
        await reducer.ping()


@scenario(progress_s=3.0)
async def test_a_client_that_does_not_read_is_cut_off_and_the_others_go_on(scene: Scene) -> None:
    large = model(0.0, size=12 << 20)  # more than gRPC buffers for a stream
    update = model(1.0, size=12 << 20)  # made before anybody's patience begins: it keeps the event loop
    async with scene.client("deaf") as deaf, scene.client("a") as a, scene.reducer() as reducer:
        await deaf.hello()
        await a.hello()
        await reducer.hello()
        deaf.reading.clear()
        spec = round_spec(large, ["deaf", "a"], disconnect_grace_s=0.05)
        await reducer.start(spec, {digest(large): large})
        assert isinstance(await a.answer(await a.accept(), update), client_pb2.Ack)
        done = await reducer.done(spec.name)
        assert [part.client for part in done.contributions] == ["a"]
