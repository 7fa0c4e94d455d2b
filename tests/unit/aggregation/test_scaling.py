"""Scaling factors: what an update weighs, and which metadata must be there for it."""

import pytest

from fedn.aggregation.scaling.base import check_required, get_scaling_factor
from fedn.protocol.errors import InvalidInput, UpdateRefused
from fedn.protocol.tasks import RoundName, UpdateMetadata

NAME = RoundName(session="s", index=0, attempt=0, epoch=0)


def metadata(**changes: object) -> UpdateMetadata:
    return UpdateMetadata(task_id="t", client="c", round=NAME, **changes)


@pytest.mark.parametrize(
    ("name", "weight", "required"),
    [
        ("NumTrainingExamples", 30.0, {"num_examples"}),
        ("NumCompletedBatches", 7.0, {"num_steps"}),
        ("NumParticipants", 1.0, set()),
    ],
)
def test_weights_by_the_names_of_metisfl(name: str, weight: float, required: set[str]) -> None:
    factor = get_scaling_factor(name, {})
    assert factor.weight_of(metadata(num_examples=30, num_steps=7)) == weight
    assert factor.required == required


def test_a_missing_key_is_named_with_who_needs_it() -> None:
    check_required(metadata(num_steps=1), [("num_steps", "it")])
    with pytest.raises(UpdateRefused, match="does not say num_steps, which the scaling factor X needs") as caught:
        check_required(metadata(num_examples=3), [("num_examples", "it"), ("num_steps", "the scaling factor X")])
    assert caught.value.code == "update_lacks_metadata"


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(InvalidInput, match="NumParticipants"):
        get_scaling_factor("NumParticipant", {})
    with pytest.raises(InvalidInput, match="no option power"):
        get_scaling_factor("NumParticipants", {"power": 2})
