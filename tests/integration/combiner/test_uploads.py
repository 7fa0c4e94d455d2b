"""Updates on their way in: what is refused and why, what resumes, and where the bytes lie meanwhile."""

import asyncio
from typing import Any

import numpy as np
import pytest

from fedn.models.digest import digest
from fedn.models.wire import decode, encode
from fedn.network.frames import CHUNK_BYTES, encode_piece
from fedn.network.generated import client_pb2, common_pb2
from fedn.protocol.rounds import LedgerState
from fedn.protocol.tasks import RoundName
from tests.support.wire import Scene, Trust, WireClient, WireReducer, make_combiner, model, round_spec, scenario

BASE = model(0.0)
BIG = model(0.0, size=3 * CHUNK_BYTES // 4 + 1000)
"""Four pieces."""
OBJECTS = {digest(BASE): BASE, digest(BIG): BIG}


async def one_task(
    scene: Scene, reducer: WireReducer, client: WireClient, base: bytes = BASE, **changes: Any
) -> common_pb2.Task:
    """Attaches both and starts a round of one train task; the task, accepted."""
    await reducer.hello()
    await client.hello()
    await reducer.start(round_spec(base, [client.name], **changes), OBJECTS)
    return await client.accept()


def tensors(**changes: Any) -> bytes:
    given = {"w": np.ones(16, np.float32), "b": np.ones(2, np.float32)} | changes
    return bytes(encode({name: array for name, array in given.items() if array is not None}))


REFUSALS: dict[str, tuple[bytes, dict[str, Any], str, str]] = {
    "wrong shape": (tensors(w=np.ones((4, 4), np.float32)), {}, "update_does_not_fit", "'w' has shape (4, 4)"),
    "wrong dtype": (tensors(w=np.ones(8, np.float64)), {}, "update_does_not_fit", "'w'"),
    "missing tensor": (tensors(b=None), {}, "update_does_not_fit", "'b' is missing"),
    "unknown tensor": (tensors(c=np.ones(1, np.float32)), {}, "update_does_not_fit", "'c' is not in the base"),
    "not a number": (tensors(b=np.array([1, np.nan], np.float32)), {}, "update_not_finite", "'b'"),
    "infinite": (tensors(w=np.full(16, np.inf, np.float32)), {}, "update_not_finite", "'w'"),
    "not a model": (b"\x80\x04pickle" * 20, {}, "bad_model", "header"),
    "too short for a header": (b"abc", {}, "bad_model", "header"),
    "a header without end": ((50 << 20).to_bytes(8, "little") + b"{" * 50, {}, "update_does_not_fit", "header"),
    "much larger than the base": (tensors(w=np.ones(1 << 20, np.float32)), {}, "update_does_not_fit", "bytes"),
    "no examples": (tensors(), {"num_examples": 0}, "update_without_examples", "no examples"),
    "no tensors": (b"", {}, "update_without_tensors", "tensors"),
    "other bytes than announced": (tensors(), {"object_id": digest(b"other")}, "update_digest_wrong", "announced"),
    "no digest": (tensors(), {"object_id": "md5:abc"}, "bad_digest", "digest"),
    "another base model": (tensors(), {"base_model_id": digest(b"other")}, "update_other_base", "model"),
    "another round": (
        tensors(),
        {"round": RoundName(session="s", index=7, attempt=0, epoch=1)},
        "update_other_round",
        "s/7.0@1",
    ),
    "another attempt": (
        tensors(),
        {"round": RoundName(session="s", index=0, attempt=1, epoch=1)},
        "update_other_round",
        "s/0.1@1",
    ),
    "another client's name": (tensors(), {"client": "b"}, "update_other_round", "client b"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_bad_update_is_refused_with_its_reason_and_leaves_no_trace_in_the_sum(
    case: str, trust: Trust, tmp_path: Any
) -> None:
    data, changes, code, text = REFUSALS[case]

    async def run() -> None:
        async with make_combiner(trust, tmp_path) as combiner:
            scene = Scene(trust, combiner)
            async with scene.reducer() as reducer, scene.client("a") as a, scene.client("b") as b:
                await reducer.hello()
                await a.hello()
                await b.hello()
                spec = round_spec(BASE, ["a", "b"])
                await reducer.start(spec, OBJECTS)
                refused = await a.answer(await a.accept(), data, **changes)
                assert isinstance(refused, client_pb2.Refused)
                assert refused.problem.code == code and text in refused.problem.message
                change = await reducer.ledger("a", LedgerState.REFUSED)
                assert change.problem.code == code and text in change.problem.message
                await b.answer(await b.accept(), model(2.0))
                done = await reducer.done(spec.name)
                assert done.weight == 10.0 and await reducer.fetch(done.model_id) == model(2.0)
                await a.ping()  # and the client that was refused is attached still

    asyncio.run(run())


@scenario()
async def test_the_same_result_again_is_acknowledged_and_counted_once(scene: Scene) -> None:
    async with scene.reducer() as reducer, scene.client("a") as a, scene.client("b") as b:
        await reducer.hello()
        await a.hello()
        await b.hello()
        spec = round_spec(BASE, ["a", "b"])
        await reducer.start(spec, OBJECTS)
        task = await a.accept()
        await a.answer(task, model(1.0))
        assert isinstance(await a.answer(task, model(1.0)), client_pb2.Ack)
        other = await a.answer(task, model(50.0))
        assert other.problem.code == "update_twice"
        await b.answer(await b.accept(), model(3.0))
        done = await reducer.done(spec.name)
        assert done.weight == 20.0 and await reducer.fetch(done.model_id) == model(2.0)


@scenario()
async def test_a_result_for_no_open_task_is_refused(scene: Scene) -> None:
    async with scene.client("a") as a, scene.client("b") as b, scene.reducer() as reducer:
        task = await one_task(scene, reducer, a)
        await b.hello()
        stolen = await b.answer(task, model(1.0))  # another client's task
        assert stolen.problem.code == "unknown_task"


@scenario()
async def test_an_upload_resumes_on_a_new_stream_where_it_stopped(scene: Scene) -> None:
    update = model(6.0, size=3 * CHUNK_BYTES // 4 + 1000)
    async with scene.reducer() as reducer:
        async with scene.client("a") as first:
            task = await one_task(scene, reducer, first, BIG)
            await first.announce(task, update)
            assert (await first.expect("grant")).offset == 0
            for start in (0, CHUNK_BYTES):
                await first.write(encode_piece(start, update[start : start + CHUNK_BYTES]))
            await first.ping()  # both are read
        async with scene.client("a") as second:
            await second.hello(held_objects=[digest(BIG)])
            task = await second.accept()
            await second.announce(task, update)
            grant = await second.expect("grant")
            assert grant.offset == 2 * CHUNK_BYTES
            await second.send(task, update, grant.offset)
            await second.expect("ack")
            change = await reducer.ledger("a", LedgerState.UPDATED)
            assert change.object_id == digest(update)
            assert second.objects == {}  # the model was not sent again


@scenario(progress_s=0.2)
async def test_an_upload_that_stalls_gives_its_place_away_and_goes_on_when_it_moves_again(scene: Scene) -> None:
    update = model(6.0, size=3 * CHUNK_BYTES // 4 + 1000)
    async with scene.reducer() as reducer, scene.client("a") as a:
        task = await one_task(scene, reducer, a, BIG)
        await a.announce(task, update)
        await a.expect("grant")
        await a.write(encode_piece(0, update[:CHUNK_BYTES]))
        async with asyncio.timeout(30):
            while scene.combiner.admission.free_bytes < scene.combiner.options.upload_memory_bytes:
                await a.ping()
        assert scene.combiner.admission.under_way == 0
        await a.announce(task, update)
        grant = await a.expect("grant")
        assert grant.offset == CHUNK_BYTES
        await a.send(task, update, grant.offset)
        await a.deliver(task, update)
        await reducer.ledger("a", LedgerState.UPDATED)


@scenario(progress_s=0.2)
async def test_a_stalled_upload_that_goes_on_unasked_is_told_where_to_go_on(scene: Scene) -> None:
    update = model(6.0, size=3 * CHUNK_BYTES // 4 + 1000)
    async with scene.reducer() as reducer, scene.client("a") as a:
        task = await one_task(scene, reducer, a, BIG)
        await a.announce(task, update)
        await a.expect("grant")
        async with asyncio.timeout(30):
            while scene.combiner.admission.under_way:
                await a.ping()
        await a.send(task, update)  # what it was granted long ago: the combiner asks for what it did not keep
        assert isinstance(await a.deliver(task, update), client_pb2.Ack)


@scenario(upload_memory_bytes=1000)
async def test_an_update_larger_than_all_memory_credit_goes_through_a_file(scene: Scene) -> None:
    update = model(6.0, size=3 * CHUNK_BYTES // 4 + 1000)
    async with scene.reducer() as reducer, scene.client("a") as a:
        task = await one_task(scene, reducer, a, BIG)
        await a.announce(task, update)
        grant = await a.expect("grant")
        assert scene.combiner.admission.free_bytes == 1000
        await a.send(task, update, grant.offset)
        await a.expect("ack")
        done = await reducer.done(round_spec(BIG, ["a"]).name)
        assert await reducer.fetch(done.model_id) == update
        assert list((scene.combiner.options.data_dir / "spool").iterdir()) == []


@scenario(upload_memory_bytes=len(BASE) + 10, slow_after_s=600.0)
async def test_memory_for_one_update_lets_them_in_one_by_one(scene: Scene) -> None:
    names = [f"k{i}" for i in range(6)]
    async with scene.reducer() as reducer:
        await reducer.hello()
        clients = [scene.client(name) for name in names]
        for client in clients:
            await client.hello()
        spec = round_spec(BASE, names)
        await reducer.start(spec, OBJECTS)
        tasks = [await client.accept() for client in clients]
        for client, task in zip(clients, tasks, strict=True):
            await client.announce(task, model(1.0))
            await client.ping()
        assert scene.combiner.admission.under_way == 1 and scene.combiner.admission.waiting == 5

        async def deliver(client: WireClient, task: common_pb2.Task) -> None:
            grant = await client.expect("grant")
            await client.send(task, model(1.0), grant.offset)
            await client.expect("ack")

        await asyncio.gather(*(deliver(client, task) for client, task in zip(clients, tasks, strict=True)))
        assert (await reducer.done(spec.name)).weight == 60.0
        for client in clients:
            await client.close()


@scenario()
async def test_pieces_without_a_grant_are_dropped(scene: Scene) -> None:
    async with scene.reducer() as reducer, scene.client("a") as a:
        task = await one_task(scene, reducer, a)
        await a.send(task, model(9.0))
        assert isinstance(await a.answer(task, model(1.0)), client_pb2.Ack)


@scenario()
async def test_missing_pieces_are_asked_for_again(scene: Scene) -> None:
    update = model(6.0, size=3 * CHUNK_BYTES // 4 + 1000)
    async with scene.reducer() as reducer, scene.client("a") as a:
        task = await one_task(scene, reducer, a, BIG)
        await a.announce(task, update)
        await a.expect("grant")
        await a.write(encode_piece(0, update[:CHUNK_BYTES]))
        await a.send(task, update, 2 * CHUNK_BYTES)  # the second piece is left out
        grant = await a.expect("grant")
        assert grant.offset == CHUNK_BYTES
        await a.send(task, update, grant.offset)
        await a.expect("ack")


@scenario()
async def test_an_upload_may_begin_anew(scene: Scene) -> None:
    update = model(6.0, size=3 * CHUNK_BYTES // 4 + 1000)
    async with scene.reducer() as reducer, scene.client("a") as a:
        task = await one_task(scene, reducer, a, BIG)
        await a.announce(task, update)
        await a.expect("grant")
        await a.write(encode_piece(0, update[:CHUNK_BYTES]))
        await a.write(encode_piece(CHUNK_BYTES, b"\x00" * CHUNK_BYTES))  # not what it should be
        await a.send(task, update)
        await a.expect("ack")


@scenario()
async def test_bytes_beyond_those_announced_are_refused(scene: Scene) -> None:
    async with scene.reducer() as reducer, scene.client("a") as a:
        task = await one_task(scene, reducer, a)
        await a.announce(task, model(1.0))
        await a.expect("grant")
        await a.send(task, model(1.0) + b"more")
        assert (await a.expect("refused")).problem.code == "update_too_large"


@scenario()
async def test_a_result_made_anew_takes_the_place_of_one_under_way(scene: Scene) -> None:
    async with scene.reducer() as reducer, scene.client("a") as a:
        task = await one_task(scene, reducer, a)
        await a.announce(task, model(1.0))
        await a.expect("grant")
        await a.answer(task, model(2.0))
        change = await reducer.ledger("a", LedgerState.UPDATED)
        assert change.object_id == digest(model(2.0))


@scenario()
async def test_many_clients_upload_at_once_and_every_byte_counts(scene: Scene) -> None:
    names = [f"k{i}" for i in range(20)]
    base = model(0.0, size=400_000)
    async with scene.reducer() as reducer:
        await reducer.hello()
        clients = [scene.client(name) for name in names]

        async def work(client: WireClient, value: float) -> None:
            await client.hello()
            await client.answer(await client.accept(), model(value, size=400_000), num_examples=int(value) + 1)

        spec = round_spec(base, names)
        await reducer.start(spec, {digest(base): base})
        await asyncio.gather(*(work(client, float(i)) for i, client in enumerate(clients)))
        done = await reducer.done(spec.name)
        result = await reducer.fetch(done.model_id)
        assert result is not None
        expected = sum(i * (i + 1) for i in range(20)) / sum(range(1, 21))
        np.testing.assert_allclose(decode(result)["w"], np.float32(expected), rtol=1e-6)
        for client in clients:
            await client.close()
