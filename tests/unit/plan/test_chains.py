"""Chains of a plan: made by name, checked as a whole."""

import pytest
from pydantic import ValidationError

from fedn.models.codecs.base import Bytes, Check, Inverse
from fedn.plan import chains
from fedn.plan.chains import check_chains, known_codecs, make_chain
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import InvalidInput, InvalidSettings
from fedn.protocol.tasks import CodecChoice


def _plan(**fields):
    return SessionPlan.model_validate(fields)


def test_a_codec_is_given_by_its_name_or_with_options():
    plan = _plan(update_chain=["delta", {"name": "topk", "options": {"fraction": 0.1}}], model_chain=["bfloat16"])
    assert plan.update_chain == (CodecChoice(name="delta"), CodecChoice(name="topk", options={"fraction": 0.1}))
    assert plan.model_chain == (CodecChoice(name="bfloat16"),)


@pytest.mark.parametrize("given", ["delta", [3], [{"nam": "delta"}], ["delta"] * 9, [""]])
def test_what_is_no_list_of_codecs_is_refused(given):
    with pytest.raises(ValidationError):
        _plan(update_chain=given)


def test_all_options_are_filled_in_so_that_all_sites_read_the_same():
    plan = check_chains(_plan(update_chain=["delta", "topk", "int8", "zstd"], model_chain=["int8", "zstd"]))
    assert [(choice.name, choice.options) for choice in plan.update_chain] == [
        ("delta", {}),
        ("topk", {"fraction": 0.01, "error_feedback": True}),
        ("int8", {"error_feedback": True}),
        ("zstd", {"level": 1}),
    ]
    assert [(choice.name, choice.options) for choice in plan.model_chain] == [
        ("int8", {"error_feedback": False}),
        ("zstd", {"level": 1}),
    ]
    assert check_chains(plan) == plan


@pytest.mark.parametrize(
    "chain",
    [[], ["delta"], ["bfloat16"], ["float16"], ["int8"], ["zstd"], ["delta", "topk"], ["delta", "topk", "bfloat16"]],
)
def test_chains_that_make_sense_are_taken(chain):
    check_chains(_plan(update_chain=chain))


def test_every_fault_of_both_chains_is_told_at_once():
    with pytest.raises(InvalidSettings) as refused:
        check_chains(
            _plan(
                update_chain=["zstd", {"name": "topk", "options": {"fraction": 2}}, "int9", "int8"],
                model_chain=["delta", "topk", {"name": "int8", "options": {"error_feedback": True}}],
            )
        )
    told = [(problem.where["field"], problem.code) for problem in refused.value.problems]
    assert told == [
        ("update_chain.1", "bad_codec_option"),
        ("update_chain.2", "unknown_option"),
        ("update_chain", "bad_chain"),
        ("model_chain", "bad_chain"),
        ("model_chain", "bad_chain"),
        ("model_chain.2", "bad_chain"),
    ]
    assert all(problem.fix for problem in refused.value.problems)


def test_topk_without_delta_is_refused():
    with pytest.raises(InvalidSettings, match="begin with delta"):
        check_chains(_plan(update_chain=["topk"]))


class _Masks(Bytes):
    """A step that only the sum can be freed of."""

    name = "masks"
    inverse = Inverse.ON_SUM
    hides = frozenset({Check.FINITE, Check.NORM, Check.VALUES})

    def max_bytes(self, size_bytes):
        return size_bytes

    def compress(self, data):
        return bytes(data)

    def unpacked_bytes(self, data):
        return len(data)

    def decompress(self, data, out):
        out[:] = data


@pytest.fixture
def masks(monkeypatch):
    """A codec of another package."""
    real = chains.load_option
    monkeypatch.setattr(chains, "load_option", lambda group, name: _Masks if name == "masks" else real(group, name))


@pytest.mark.usefixtures("masks")
def test_what_is_undone_per_update_cannot_lie_within_what_is_undone_on_the_sum():
    with pytest.raises(InvalidSettings) as refused:
        check_chains(_plan(update_chain=["delta", "topk", "int8", "masks"]))
    assert "topk, int8 within it" in refused.value.problems[0].message
    assert "finite" in refused.value.problems[1].message
    assert len(refused.value.problems) == 2


@pytest.mark.usefixtures("masks")
def test_a_chain_that_hides_what_the_rule_looks_at_is_refused():
    with pytest.raises(InvalidSettings, match="finite, norm"):
        check_chains(_plan(update_chain=["masks"]), {Check.NORM})


def test_the_chain_of_a_plan_can_be_made():
    plan = check_chains(_plan(update_chain=["delta", "int8"]))
    chain = make_chain(plan.update_chain)
    assert [codec.name for codec in chain.codecs] == ["delta", "int8"]
    assert make_chain(plan.update_chain) is chain
    with pytest.raises(InvalidInput):
        make_chain([CodecChoice(name="int9")])


def test_the_installed_codecs_are_known():
    assert set(known_codecs()) >= {"bfloat16", "delta", "float16", "int8", "topk", "zstd"}
