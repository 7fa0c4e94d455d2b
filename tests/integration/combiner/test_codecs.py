"""Chains between a combiner and its clients: who is asked for what, what goes out, and what is refused."""

import asyncio
from typing import Any

import numpy as np
import pytest
import zstandard

from fedn.models.codecs.encode import encode as encode_tensors
from fedn.models.codecs.payload import read_model
from fedn.models.digest import digest
from fedn.models.wire import decode, encode, read_spec, view
from fedn.network.convert import chain_from_wire
from fedn.network.frames import CHUNK_BYTES
from fedn.network.generated import client_pb2, common_pb2
from fedn.plan.chains import check_chains, make_chain
from fedn.plan.session import SessionPlan
from fedn.protocol.rounds import LedgerState, RoundSpec
from tests.support.wire import PATIENCE_S, Scene, Trust, WireReducer, model, round_spec, scenario

BASE = model(0.5)
BIG = model(0.5, size=CHUNK_BYTES)
OBJECTS = {digest(BASE): BASE, digest(BIG): BIG}
CODECS = ["bfloat16", "delta", "float16", "int8", "topk", "zstd"]


def coded_round(base: bytes, clients: list[str], updates: list[Any], models: list[Any], **changes: Any) -> RoundSpec:
    """A round whose tasks ask for these chains."""
    plan = check_chains(SessionPlan.model_validate({"update_chain": updates, "model_chain": models}))
    spec = round_spec(base, clients, **changes)
    tasks = [
        task.model_copy(update={"update_chain": plan.update_chain, "model_chain": plan.model_chain})
        for task in spec.tasks
    ]
    return spec.model_copy(update={"tasks": tuple(tasks)})


def coded_update(task: Any, base: bytes, tensors: dict[str, Any], **options: Any) -> bytes:
    """What the task's chain makes of an update: of values, or of differences to the base with `start`."""
    encoding = make_chain(chain_from_wire(task.update_chain)).of(read_spec(base), task.model_id)
    return bytes(encode_tensors(encoding, tensors, **options))


def of_size(base: bytes, value: float) -> dict[str, Any]:
    return {name: np.full_like(array, value) for name, array in decode(base).items()}


async def result_of(reducer: WireReducer, spec: RoundSpec) -> dict[str, Any]:
    done = await reducer.done(spec.name)
    tensors = await reducer.fetch(done.model_id)
    assert tensors is not None
    return decode(tensors)


@pytest.mark.parametrize("base", [BASE, BIG], ids=["small", "large"])
def test_each_client_is_asked_in_its_own_words_and_all_count(base: bytes, trust: Trust, tmp_path: Any) -> None:
    @scenario()
    async def body(scene: Scene) -> None:
        async with scene.reducer() as reducer, scene.client("new") as new, scene.client("old") as old:
            await reducer.hello()
            await new.hello(codecs=CODECS)
            await old.hello(codecs=["delta"])
            spec = coded_round(base, ["new", "old"], ["delta", "int8"], ["bfloat16"])
            await reducer.start(spec, OBJECTS)

            task = await new.accept()
            assert [codec.name for codec in task.update_chain] == ["delta", "int8"]
            assert [codec.name for codec in task.model_chain] == ["bfloat16"]
            received = bytes(new.objects[task.encoded_model_id])
            assert digest(received) == task.encoded_model_id != task.model_id
            assert task.model_id not in new.objects
            assert len(received) < len(base) or base is BASE
            named, payload = read_model(make_chain(chain_from_wire(task.model_chain)), received, max_bytes=1 << 26)
            assert named == digest(base)
            np.testing.assert_array_equal(decode(payload.decode())["w"], decode(base)["w"])
            update = coded_update(task, base, of_size(base, 2.0), start=payload.start())
            used = chain_from_wire(task.update_chain)
            await new.answer(task, update, form="delta", update_chain=used, decoded_bytes=len(base))

            task = await old.accept()
            assert not task.update_chain and not task.model_chain and not task.encoded_model_id
            assert bytes(old.objects[task.model_id]) == base
            await old.answer(task, bytes(encode(of_size(base, 4.0))))

            mean = await result_of(reducer, spec)
            np.testing.assert_allclose(mean["w"], 3.0, rtol=1e-5)
            np.testing.assert_allclose(mean["b"], 3.0, rtol=1e-5)
            told = await reducer.ledger("new", LedgerState.UPDATED)
            assert [codec.name for codec in told.metadata.update_chain] == ["delta", "int8"]
            assert (told.size_bytes, told.metadata.decoded_bytes) == (len(update), len(base))

    body(trust, tmp_path)


@scenario()
async def test_a_client_may_answer_without_the_chain_it_was_asked_for(scene: Scene) -> None:
    async with scene.reducer() as reducer, scene.client("a") as a:
        await reducer.hello()
        await a.hello(codecs=CODECS)
        spec = coded_round(BASE, ["a"], ["delta", "topk", "zstd"], [])
        await reducer.start(spec, OBJECTS)
        task = await a.accept()
        assert not task.encoded_model_id and bytes(a.objects[task.model_id]) == BASE
        await a.answer(task, bytes(encode(of_size(BASE, 7.0))))
        np.testing.assert_array_equal((await result_of(reducer, spec))["w"], 7.0)


@scenario()
async def test_an_encoded_model_is_made_once_and_fetched_like_any_other_object(scene: Scene) -> None:
    async with scene.reducer() as reducer, scene.client("a") as a, scene.client("b") as b:
        await reducer.hello()
        await a.hello(codecs=CODECS)
        spec = coded_round(BIG, ["a", "b"], [], ["bfloat16"])
        await reducer.start(spec, OBJECTS)
        first = await a.accept()
        await b.hello(codecs=CODECS, held_objects=[first.encoded_model_id])  # has it, of another stream
        second = await b.accept()
        assert second.encoded_model_id == first.encoded_model_id
        assert not b.objects
        fetch = common_pb2.ObjectFetch(object_id=second.encoded_model_id, offset=100)
        await b.write(client_pb2.ClientFrame(fetch=fetch))
        assert (await b.expect("object")).offset == 100
        wanted = a.objects[first.encoded_model_id][100:]
        async with asyncio.timeout(PATIENCE_S):
            while b.objects[second.encoded_model_id][100:] != wanted:  # a Pong may overtake pieces
                await b.ping()


@scenario()
async def test_a_model_that_a_codec_cannot_store_goes_out_as_it_is(scene: Scene) -> None:
    large = model(1e6)
    async with scene.reducer() as reducer, scene.client("a") as a:
        await reducer.hello()
        await a.hello(codecs=CODECS)
        await reducer.start(coded_round(large, ["a"], [], ["float16"]), {digest(large): large})
        task = await a.accept()
        assert not task.encoded_model_id and not task.model_chain
        assert bytes(a.objects[task.model_id]) == large


@scenario()
async def test_a_client_that_comes_back_without_codecs_is_asked_anew(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        async with scene.client("a") as a:
            await a.hello(codecs=CODECS)
            spec = coded_round(BASE, ["a"], ["bfloat16"], ["bfloat16"])
            await reducer.start(spec, OBJECTS)
            assert (await a.accept()).encoded_model_id
        async with scene.client("a") as a:
            await a.hello()
            task = await a.accept()
            assert not task.encoded_model_id and not task.update_chain
            assert bytes(a.objects[task.model_id]) == BASE
            await a.answer(task, bytes(encode(of_size(BASE, 1.0))))
        await reducer.done(spec.name)


@scenario()
async def test_a_round_with_a_codec_that_the_combiner_does_not_know_is_refused(scene: Scene) -> None:
    async with scene.reducer() as reducer:
        await reducer.hello()
        spec = coded_round(BASE, ["a"], ["bfloat16"], [])
        wrong = [{"name": "bfloat17", "options": {}}]
        tasks = tuple(task.model_validate(task.model_dump() | {"update_chain": wrong}) for task in spec.tasks)
        refused = await reducer.start(spec.model_copy(update={"tasks": tasks}), OBJECTS)
        assert refused.problem.code == "unknown_option"


def damaged(name: str, place: int, value: Any) -> Any:
    """Changes one element of a stored array of a payload."""

    def change(data: bytes) -> bytes:
        buffer = bytearray(data)
        view(buffer, read_spec(buffer).by_name[name]).reshape(-1)[place] = value
        return bytes(buffer)

    return change


INT8 = ["delta", {"name": "int8", "options": {"error_feedback": False}}]
TOPK = ["delta", {"name": "topk", "options": {"fraction": 0.25}}]
REFUSALS: dict[str, tuple[list[Any], Any, str, str]] = {
    "a scale that is no number": (INT8, damaged("w#scale", 0, np.nan), "update_not_finite", "w#scale"),
    "a negative scale": (INT8, damaged("w#scale", 0, -1), "bad_encoding", "scale of -1"),
    "a value of -128": (INT8, damaged("w", 3, -128), "bad_encoding", "below -127"),
    "places out of order": (TOPK, damaged("w#places", 0, 14), "bad_encoding", "do not ascend"),
    "a place outside": (TOPK, damaged("w#places", 3, 16), "bad_encoding", "outside its tensor"),
    "a count too many": (TOPK, damaged("w#counts", 0, 5), "bad_encoding", "do not add up"),
    "a kept value that is no number": (TOPK, damaged("w", 0, np.inf), "update_not_finite", "'w'"),
    "a half that is no number": (["bfloat16"], damaged("w", 0, np.nan), "update_not_finite", "'w'"),
    "no chain in the header": (["bfloat16"], lambda data: bytes(encode(decode(data))), "update_does_not_fit", "chain"),
    "not encoded at all": (["bfloat16"], lambda data: BASE, "update_does_not_fit", "chain"),
    "packed rubbish": (["zstd"], lambda data: b"rubbish" * 9, "bad_encoding", "no frame"),
    "a cut frame": (["zstd"], lambda data: data[:-2], "bad_encoding", "one whole frame"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_bad_encoding_is_refused_with_its_reason_and_leaves_no_trace_in_the_sum(
    case: str, trust: Trust, tmp_path: Any
) -> None:
    updates, change, code, text = REFUSALS[case]

    @scenario()
    async def body(scene: Scene) -> None:
        async with scene.reducer() as reducer, scene.client("a") as a, scene.client("b") as b:
            await reducer.hello()
            for client in (a, b):
                await client.hello(codecs=CODECS)
            spec = coded_round(BASE, ["a", "b"], updates, [])
            await reducer.start(spec, OBJECTS)
            task = await a.accept()
            used = chain_from_wire(task.update_chain)
            form = "delta" if used[0].name == "delta" else "model"
            bad = change(coded_update(task, BASE, {"w": np.arange(16, dtype=np.float32), "b": np.ones(2, np.float32)}))
            await a.answer(task, bad, form=form, update_chain=used)
            told = await reducer.ledger("a", LedgerState.REFUSED)
            assert told.problem.code == code
            assert text in told.problem.message
            task = await b.accept()
            await b.answer(task, bytes(encode(of_size(BASE, 3.0))))
            np.testing.assert_array_equal((await result_of(reducer, spec))["w"], 3.0)

    body(trust, tmp_path)


async def announced(scene: Scene, updates: list[Any], data: bytes, **changes: Any) -> tuple[str, str]:
    """(code, message) of the refusal of an update that was merely announced."""
    async with scene.reducer() as reducer, scene.client("a") as a:
        await reducer.hello()
        await a.hello(codecs=CODECS)
        await reducer.start(coded_round(BASE, ["a"], updates, []), OBJECTS)
        task = await a.accept()
        await a.announce(task, data, **changes)
        refused = await a.expect("refused")
        return refused.problem.code, refused.problem.message


@scenario()
async def test_a_chain_that_nobody_asked_for_is_refused(scene: Scene) -> None:
    chain = check_chains(SessionPlan.model_validate({"update_chain": ["float16"]})).update_chain
    code, message = await announced(scene, ["bfloat16"], b"x" * 100, update_chain=chain)
    assert (code, "float16" in message) == ("update_other_chain", True)


@scenario()
async def test_a_difference_must_say_that_it_is_one(scene: Scene) -> None:
    chain = check_chains(SessionPlan.model_validate({"update_chain": ["delta"]})).update_chain
    code, message = await announced(scene, ["delta"], b"x" * 100, update_chain=chain, form="model")
    assert (code, "no difference" in message) == ("update_other_chain", True)


@scenario()
async def test_more_bytes_than_a_chain_can_make_are_refused_before_they_come(scene: Scene) -> None:
    chain = check_chains(SessionPlan.model_validate({"update_chain": ["zstd"]})).update_chain
    code, _ = await announced(scene, ["zstd"], bytes(3 << 20), update_chain=chain)
    assert code == "update_does_not_fit"


@scenario()
async def test_a_frame_that_would_unpack_to_gigabytes_is_refused_unopened(scene: Scene) -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(1 << 28))
    async with scene.reducer() as reducer, scene.client("a") as a:
        await reducer.hello()
        await a.hello(codecs=CODECS)
        await reducer.start(coded_round(BASE, ["a"], ["zstd"], []), OBJECTS)
        task = await a.accept()
        await a.answer(task, bomb, update_chain=chain_from_wire(task.update_chain))
        told = await reducer.ledger("a", LedgerState.REFUSED)
        assert (told.problem.code, "268435456 bytes" in told.problem.message) == ("bad_encoding", True)
