"""Conversions between protocol types and wire messages lose nothing, over the real bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.network import convert
from fedn.network.generated import combiner_pb2, common_pb2
from fedn.protocol.errors import InvalidInput
from fedn.protocol.rounds import CombinerModel, Contribution, LedgerEntry, LedgerState, Reason, RoundSpec
from fedn.protocol.tasks import CodecChoice, RoundName, Section, TaskKind, TaskSpec, UpdateMetadata

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.floats(0, 1e12, allow_nan=False)
metrics = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), numbers, max_size=4
)
names = st.builds(
    RoundName,
    session=text,
    index=st.integers(0, 2**31),
    attempt=st.integers(0, 2**31),
    epoch=st.integers(0, 2**63),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
chains = st.lists(
    st.builds(
        CodecChoice,
        name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
        options=st.dictionaries(text, json_values, max_size=3),
    ),
    max_size=4,
).map(tuple)
sections = st.lists(
    st.builds(
        Section,
        name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
        size_bytes=st.integers(1, 2**62),
    ),
    max_size=3,
).map(tuple)
tasks = st.builds(
    TaskSpec,
    task_id=text,
    client=text,
    kind=st.sampled_from(TaskKind),
    model_id=text,
    validate_incoming=st.booleans(),
    step_budget=st.none() | st.integers(1, 2**31),
    parameters=st.dictionaries(text, json_values, max_size=4),
    package_id=text,
    helper=text,
    update_chain=chains,
    model_chain=chains,
    encoded_model_id=text,
    input_id=text,
    extras=sections,
    last_counted=st.none() | st.integers(0, 2**31),
)
metadata = st.builds(
    UpdateMetadata,
    task_id=text,
    client=text,
    round=names,
    base_model_id=text,
    form=st.sampled_from(["model", "delta"]),
    num_examples=st.integers(0, 2**63),
    num_steps=st.integers(0, 2**63),
    ms_per_step=numbers,
    ms_per_epoch=numbers,
    task_ms=numbers,
    metrics=metrics,
    validation=metrics,
    num_validation_examples=st.integers(0, 2**63),
    update_chain=chains,
    decoded_bytes=st.integers(0, 2**63),
    model_chain=chains,
    model_bytes=st.integers(0, 2**63),
    extras=sections,
)


@given(names)
def test_round_names(name):
    assert (
        convert.round_from_wire(common_pb2.RoundName.FromString(convert.round_to_wire(name).SerializeToString()))
        == name
    )


@given(tasks, names, numbers)
def test_tasks(task, name, deadline_s):
    message = common_pb2.Task.FromString(convert.task_to_wire(task, name, deadline_s).SerializeToString())
    assert convert.task_from_wire(message) == task
    assert convert.round_from_wire(message.round) == name
    assert message.deadline_s == deadline_s


@given(metadata)
def test_update_metadata(value):
    message = common_pb2.UpdateMetadata.FromString(convert.metadata_to_wire(value).SerializeToString())
    assert convert.metadata_from_wire(message) == value


@given(
    st.builds(
        RoundSpec,
        name=names,
        tasks=st.lists(tasks, max_size=3).map(tuple),
        deadline_s=st.floats(0.1, 1e6),
        upload_grace_s=numbers,
        disconnect_grace_s=numbers,
        rule=text,
        rule_options=st.dictionaries(text, json_values, max_size=3),
        sum_dtype=st.sampled_from(["float32", "float64"]),
        deterministic=st.booleans(),
        combiner_optimizer=text,
        combiner_optimizer_options=st.dictionaries(text, json_values, max_size=3),
        optimizer_state_id=text,
        buffered=st.booleans(),
        required_metadata=st.dictionaries(text, text, max_size=2),
    )
)
def test_round_specs(spec):
    message = combiner_pb2.StartRound.FromString(convert.spec_to_wire(spec).SerializeToString())
    assert convert.spec_from_wire(message) == spec


reasons = st.builds(Reason, code=text, message=text, fix=text)


@given(
    st.builds(
        LedgerEntry,
        client=text,
        combiner=st.just("c"),
        task_id=text,
        state=st.sampled_from(LedgerState),
        reason=st.none() | reasons,
        update_id=text,
        size_bytes=st.integers(0, 2**63),
        metadata=st.none() | metadata,
        updated_at=st.just(5.0),
    )
)
def test_ledger_entries(entry):
    message = combiner_pb2.LedgerChange.FromString(convert.ledger_to_wire(entry).SerializeToString())
    assert convert.ledger_from_wire(message, combiner="c", updated_at=5.0) == entry


@given(
    st.builds(
        CombinerModel,
        combiner=st.just("c"),
        model_id=text,
        size_bytes=st.integers(0, 2**63),
        weight=numbers,
        contributions=st.lists(
            st.builds(
                Contribution,
                client=text,
                update_id=text,
                num_examples=st.integers(0, 2**63),
                weight=numbers,
                base_index=st.none() | st.integers(0, 2**32 - 1),
            ),
            max_size=3,
        ).map(tuple),
        fold_ms=numbers,
    )
)
def test_combiner_models(model):
    message = combiner_pb2.RoundDone.FromString(convert.result_to_wire(model, "all in").SerializeToString())
    assert message.reason == "all in"
    assert convert.result_from_wire(message, "c") == model


def test_what_this_version_does_not_know_is_refused():
    with pytest.raises(InvalidInput, match="task kind"):
        convert.kind_from_wire(77)
    with pytest.raises(InvalidInput, match="ledger state"):
        convert.ledger_from_wire(combiner_pb2.LedgerChange(state=99), combiner="c", updated_at=0.0)
    with pytest.raises(InvalidInput, match="JSON object"):
        convert.task_from_wire(common_pb2.Task(kind=2, parameters_json="[1]"))
    with pytest.raises(InvalidInput, match="update metadata"):
        convert.metadata_from_wire(common_pb2.UpdateMetadata(ms_per_step=-1.0))
