"""`fedn new`: what it writes is a project."""

import ast
from pathlib import Path

import pytest

from fedn.cli.new import make_project
from fedn.plan.package import build_package, inspect_package
from fedn.plan.plan_file import make_plan, read_plan
from fedn.protocol.errors import Conflict, InvalidInput

FRAMEWORKS = ["numpy", "sklearn", "pytorch", "keras"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_new_project_has_a_good_package_and_plan(framework: str, tmp_path: Path) -> None:
    make_project(tmp_path / "my-project", framework)
    manifest = inspect_package(build_package(tmp_path / "my-project" / "client"))
    assert manifest.learner == "learner:MyProjectLearner"
    assert manifest.helper == framework
    plan = make_plan(read_plan(tmp_path / "my-project" / "plan.yaml"), source="plan.yaml")
    assert plan.helper == framework
    assert plan.parameters["epochs"] > 0


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_plans_parameters_are_those_that_the_learner_reads(framework: str, tmp_path: Path) -> None:
    make_project(tmp_path / "p", framework)
    source = (tmp_path / "p" / "client" / "learner.py").read_text()
    asked = {
        str(call.args[0].value)
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "get"
        and isinstance(call.args[0], ast.Constant)
    }
    assert asked == set(read_plan(tmp_path / "p" / "plan.yaml")["parameters"])


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(Conflict):
        make_project(tmp_path, "numpy")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["1st", "---", "..."])
def test_a_name_that_names_no_class_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="bad_project_name"):
        make_project(tmp_path / name, "numpy")
