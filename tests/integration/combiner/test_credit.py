"""Small results that come on the credit of their task: without a grant, and never beyond the memory there is."""

import asyncio
from pathlib import Path
from typing import Any

from fedn.combiner.combiner import Combiner
from fedn.models.digest import digest
from fedn.network.bundles import encode_bundle
from fedn.network.frames import encode_piece, encode_pieces
from fedn.network.generated import client_pb2, common_pb2
from fedn.protocol.rounds import LedgerState
from tests.support.wire import Scene, Trust, WireClient, make_combiner, model, round_spec

BASE, UPDATE = model(0.0), model(1.0)
OBJECTS = {digest(BASE): BASE}


def ready(client: WireClient, task: common_pb2.Task, data: bytes, *, follows: bool = True, **changes: Any) -> bytes:
    said = client_pb2.Ready(
        metadata=client.metadata(task, **changes), object_id=digest(data), size_bytes=len(data), follows=follows
    )
    return client_pb2.ClientFrame(ready=said).SerializeToString()


def free(combiner: Combiner) -> int:
    return combiner.admission.free_bytes


def test_a_result_on_credit_needs_no_grant(trust: Trust, tmp_path: Path) -> None:
    async def run() -> None:
        async with make_combiner(trust, tmp_path) as combiner:
            scene = Scene(trust, combiner)
            async with scene.reducer() as reducer, scene.client("a") as a:
                await reducer.hello()
                await a.hello()
                spec = round_spec(BASE, ["a"])
                await reducer.start(spec, OBJECTS)
                task = await a.expect("task")
                assert task.upload_credit_bytes == len(BASE)
                await a.write(ready(a, task, UPDATE))
                await a.write(encode_piece(0, UPDATE))
                await a.expect("ack")
                done = await reducer.done(spec.name)
                assert await reducer.fetch(done.model_id) == UPDATE
                assert not [frame for frame in a.inbox if frame.HasField("grant")]

    asyncio.run(run())


def test_announcement_and_pieces_may_come_in_one_message(trust: Trust, tmp_path: Path) -> None:
    async def run() -> None:
        async with make_combiner(trust, tmp_path) as combiner:
            scene = Scene(trust, combiner)
            async with scene.reducer() as reducer, scene.client("a") as a:
                await reducer.hello()
                await a.hello()
                spec = round_spec(BASE, ["a"])
                await reducer.start(spec, OBJECTS)
                task = await a.expect("task")
                halves = list(encode_pieces(UPDATE, chunk_bytes=len(UPDATE) // 2 + 1))
                await a.write(encode_bundle([ready(a, task, UPDATE), *halves]))
                await a.expect("ack")
                assert (await reducer.done(spec.name)).weight == 10.0

    asyncio.run(run())


def test_credit_comes_back_whatever_becomes_of_the_task(trust: Trust, tmp_path: Path) -> None:
    async def run() -> None:
        async with make_combiner(trust, tmp_path) as combiner:
            scene = Scene(trust, combiner)
            names = ["answers", "asks", "fails", "leaves", "late"]
            clients = {name: scene.client(name) for name in names}
            whole = free(combiner)
            async with scene.reducer() as reducer:
                await reducer.hello()
                for client in clients.values():
                    await client.hello()
                spec = round_spec(BASE, names, disconnect_grace_s=0.01)
                await reducer.start(spec, OBJECTS)
                tasks = {name: await client.expect("task") for name, client in clients.items()}
                assert free(combiner) == whole - len(names) * len(BASE)
                await clients["answers"].write(ready(clients["answers"], tasks["answers"], UPDATE))
                await clients["answers"].write(encode_piece(0, UPDATE))
                await clients["asks"].write(ready(clients["asks"], tasks["asks"], UPDATE, follows=False))
                await clients["asks"].deliver(tasks["asks"], UPDATE)
                await clients["fails"].fail(tasks["fails"], "no")
                await clients["leaves"].close()
                await reducer.ledger("leaves", LedgerState.DISCONNECTED)
                for name in ("answers", "asks"):
                    await reducer.ledger(name, LedgerState.UPDATED)
                assert free(combiner) == whole - len(BASE)
                await reducer.order("close", spec.name, reason="enough")
                await reducer.done(spec.name)
                assert free(combiner) == whole
            for client in clients.values():
                await client.close()

    asyncio.run(run())


def test_no_more_credit_is_given_than_half_of_the_memory(trust: Trust, tmp_path: Path) -> None:
    async def run() -> None:
        async with make_combiner(trust, tmp_path, upload_memory_bytes=2 * len(BASE)) as combiner:
            scene = Scene(trust, combiner)
            async with scene.reducer() as reducer, scene.client("a") as a, scene.client("b") as b:
                await reducer.hello()
                await a.hello()
                await b.hello()
                spec = round_spec(BASE, ["a", "b"])
                await reducer.start(spec, OBJECTS)
                tasks = [await a.expect("task"), await b.expect("task")]
                assert sorted(task.upload_credit_bytes for task in tasks) == [0, len(BASE)]
                for client, task in zip((a, b), tasks, strict=True):
                    assert isinstance(await client.answer(task, UPDATE), client_pb2.Ack)
                assert (await reducer.done(spec.name)).weight == 20.0

    asyncio.run(run())


def test_pieces_without_credit_are_passed_over_and_asked_for(trust: Trust, tmp_path: Path) -> None:
    async def run() -> None:
        async with make_combiner(trust, tmp_path, upload_memory_bytes=len(BASE)) as combiner:
            scene = Scene(trust, combiner)
            async with scene.reducer() as reducer, scene.client("a") as a:
                await reducer.hello()
                await a.hello()
                spec = round_spec(BASE, ["a"])
                await reducer.start(spec, OBJECTS)
                task = await a.expect("task")
                assert task.upload_credit_bytes == 0
                await a.write(ready(a, task, UPDATE))
                assert isinstance(await a.deliver(task, UPDATE), client_pb2.Ack)
                assert (await reducer.done(spec.name)).weight == 10.0

    asyncio.run(run())


def test_a_damaged_result_on_credit_is_refused(trust: Trust, tmp_path: Path) -> None:
    async def run() -> None:
        async with make_combiner(trust, tmp_path) as combiner:
            scene = Scene(trust, combiner)
            whole = free(combiner)
            async with scene.reducer() as reducer, scene.client("a") as a:
                await reducer.hello()
                await a.hello()
                await reducer.start(round_spec(BASE, ["a"]), OBJECTS)
                task = await a.expect("task")
                await a.write(ready(a, task, UPDATE))
                await a.write(encode_piece(0, UPDATE[:-1] + b"\x00"))
                refused = await a.expect("refused")
                assert refused.problem.code == "update_digest_wrong"
                assert free(combiner) == whole

    asyncio.run(run())
