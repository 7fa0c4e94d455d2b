"""Settings: which source wins, and every fault at once with its field, source, code and fix."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pymongo.uri_parser import parse_uri

from fedn.plan.settings import (
    ClientSettings,
    CombinerSettings,
    ModelStoreSettings,
    ReducerSettings,
    StateStoreSettings,
    load_settings,
)
from fedn.protocol.errors import FednError, InvalidSettings


def faults(
    cls: type,
    *,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> dict[str, FednError]:
    with pytest.raises(InvalidSettings) as caught:
        load_settings(cls, file=file, environ=environ or {}, flags=flags or {})
    fields = [problem.where.get("field", "") for problem in caught.value.problems]
    assert len(fields) == len(set(fields)), caught.value
    return dict(zip(fields, caught.value.problems, strict=True))


def written(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_outweigh_environment_outweighs_file_outweighs_defaults(tmp_path: Path) -> None:
    file = written(tmp_path, "port: 1\nrest_threads: 3\nfederation: from-file\nmodels: {path: /m}\n")
    environ = {"FEDN_PORT": "2", "ALLIANCE_UID": "from-environment"}
    settings = load_settings(ReducerSettings, file=file, environ=environ, flags={"port": 4, "bind": None})
    assert (settings.port, settings.rest_threads, settings.federation) == (4, 3, "from-environment")
    assert (settings.bind, settings.models.path) == ("0.0.0.0", Path("/m"))


def test_name_with_the_program_in_it_outweighs_the_one_without() -> None:
    environ = {"FEDN_LOG_LEVEL": "debug", "FEDN_REDUCER_LOG_LEVEL": "error"}
    assert load_settings(ReducerSettings, file=None, environ=environ, flags={}).log_level == "error"
    environ |= {"FEDN_JOIN": "fedn1.x"}
    assert load_settings(ClientSettings, file=None, environ=environ, flags={}).log_level == "debug"


def test_all_faults_come_at_once_each_with_field_source_code_and_fix(tmp_path: Path) -> None:
    file = written(tmp_path, "prot: 1\ntls: false\nmodels: {kind: s3, endpoint: minio}\nstate: {pth: x}\n")
    found = faults(
        ReducerSettings,
        file=file,
        environ={"FEDN_PORT": "a-lot", "FEDN_ALLIANCE_AUTH_TOKEN": "short"},
        flags={"rest_threads": 0, "public_hosts": []},
    )
    assert {field: problem.code for field, problem in found.items()} == {
        "prot": "unknown_setting",
        "state.pth": "unknown_setting",
        "models": "missing_setting",
        "port": "bad_setting",
        "enrolment_secret": "weak_secret",
        "rest_threads": "bad_setting",
        "public_hosts": "bad_setting",
        "tls": "tls_needed",
    }
    assert found["prot"].fix == "Did you mean 'port'?"
    assert found["state.pth"].fix == "Did you mean 'state.path'?"
    assert found["prot"].where["source"] == f"file {file}"
    assert found["port"].where["source"] == "environment FEDN_PORT"
    assert found["enrolment_secret"].where["source"] == "environment FEDN_ALLIANCE_AUTH_TOKEN"
    assert found["rest_threads"].where["source"] == "flag --rest-threads"
    assert "access_key, secret_key" in found["models"].message
    assert all(problem.fix for problem in found.values())


def test_secrets_appear_in_no_message_and_no_representation(tmp_path: Path) -> None:
    environ = {
        "FEDN_ALLIANCE_AUTH_TOKEN": "tooshort",
        "FEDN_STATE_URL": "http://u:hidden-word@h",
        "FEDN_STATE_KIND": "mongodb",
    }
    found = faults(ReducerSettings, environ=environ)
    assert set(found) == {"enrolment_secret", "state"}
    assert not any("tooshort" in str(problem) or "hidden-word" in str(problem) for problem in found.values())
    assert "long-enough-to-be-one" not in repr(ReducerSettings(enrolment_secret="long-enough-to-be-one"))
    assert "fedn1.abc" not in repr(ClientSettings(join="fedn1.abc"))


def test_keys_of_the_former_settings_files_name_their_successor(tmp_path: Path) -> None:
    found = faults(ReducerSettings, file=written(tmp_path, "network_id: a\nstatestore: {type: MongoDB}\n"))
    assert found["network_id"].fix == "Did you mean 'federation'?"
    assert found["statestore"].fix == "Did you mean 'state'?"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port: 1\nport: 2\n", "the key 'port' is there twice"),
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("- port\n", "not a mapping"),
        ("port: [1\n", "expected"),
        ("port: !!python/object:os.system 1\n", "could not determine a constructor"),
        ("{[1, 2]: 3}\n", "a key must be a plain text"),
    ],
)
def test_bad_yaml_is_one_clear_sentence_beside_the_other_faults(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        load_settings(ReducerSettings, file=written(tmp_path, text), environ={"FEDN_PORT": "x"}, flags={})
    assert [problem.code for problem in caught.value.problems] == ["bad_yaml", "bad_setting"]
    assert said in caught.value.problems[0].message


def test_missing_file_is_named(tmp_path: Path) -> None:
    problem = faults(ReducerSettings, file=tmp_path / "no.yaml")[""]
    assert (problem.code, problem.where["file"]) == ("unreadable_file", str(tmp_path / "no.yaml"))


def test_stores_lie_in_the_data_directory_by_default() -> None:
    settings = ReducerSettings(data_dir=Path("/d"))
    assert settings.models == ModelStoreSettings(path=Path("/d/models"))
    assert settings.state == StateStoreSettings(path=Path("/d/state.db"))


def test_environment_turns_a_files_store_into_another_kind(tmp_path: Path) -> None:
    for text in ("state: {kind: sqlite, path: /s}\n", "state: {path: /s}\n"):
        file = written(tmp_path, text)
        settings = load_settings(ReducerSettings, file=file, environ={"FEDN_MONGO_HOST": "db"}, flags={})
    assert settings.state == StateStoreSettings(kind="mongodb", url="mongodb://db:27017/", database="fedn-network")
    settings = load_settings(
        ReducerSettings,
        file=file,
        environ={"FEDN_MONGO_HOST": "db"},
        flags={"state.kind": "sqlite", "state.path": "/f"},
    )
    assert settings.state == StateStoreSettings(path=Path("/f"))


def test_settings_of_another_kind_of_store_are_refused_rather_than_ignored() -> None:
    assert faults(ReducerSettings, flags={"models.endpoint": "h:1"})["models"].code == "unused_setting"
    assert faults(ReducerSettings, flags={"state.database": "x"})["state"].code == "unused_setting"


def test_two_names_for_one_setting_must_agree() -> None:
    environ = {"FEDN_MONGO_HOST": "a", "FEDN_STATE_URL": "mongodb://b/"}
    assert faults(ReducerSettings, environ=environ)["state.url"].code == "two_sources"


def test_password_with_odd_characters_survives_in_the_mongodb_address() -> None:
    environ = {"FEDN_MONGO_HOST": "db", "FEDN_MONGO_USER": "u/x", "FEDN_MONGO_PASSWORD": "p@s:s/w#"}
    settings = load_settings(ReducerSettings, file=None, environ=environ, flags={})
    assert settings.state.url == "mongodb://u%2Fx:p%40s%3As%2Fw%23@db:27017/"


def test_sizes_lists_and_mappings_come_from_the_environment() -> None:
    environ = {
        "FEDN_JOIN": "fedn1.x",
        "FEDN_OUTPUT_BYTES": "2MiB",
        "FEDN_PACKAGE_PINS": f"blake3:{'a' * 64}, sha256:{'b' * 64}",
        "FEDN_ATTRIBUTES": '{"site": "north", "gpus": 2}',
        "FEDN_TRAINER": "no",
        "FEDN_DATA_PATH": "",
    }
    settings = load_settings(ClientSettings, file=None, environ=environ, flags={})
    assert settings.output_bytes == 2 << 20 and not settings.trainer and settings.data_path is None
    assert settings.package_pins == [f"blake3:{'a' * 64}", f"sha256:{'b' * 64}"]
    assert settings.attributes == {"site": "north", "gpus": 2}
    nested = faults(ClientSettings, environ=environ | {"FEDN_ATTRIBUTES": '{"a": [1], "b": {}}'})
    assert list(nested) == ["attributes"]
    found = faults(ClientSettings, environ=environ | {"FEDN_ATTRIBUTES": "[1]", "FEDN_PACKAGE_PINS": "x"})
    assert {field: problem.code for field, problem in found.items()} == {
        "attributes": "bad_setting",
        "package_pins": "bad_setting",
    }


@pytest.mark.parametrize("bind", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_tls_may_be_off_on_loopback(bind: str) -> None:
    assert ReducerSettings(tls=False, bind=bind).url(1).startswith("http://")


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "10.0.0.1", "reducer"])
def test_tls_may_not_be_off_elsewhere(bind: str) -> None:
    with pytest.raises(InvalidSettings, match="tls_needed"):
        ReducerSettings(tls=False, bind=bind)


def test_enrolment_secret_may_not_be_the_admin_secret() -> None:
    with pytest.raises(InvalidSettings, match="same_secrets"):
        ReducerSettings(enrolment_secret="the-same-for-both", admin_secret="the-same-for-both")


def test_site_needs_a_join_string_or_address_and_authority() -> None:
    assert faults(CombinerSettings)["join"].code == "missing_setting"
    assert faults(CombinerSettings, flags={"reducer_url": "https://r:1"})["ca_fingerprint"].code == "missing_setting"
    both = {"join": "fedn1.x", "reducer_url": "https://r:1"}
    assert faults(CombinerSettings, flags=both)["reducer_url"].code == "two_sources"
    assert CombinerSettings(reducer_url="http://127.0.0.1:1").name.startswith("combiner-")


def test_join_string_given_as_flag_outweighs_the_parts_in_a_shared_environment(tmp_path: Path) -> None:
    environ = {"FEDN_REDUCER_HOST": "reducer", "FEDN_CA_FILE": "ca.crt", "FEDN_ALLIANCE_AUTH_TOKEN": "s"}
    settings = load_settings(ClientSettings, file=None, environ=environ, flags={"join": "fedn1.x"})
    assert settings.join == "fedn1.x" and settings.reducer_url is None and settings.ca_file is None
    file = written(tmp_path, "join: fedn1.x\n")
    settings = load_settings(ClientSettings, file=file, environ=environ, flags={})
    assert settings.join is None and settings.reducer_url == "https://reducer:8090"


def test_client_without_a_name_is_called_after_its_base_and_host() -> None:
    environ = {"FEDN_JOIN": "fedn1.x", "CLIENT_NAME_BASE": "ward"}
    assert load_settings(ClientSettings, file=None, environ=environ, flags={}).name.startswith("ward-")
    assert load_settings(ClientSettings, file=None, environ=environ, flags={"name": "w7"}).name == "w7"


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        ({"trainer": False, "validator": False}, "trainer"),
        ({"learner": "no class"}, "learner"),
        ({"learner": "a:B", "package": "folder"}, "learner"),
        ({"package": "none"}, "learner"),
        ({"name": "a/b"}, "name"),
        ({"task_timeout_s": 0}, "task_timeout_s"),
        ({"memory_bytes": "lots"}, "memory_bytes"),
    ],
)
def test_client_settings_that_cannot_work_are_refused(flags: dict[str, object], field: str) -> None:
    assert field in faults(ClientSettings, flags={"join": "fedn1.x", **flags})


def test_hosts_stated_in_full_replace_the_one_of_a_shared_environment() -> None:
    environ = {"FEDN_REDUCER_HOST": "reducer", "FEDN_PUBLIC_HOSTS": "a.example.org, reducer"}
    settings = load_settings(ReducerSettings, file=None, environ=environ, flags={})
    assert settings.public_hosts == ["a.example.org", "reducer"]


def test_address_of_version_six_gets_its_brackets() -> None:
    environ = {"FEDN_REDUCER_HOST": "::1", "FEDN_CA_FILE": "ca.crt"}
    assert load_settings(ClientSettings, file=None, environ=environ, flags={}).reducer_url == "https://[::1]:8090"
    assert ReducerSettings(public_hosts=["::1"]).url(8090) == "https://[::1]:8090"


def test_example_secrets_start_no_container_that_other_machines_reach() -> None:
    environ = {"FEDN_ALLIANCE_AUTH_TOKEN": "example-enrolment-secret-replace-me"}
    allowed = {"FEDN_REDUCER_ALLOW_EXAMPLE_SECRETS": "true"}
    for address in ("127.0.0.1", "::1"):
        published = {"FEDN_REDUCER_PUBLISHED_AT": address}
        load_settings(ReducerSettings, file=None, environ=environ | allowed | published, flags={})
    found = faults(ReducerSettings, environ=environ | allowed | {"FEDN_REDUCER_PUBLISHED_AT": "0.0.0.0"})
    assert found["enrolment_secret"].code == "example_secret"


def test_the_address_at_which_a_container_is_published_stands_in_the_certificate() -> None:
    def hosts(published: str) -> list[str]:
        environ = {"FEDN_REDUCER_HOST": "reducer", "FEDN_REDUCER_PUBLISHED_AT": published}
        return load_settings(ReducerSettings, file=None, environ=environ, flags={}).public_hosts

    assert hosts("10.0.0.5")[-2:] == ["10.0.0.5", "reducer"]
    assert hosts("0.0.0.0") == hosts("127.0.0.1") == hosts("")
    assert "0.0.0.0" not in hosts("0.0.0.0")


def test_mongodb_is_reached_over_tls_where_its_authority_is_named(tmp_path: Path) -> None:
    authority = written(tmp_path, "").rename(tmp_path / "our ca.crt")
    environ = {"FEDN_MONGO_HOST": "db", "FEDN_MONGO_CA_FILE": str(authority)}
    url = load_settings(ReducerSettings, file=None, environ=environ, flags={}).state.url
    assert url is not None and url.startswith("mongodb://db:27017/?")
    parsed = parse_uri(url, validate=True)["options"]
    assert (parsed["tls"], parsed["tlsCAFile"]) == (True, str(authority))
