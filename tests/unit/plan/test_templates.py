"""The templates that people start from: whole, loadable, and with secrets that nobody can run with."""

import re
from pathlib import Path

import pytest

from fedn.plan.settings import (
    EXAMPLE_SECRETS,
    ClientSettings,
    CombinerSettings,
    ReducerSettings,
    Settings,
    load_settings,
)
from fedn.plan.settings_load import environment_names
from fedn.plan.strict_yaml import read_mapping
from fedn.protocol.errors import InvalidSettings

ROOT = Path(__file__).parents[3]
PROGRAMS = [ReducerSettings, CombinerSettings, ClientSettings]


def environment_example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("cls", PROGRAMS)
def test_template_loads_as_it_is(cls: type[Settings]) -> None:
    environ = {"FEDN_JOIN": "fedn1.x"}
    load_settings(cls, file=ROOT / "config" / f"{cls.program}.yaml", environ=environ, flags={})


@pytest.mark.parametrize("cls", PROGRAMS)
def test_template_shows_every_setting_and_no_other(cls: type[Settings]) -> None:
    text = (ROOT / "config" / f"{cls.program}.yaml").read_text(encoding="utf-8")
    shown = read_mapping(re.sub(r"(?m)^#(?=\S|  \S)", "", text), name="template")
    paths = {f"{key}.{name}" for key, value in shown.items() if key in {"models", "state", "updates"} for name in value}
    paths |= set(shown) - {"models", "state", "updates"}
    assert paths == set(environment_names(cls))


@pytest.mark.parametrize("cls", PROGRAMS)
def test_template_shows_the_defaults(cls: type[Settings]) -> None:
    text = (ROOT / "config" / f"{cls.program}.yaml").read_text(encoding="utf-8")
    shown = read_mapping(re.sub(r"(?m)^#(?=\S|  \S)", "", text), name="template")
    examples = {"join", "reducer_url", "ca_fingerprint", "ca_file", "enrolment_secret", "admin_secret", "name"}
    examples |= {
        "public_hosts",
        "public_url",
        "public_host",
        "models",
        "state",
        "updates",
        "combiner",
        "learner",
        "data_path",
    }
    examples |= {
        "encryption_key",
        "memory_bytes",
        "public_port",
        "trust_dir",
        "published_at",
        "isolation_image",
        "isolation_cpus",
    }
    stated = {key: value for key, value in shown.items() if key not in examples}
    settings = cls.model_validate({**stated, **({} if cls is ReducerSettings else {"join": "fedn1.x"})})
    for name in stated:
        default = cls.model_fields[name].get_default(call_default_factory=True)
        assert getattr(settings, name) == default, name


def test_example_environment_is_refused_for_each_of_its_secrets() -> None:
    with pytest.raises(InvalidSettings) as caught:
        load_settings(ReducerSettings, file=None, environ=environment_example(), flags={})
    assert {(problem.code, problem.where["field"]) for problem in caught.value.problems} == {
        ("example_secret", "enrolment_secret"),
        ("example_secret", "admin_secret"),
        ("example_secret", "models.secret_key"),
        ("example_secret", "state.url"),
    }


def test_example_environment_starts_where_example_secrets_are_allowed() -> None:
    flags = {"allow_example_secrets": True}
    settings = load_settings(ReducerSettings, file=None, environ=environment_example(), flags=flags)
    assert settings.federation == "fedn-network"
    assert settings.models.kind == "s3" and settings.models.endpoint == "minio:9000" and not settings.models.secure
    assert settings.state.kind == "mongodb" and settings.state.database == "fedn-network"
    assert settings.state.url == "mongodb://fedn_admin:example-mongo-password-replace-me@mongo:27017/"
    assert settings.public_hosts[-1] == "reducer"
    assert settings.url(settings.port) == "https://reducer:8090"


def test_every_secret_of_the_example_is_known_as_such() -> None:
    secrets = {value for value in environment_example().values() if value.startswith("example-")}
    assert secrets == EXAMPLE_SECRETS
