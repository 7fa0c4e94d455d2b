"""A task's model as it comes, and its update as it goes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.client.coding import CodingRequest, TaskCoding
from fedn.client.slots import HeldFile
from fedn.models.codecs.encode import encode
from fedn.models.codecs.payload import Payload
from fedn.models.digest import digest
from fedn.models.wire import decode, read_spec
from fedn.models.wire import encode as to_bytes
from fedn.plan.chains import check_chains, make_chain
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import TaskFailed, UpdateRefused
from fedn.protocol.tasks import CodecChoice

MODEL = bytes(to_bytes({"w": np.linspace(-1, 1, 100, dtype=np.float32), "n": np.arange(3)}))
SPEC = read_spec(MODEL)
MODEL_ID = digest(MODEL)


def request(updates: tuple[Any, ...] = (), models: tuple[Any, ...] = (), **changes: Any) -> CodingRequest:
    plan = check_chains(SessionPlan.model_validate({"update_chain": list(updates), "model_chain": list(models)}))
    given = {"session": "s", "round": 0, "task_id": "t", "model_id": MODEL_ID} | changes
    return CodingRequest(update_chain=plan.update_chain, model_chain=plan.model_chain, **given)


def encoded_model(models: tuple[str, ...]) -> bytes:
    chain = make_chain(request(models=models).model_chain)
    return bytes(encode(chain.of(SPEC, MODEL_ID), decode(MODEL)))


def trained(coding: TaskCoding) -> dict[str, Any]:
    """Trains in place, as learners may."""
    model = coding.model()
    assert model is not None
    weights = {
        name: np.frombuffer(model, array.dtype, array.size, info.start)
        for (name, array), info in zip(decode(model).items(), read_spec(model).tensors, strict=True)
    }
    for array in weights.values():
        array += np.asarray(1, array.dtype)
    return weights


def values_of(data: bytes | bytearray, coding: CodingRequest) -> dict[str, Any]:
    return decode(Payload(make_chain(coding.update_chain).of(SPEC, MODEL_ID), data).decode())


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize("models", [(), ("bfloat16",), ("zstd",), ("int8",)])
def test_differences_are_taken_to_what_came_whatever_training_did_to_it(
    tmp_path: Path, models: tuple[str, ...], in_file: bool
) -> None:
    held: Any = encoded_model(models) if models else MODEL
    if in_file:
        (tmp_path / "model").write_bytes(held + b"what an earlier object left behind")
        held = HeldFile(tmp_path / "model", len(held))
    given = request(("delta",), models)
    coding = TaskCoding(given, held if in_file else bytearray(held))
    update = coding.encode(trained(coding), SPEC, "model")
    assert (update.form, update.coded, update.decoded_bytes) == ("delta", True, len(MODEL))
    sent = values_of(update.data, given)
    np.testing.assert_allclose(sent["w"], 1.0, atol=1e-6)
    np.testing.assert_array_equal(sent["n"], np.arange(3) + 1)
    if in_file:
        assert bytes(held.mapped()) == (encoded_model(models) if models else MODEL)


def test_a_difference_of_the_learner_s_own_is_not_taken_again() -> None:
    given = request(("delta", "bfloat16"))
    coding = TaskCoding(given, bytearray(MODEL))
    coding.model()
    update = coding.encode({"w": np.ones(100, np.float32), "n": np.arange(3)}, SPEC, "delta")
    assert update.form == "delta"
    np.testing.assert_array_equal(values_of(update.data, given)["w"], 1.0)


def test_without_chains_a_model_goes_as_it_is() -> None:
    coding = TaskCoding(request(), bytearray(MODEL))
    assert coding.model() == MODEL
    update = coding.encode(decode(MODEL), SPEC, "model")
    assert (update.form, update.coded) == ("model", False)
    assert to_bytes(update.data) == MODEL


def test_a_chain_that_this_process_does_not_know_is_left_out() -> None:
    given = CodingRequest(
        session="s", round=0, task_id="t", model_id=MODEL_ID, update_chain=(CodecChoice(name="bfloat17"),)
    )
    coding = TaskCoding(given, bytearray(MODEL))
    coding.model()
    update = coding.encode(decode(MODEL), SPEC, "model")
    assert not update.coded
    assert to_bytes(update.data) == MODEL


def test_an_encoded_model_that_is_another_one_is_refused() -> None:
    coding = TaskCoding(request(models=("bfloat16",), model_id=digest(b"other")), encoded_model(("bfloat16",)))
    with pytest.raises(TaskFailed, match="other_model"):
        coding.model()
    with pytest.raises(UpdateRefused):
        TaskCoding(request(models=("float16",)), encoded_model(("bfloat16",))).model()


def test_what_an_update_leaves_out_is_kept_in_the_folder(tmp_path: Path) -> None:
    given = request(("delta", "int8"), feedback_folder=tmp_path / "feedback")
    coding = TaskCoding(given, bytearray(MODEL))
    coding.model()
    tensors = {"w": np.linspace(-3, 5, 100, dtype=np.float32), "n": np.arange(3)}
    sent = values_of(coding.encode(tensors, SPEC, "model").data, given)
    left = np.fromfile(tmp_path / "feedback" / "a.f32", np.float32)
    np.testing.assert_array_equal(left, tensors["w"] - decode(MODEL)["w"] - sent["w"])
    assert left.any()


def test_a_request_survives_its_way_to_the_worker() -> None:
    given = request(("delta", "topk"), ("bfloat16",), feedback_folder=Path("/somewhere"))
    assert CodingRequest.from_json(given.as_json()) == given
    assert CodingRequest.from_json(request().as_json()) == request()
