"""What the agent does around a task: the code that trains sees plain models, the servers encrypted ones."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from fedn.client.calls import TaskCall, TaskOutcome
from fedn.client.encryption import TaskEncryption
from fedn.client.slots import HeldFile, Slot
from fedn.client.spool import Spool
from fedn.models.digest import digest
from fedn.models.encrypted import WEIGHT
from fedn.models.wire import decode, encode, read_spec
from fedn.privacy.keys import write_key
from fedn.protocol.errors import FednError, TaskFailed
from fedn.protocol.tasks import CodecChoice, RoundName, TaskKind, UpdateMetadata
from tests.support.encrypted import cipher_of, key_of, secagg

SMALL = {"w": np.linspace(-1, 1, 50, dtype=np.float32), "n": np.arange(3)}
LARGE = {"w": np.linspace(-1, 1, 9000, dtype=np.float32), "n": np.arange(3)}
ENCRYPTION = secagg().encryption("NumTrainingExamples", {})


@pytest.fixture
def spool(tmp_path):
    made = Spool(tmp_path / "spool")
    yield made
    made.close()


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    write_key(key_of(), path)
    return path


def call_of(kind, model=None, **changes):
    call = TaskCall(task_id="t", kind=kind, session="s", round=0, client="c", parameters={}, model=model)
    return replace(call, **changes)


def metadata_of(outcome):
    name = RoundName(session="s", index=0, attempt=0, epoch=0)
    return UpdateMetadata(task_id="t", client="c", round=name, num_examples=outcome.num_examples)


def bytes_of(tensors):
    if isinstance(tensors, HeldFile):
        return bytes(tensors.mapped())
    return bytes(tensors.view(tensors.size_bytes)) if isinstance(tensors, Slot) else bytes(tensors)


def do(encryption, call, spec, work):
    """Runs a task whose code is `work`: (tensors, form, examples) of plain tensors. What went out, and what it saw."""

    async def scenario():
        with await encryption.prepared(call, spec) as prepared:
            model = prepared.call.model
            seen = {} if model is None else {k: v.copy() for k, v in decode(bytes_of(model)).items()}
            tensors, form, examples = work(seen)
            data = bytearray(encode(tensors))
            outcome = TaskOutcome(
                num_examples=examples, form=form, object_id=digest(data), size_bytes=len(data), tensors=data
            )
            return await prepared.encrypted(outcome, metadata_of), seen

    return asyncio.run(scenario())


def plain_of(outcome):
    return decode(cipher_of().decrypt(bytes_of(outcome.tensors)[: outcome.size_bytes]))


@pytest.mark.parametrize("tensors", [SMALL, LARGE], ids=["inline", "in files"])
@pytest.mark.parametrize("form", ["model", "delta"])
@pytest.mark.parametrize("start", ["plain", "encrypted"])
def test_an_update_leaves_times_its_weight_and_encrypted(spool, key_file, tensors, form, start):
    data = bytes(encode(tensors))
    if start == "encrypted":
        data = bytes(cipher_of().encrypt(tensors, cipher_of().alone))

    def work(seen):
        np.testing.assert_allclose(seen["w"], tensors["w"], atol=1e-6)
        step = np.float32(0.5)
        return {"n": seen["n"] + 1, "w": step + (seen["w"] if form == "model" else 0 * seen["w"])}, form, 40

    outcome, _ = do(TaskEncryption(spool, key_file), call_of(TaskKind.TRAIN, data), ENCRYPTION, work)
    assert outcome.form == "model" and outcome.key_id == key_of().key_id
    sent = bytes_of(outcome.tensors)[: outcome.size_bytes]
    assert digest(sent) == outcome.object_id
    assert read_spec(sent).metadata == secagg().update_spec(read_spec(data)).metadata
    assert decode(sent)[WEIGHT] == 40.0
    np.testing.assert_allclose(plain_of(outcome)["w"], tensors["w"] + 0.5, atol=1e-6)
    np.testing.assert_array_equal(plain_of(outcome)["n"], [1, 2, 3])


def test_first_models_and_predictions_are_encrypted_alone(spool, key_file):
    for kind, spec in ((TaskKind.INIT, ENCRYPTION), (TaskKind.PREDICT, None)):
        outcome, _ = do(TaskEncryption(spool, key_file), call_of(kind), spec, lambda seen: (SMALL, "model", 1))
        np.testing.assert_allclose(plain_of(outcome)["w"], SMALL["w"], atol=1e-6)


@pytest.mark.parametrize("kind", [TaskKind.TRAIN, TaskKind.INIT])
def test_with_a_key_nothing_leaves_that_is_not_encrypted(spool, key_file, kind):
    with pytest.raises(TaskFailed) as error:
        do(TaskEncryption(spool, key_file), call_of(kind, bytes(encode(SMALL))), None, lambda seen: (SMALL, "model", 1))
    assert error.value.code == "encryption_required"


def test_without_a_key_nothing_is_done_with_encrypted_models(spool):
    encrypted = bytes(cipher_of().encrypt(SMALL, cipher_of().alone))
    asked = [(TaskKind.VALIDATE, encrypted, None), (TaskKind.TRAIN, bytes(encode(SMALL)), ENCRYPTION)]
    for kind, data, spec in asked:
        with pytest.raises(TaskFailed) as error:
            do(TaskEncryption(spool, None), call_of(kind, data), spec, lambda seen: (SMALL, "model", 1))
        assert error.value.code == "no_key"


def test_without_a_key_other_tasks_are_as_they_were(spool):
    call = call_of(TaskKind.TRAIN, bytes(encode(SMALL)), model_chain=(CodecChoice(name="zstd"),))

    async def scenario():
        with await TaskEncryption(spool, None).prepared(call, None) as prepared:
            assert prepared.call is call
            made = TaskOutcome(object_id="x", tensors=b"x")
            assert await prepared.encrypted(made, metadata_of) is made

    asyncio.run(scenario())


BAD = {
    "weight_out_of_range": lambda seen: (seen, "model", 200_000),
    "update_lacks_metadata": lambda seen: (seen, "model", 0),
    "value_too_large": lambda seen: ({**seen, "w": seen["w"] * np.float32(1000)}, "model", 10),
    "update_does_not_fit": lambda seen: ({"w": seen["w"]}, "model", 10),
}


@pytest.mark.parametrize("code", BAD)
def test_what_the_sum_could_not_hold_fails_with_the_reason(spool, key_file, code):
    with pytest.raises(FednError) as error:
        do(TaskEncryption(spool, key_file), call_of(TaskKind.TRAIN, bytes(encode(SMALL))), ENCRYPTION, BAD[code])
    assert error.value.code == code


def test_a_model_that_is_no_sum_of_this_key_is_not_trained_on(spool, key_file):
    rubbish = cipher_of("another").encrypt(SMALL, cipher_of("another").alone)
    text = cipher_of("another").key_id
    forged = bytes(rubbish).replace(text.encode(), key_of().key_id.encode())
    with pytest.raises(FednError) as error:
        do(
            TaskEncryption(spool, key_file),
            call_of(TaskKind.TRAIN, forged),
            ENCRYPTION,
            lambda seen: (seen, "model", 1),
        )
    assert error.value.code == "bad_encrypted_model"


def test_the_files_of_plain_models_are_used_again(spool, key_file, tmp_path):
    data = bytes(cipher_of().encrypt(LARGE, cipher_of().alone))
    encryption = TaskEncryption(spool, key_file)
    for _ in range(4):
        outcome, _ = do(encryption, call_of(TaskKind.TRAIN, data), ENCRYPTION, lambda seen: (seen, "model", 10))
        spool.discard(outcome.tensors)
    assert len(list((tmp_path / "spool").iterdir())) <= 2
