"""The Compose files as data: each stands alone, says what a service needs, and uses every variable that is offered.

`docker-compose` itself, which validates them with its own schema, is run in tests/docker.
"""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedn.plan.settings import EXAMPLE_SECRETS, ClientSettings, CombinerSettings, ReducerSettings, load_settings
from fedn.plan.settings_load import environment_names

ROOT = Path(__file__).parents[3]
COMPOSE = ROOT / "compose"
ALONE = ["services", "reducer", "combiner", "client"]
FILES = [
    *(f"{name}.yaml" for name in [*ALONE, "sandbox"]),
    *(f"hosts/{p.name}" for p in sorted((COMPOSE / "hosts").glob("*.yaml"))),
]
FOR_COMPOSE = {"COMPOSE_PROJECT_NAME", "COMPOSE_FILE", "COMPOSE_PATH_SEPARATOR", "COMPOSE_IGNORE_ORPHANS"}
VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)(:[-?][^}]*)?\}")
COMPOSED = {
    "FEDN_REDUCER_HOST",
    "FEDN_REDUCER_PORT",
    "FEDN_MONGO_HOST",
    "FEDN_MONGO_PORT",
    "FEDN_MONGO_USER",
    "FEDN_MONGO_PASSWORD",
}
COMPOSED |= {"FEDN_MONGO_CA_FILE", "FEDN_MINIO_HOST", "FEDN_MINIO_PORT"}
"""Variables that settings are made of (`fedn.plan.settings_load`) and that are no setting's name themselves."""


def text(name: str) -> str:
    return (COMPOSE / name).read_text(encoding="utf-8")


def services(name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(text(name))["services"]
    return found


def example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def used() -> dict[str, set[str]]:
    """Variables of all files, each with what stands for it where it is not set."""
    found: dict[str, set[str]] = {}
    for name in FILES:
        for match in VARIABLE.finditer(text(name)):
            found.setdefault(match[1], set()).add(match[2] or "")
    return found


def test_every_variable_of_the_example_is_used_and_every_default_is_the_same() -> None:
    assert set(example()) == FOR_COMPOSE | (set(example()) & set(used()))
    for name, defaults in used().items():
        stated = {default[2:] for default in defaults if default.startswith(":-")} - {""}
        assert len(stated) <= 1, f"{name} has several defaults: {stated}"
        if stated and name in example():
            assert stated == {example()[name]}, name


def test_no_variable_is_nested_in_another() -> None:
    # docker-compose 1.29 does not know that.
    for name in FILES:
        assert not re.search(r"\$\{[^}]*\$\{", text(name)), name


def test_the_sandbox_is_all_files_in_order() -> None:
    assert example()["COMPOSE_FILE"].split(":") == [f"compose/{name}.yaml" for name in [*ALONE, "sandbox"]]
    assert os.readlink(COMPOSE / ".env") == "../.env"


@pytest.mark.parametrize("name", ALONE)
def test_a_file_stands_alone(name: str) -> None:
    found = yaml.safe_load(text(f"{name}.yaml"))
    assert "version" not in found
    named = set(found.get("volumes", {}))
    for service in found["services"].values():
        assert "depends_on" not in service and "links" not in service
        given = [VARIABLE.sub(lambda match: match[2][2:], volume) for volume in service.get("volumes", [])]
        volumes = {volume.split(":")[0] for volume in given}
        assert {volume for volume in volumes if not volume.startswith((".", "/", "$"))} <= named


@pytest.mark.parametrize("name", [*(f"{name}.yaml" for name in ALONE), "sandbox.yaml"])
def test_what_runs_is_bounded_and_comes_back(name: str) -> None:
    for service, content in services(name).items():
        if "image" not in content:
            continue
        assert content["restart"] == ("no" if service == "project" else "unless-stopped"), service
        assert content["mem_limit"] and content["pids_limit"], service
        options = content["logging"]["options"]
        assert options["max-size"] and options["max-file"], service
        assert "no-new-privileges:true" in content["security_opt"], service
        assert "privileged" not in content and "docker.sock" not in str(content), service


@pytest.mark.parametrize(("name", "service"), [("reducer", "reducer"), ("combiner", "combiner"), ("client", "client")])
def test_our_own_images_get_no_capability_and_a_health_check(name: str, service: str) -> None:
    content = services(f"{name}.yaml")[service]
    assert content["cap_drop"] == ["ALL"] and content["init"] is True
    assert content["healthcheck"]["test"] == ["CMD", "fedn", name, "health"]
    if name != "client":
        assert content["read_only"] is True


def test_ports_are_published_at_the_chosen_address_or_here() -> None:
    for name in FILES:
        for service, content in services(name).items():
            for port in content.get("ports", []):
                where = port.startswith(("${FEDN_PUBLISH_ADDRESS:-127.0.0.1}:", "127.0.0.1:"))
                assert where, f"{name}: {service}: {port}"


def filled(content: dict[str, Any]) -> dict[str, str]:
    """A service's environment with the example's values."""

    def value(match: re.Match[str]) -> str:
        default = (match[2] or "")[2:] if (match[2] or "").startswith(":-") else ""
        return example().get(match[1], default)

    return {name: VARIABLE.sub(value, str(given)) for name, given in content["environment"].items()}


@pytest.mark.parametrize(
    ("file", "service", "cls"),
    [
        ("reducer.yaml", "reducer", ReducerSettings),
        ("combiner.yaml", "combiner", CombinerSettings),
        ("combiner.yaml", "combiner2", CombinerSettings),
        ("client.yaml", "client", ClientSettings),
    ],
)
def test_each_variable_of_a_program_sets_something(file: str, service: str, cls: Any) -> None:
    environment = filled(services(file)[service])
    known = {name for names in environment_names(cls).values() for name in names} | COMPOSED
    other = {
        "FEDN_CONTEXT",
        "FEDN_DATASETS_CACHE",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
    }
    assert set(environment) <= known | other
    settings = load_settings(cls, file=None, environ=environment, flags={})
    if isinstance(settings, ReducerSettings):
        assert (
            settings.trust_dir == Path("/trust") and settings.state.kind == "mongodb" and settings.models.kind == "s3"
        )
        assert "reducer" in settings.public_hosts
    elif isinstance(settings, CombinerSettings):
        assert settings.reducer_url == "https://reducer:8090" and settings.public_host == settings.name == service
    else:
        assert settings.name.startswith("client-") and str(settings.ca_file) == "/trust/ca.crt"


def test_secrets_go_where_they_are_needed_and_nowhere_else() -> None:
    enrolment = example()["FEDN_ALLIANCE_AUTH_TOKEN"]
    for file, service in (("combiner.yaml", "combiner"), ("combiner.yaml", "combiner2"), ("client.yaml", "client")):
        given = set(filled(services(file)[service]).values())
        assert given & EXAMPLE_SECRETS == {enrolment}, service
    for name in FILES:
        assert "env_file" not in text(name)
        for service, content in services(name).items():
            for volume in content.get("volumes", []):
                if volume.startswith("trust:") and service != "reducer":
                    assert volume == "trust:/trust:ro", f"{name}: {service}"


def test_names_of_fedn_lead_to_our_projects() -> None:
    projects = ROOT / "test-projects"
    assert os.readlink(projects / "mnist") == "mnist-keras"
    assert os.readlink(projects / "data_center") == "data-center"


def test_nothing_secret_can_get_into_an_image() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in ignored if line and not line.startswith("#")]
    assert patterns[0] == "*"
    kept = {line.removeprefix("!") for line in patterns if line.startswith("!")}
    assert kept == {"pyproject.toml", "README.md", "LICENSE", "fedn", "test-projects"}
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^USER (.+)$", dockerfile, re.M) == ["10001:10001"]
    assert not re.search(r"(?i)(secret|password|token)=", dockerfile)
