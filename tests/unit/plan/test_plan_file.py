"""Plans from files and flags."""

from pathlib import Path

import pytest

from fedn.cli.main import run
from fedn.cli.plan import EXAMPLE
from fedn.plan.plan_file import make_plan, parse_values, read_plan
from fedn.protocol.errors import InvalidInput, InvalidSettings


def test_every_fault_of_a_plan_is_told() -> None:
    with pytest.raises(InvalidSettings) as caught:
        make_plan({"rounds": 0, "round_timeout": 3, "sum_dtype": "float16"}, source="test")
    assert {problem.where["field"] for problem in caught.value.problems} == {"rounds", "round_timeout", "sum_dtype"}


def test_a_misspelt_field_is_guessed() -> None:
    with pytest.raises(InvalidSettings) as caught:
        make_plan({"rouns": 3}, source="flags")
    assert "Did you mean 'rounds'?" in caught.value.problems[0].fix


def test_values_are_numbers_truths_lists_and_texts() -> None:
    given = parse_values(["a=3", "b=0.5", "c=true", "d=[1, 2]", "e=adam", "f=x=y"])
    assert given == {"a": 3, "b": 0.5, "c": True, "d": [1, 2], "e": "adam", "f": "x=y"}


@pytest.mark.parametrize("item", ["epochs", "=3"])
def test_a_parameter_without_name_or_value_is_refused(item: str) -> None:
    with pytest.raises(InvalidInput, match="bad_parameter"):
        parse_values([item])


def test_a_missing_plan_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"plan\.yaml"):
        read_plan(tmp_path / "plan.yaml")


def test_the_example_is_a_good_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.yaml").write_text(EXAMPLE)
    assert run(["plan", "check", str(tmp_path / "plan.yaml")]) == 0
    assert "10 rounds" in capsys.readouterr().out


def test_the_fields_of_a_plan_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "fields"]) == 0
    text = capsys.readouterr().out
    assert "validate" in text and "validate_models" not in text
    assert "The quorum" in text
