"""Chains at a client: what it says it knows, what it decodes and encodes, and what it answers from its spool."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fedn.models.codecs.encode import encode
from fedn.models.codecs.payload import Payload
from fedn.models.digest import digest
from fedn.models.wire import decode, read_spec
from fedn.network.convert import metadata_from_wire, reason_to_wire
from fedn.network.generated import client_pb2 as wire
from fedn.plan.chains import check_chains, make_chain
from fedn.plan.session import SessionPlan
from fedn.plan.settings import ClientSettings
from fedn.protocol.errors import UpdateRefused
from fedn.protocol.tasks import CodecChain, TaskSpec
from tests.integration.client.conftest import attached, model_of
from tests.integration.client.stand_ins import FakeReducer
from tests.support.fake_combiner import FakeStream, round_name, train_task

MakeSettings = Callable[..., ClientSettings]
SMALL, SMALL_BYTES = model_of(np.linspace(-1, 1, 40, dtype=np.float32))
LARGE, LARGE_BYTES = model_of(np.linspace(-1, 1, 900_000, dtype=np.float32))


def chain_of(*names: Any, models: bool = False) -> CodecChain:
    field = "model_chain" if models else "update_chain"
    return getattr(check_chains(SessionPlan.model_validate({field: list(names)})), field)


def decoded(data: bytes, chain: CodecChain, base: bytes) -> dict[str, Any]:
    encoding = make_chain(chain).of(read_spec(base), digest(base))
    return decode(Payload(encoding, data).decode())


def coded_task(model_id: str, base: bytes, updates: CodecChain, models: CodecChain, task_id: str = "t1") -> Any:
    """(task, encoded model's bytes)."""
    data = bytes(encode(make_chain(models).of(read_spec(base), model_id), decode(base)))
    fields = {"update_chain": updates, "model_chain": models, "encoded_model_id": digest(data)}
    return train_task("alice", model_id, task_id, **fields), data


async def take(stream: FakeStream, task: TaskSpec, index: int, answer: str = "ack") -> tuple[Any, bytes]:
    """Asks for a task whose model is held; takes its result, and acknowledges or refuses it, or says nothing."""
    await stream.task(task, round_name(index))
    ready = await stream.expect("ready")
    await stream.grant(task.task_id)
    _, data = await stream.upload()
    if answer == "ack":
        await stream.ack(task.task_id)
    elif answer == "refuse":
        problem = reason_to_wire(UpdateRefused("update_late", "too late"))
        await stream.send(refused=wire.Refused(task_id=task.task_id, problem=problem))
    return metadata_from_wire(ready.metadata), data


@pytest.mark.parametrize(("model_id", "base"), [(SMALL, SMALL_BYTES), (LARGE, LARGE_BYTES)], ids=["inline", "in files"])
def test_models_are_decoded_and_updates_encoded(
    reducer: FakeReducer, settings: MakeSettings, model_id: str, base: bytes
) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, _, _):
            assert set(stream.hello.codecs) >= {"bfloat16", "delta", "float16", "int8", "topk", "zstd"}
            updates, models = chain_of("delta", "bfloat16"), chain_of("float16", models=True)
            task, encoded = coded_task(model_id, base, updates, models)
            await stream.push(task.encoded_model_id, encoded)
            metadata, update = await take(stream, task, 0)
            assert (metadata.update_chain, metadata.model_chain, metadata.form) == (updates, models, "delta")
            assert (metadata.base_model_id, metadata.decoded_bytes) == (model_id, len(base))
            assert metadata.model_bytes == len(encoded)
            np.testing.assert_allclose(decoded(update, updates, base)["0"], 1.0, rtol=2**-8)

            # A client without the encoded model asks for it by its own digest.
            task, encoded = coded_task(model_id, base, (), chain_of("bfloat16", models=True), "t2")
            await stream.task(task, round_name(1))
            assert (await stream.expect("fetch")).object_id == task.encoded_model_id
            await stream.push(task.encoded_model_id, encoded)
            ready, plain = await stream.take("t2")
            assert not ready.metadata.update_chain
            np.testing.assert_allclose(decode(plain)["0"], decode(base)["0"] + 1, atol=2**-8)

    asyncio.run(scenario())


def test_what_an_update_leaves_out_follows_what_became_of_it(reducer: FakeReducer, settings: MakeSettings) -> None:
    chain = chain_of("delta", {"name": "topk", "options": {"fraction": 0.1}})

    def ask(task_id: str) -> TaskSpec:
        return train_task("alice", SMALL, task_id, update_chain=chain)

    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, _, _):
            await stream.push(SMALL, SMALL_BYTES)
            sums = []
            for index, (name, answer) in enumerate(
                [("a", "ack"), ("b", "refuse"), ("c", "ack"), ("d", ""), ("e", "ack")]
            ):
                _, data = await take(stream, ask(name), index, answer)
                sums.append(float(decoded(data, chain, SMALL_BYTES)["0"].sum()))
            # Each update is 1 everywhere, of which 4 of 40 values go out. What was left out of an acknowledged one
            # comes with the next: 2 a value. Of a refused one nothing is left, and of one that was not answered
            # neither what it left out nor what came before.
            assert sums == [4.0, 8.0, 8.0, 12.0, 4.0]

    asyncio.run(scenario())


def test_a_task_that_is_asked_again_is_answered_from_the_spool_or_made_from_the_same(
    reducer: FakeReducer, settings: MakeSettings
) -> None:
    chain = chain_of("delta", "int8")
    task = train_task("alice", SMALL, "t1", update_chain=chain)
    mine = settings()

    def trainings() -> int:
        return len((mine.data_dir / "work" / "trained").read_text().split())

    async def scenario() -> None:
        async with attached(reducer, mine) as (stream, _, _):
            await stream.push(SMALL, SMALL_BYTES)
            _, first = await take(stream, task, 0, "")
            await stream.task(task, round_name(0, 1))
            ready, again = await stream.take("t1")  # acknowledged
            assert (ready.metadata.round.attempt, again, trainings()) == (1, first, 1)
            _, third = await take(stream, task, 0, "")
            assert (third, trainings()) == (first, 2)
            # With another chain than the one that waits, the work is done anew.
            other = chain_of("zstd")
            metadata, _ = await take(stream, task.model_copy(update={"update_chain": other}), 0)
            assert (metadata.update_chain, trainings()) == (other, 3)

    asyncio.run(scenario())


def test_an_encoded_model_that_cannot_be_read_fails_the_task_with_its_reason(
    reducer: FakeReducer, settings: MakeSettings
) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, _, _):
            task, _ = coded_task(SMALL, SMALL_BYTES, (), chain_of("bfloat16", models=True))
            task = task.model_copy(update={"encoded_model_id": SMALL})
            await stream.push(SMALL, SMALL_BYTES)
            await stream.task(task, round_name())
            failed = await stream.expect("task_failed")
            assert failed.problem.code == "bad_model"

    asyncio.run(scenario())
