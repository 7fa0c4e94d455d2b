"""The settings of a combiner's update store: each kind with what it needs, and nothing that it makes nothing of."""

from pathlib import Path

import pytest

from fedn.plan.settings import CombinerSettings, UpdateStoreSettings, load_settings
from fedn.protocol.errors import InvalidSettings

JOIN = {"FEDN_JOIN": "fedn1.x"}


def loaded(environ: dict[str, str], **flags: object) -> UpdateStoreSettings:
    return load_settings(CombinerSettings, file=None, environ={**JOIN, **environ}, flags=flags).updates


def faults(environ: dict[str, str]) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        loaded(environ)
    return [problem.code for problem in caught.value.problems]


def test_by_default_one_update_a_client_is_kept_in_memory() -> None:
    settings = loaded({})
    assert (settings.kind, settings.keeps, settings.max_bytes) == ("memory", 1, 2 << 30)


def test_files_are_in_the_data_directory_unless_told_otherwise() -> None:
    assert loaded({"FEDN_UPDATES_KIND": "files", "FEDN_DATA_DIR": "/d"}).path == Path("/d/updates")
    assert loaded({"FEDN_UPDATES_KIND": "files", "FEDN_UPDATES_PATH": "/u"}).path == Path("/u")


def test_redis_is_set_by_the_environment_and_flags_weigh_more() -> None:
    environ = {
        "FEDN_UPDATES_KIND": "redis",
        "FEDN_UPDATES_URL": "rediss://redis.example.org:6380/2",
        "FEDN_UPDATES_USERNAME": "fedn",
        "FEDN_COMBINER_UPDATES_PASSWORD": "sesame-open",
        "FEDN_UPDATES_MAX_BYTES": "8GiB",
        "FEDN_UPDATES_EVICTION": "NoEviction",
    }
    settings = loaded(environ, **{"updates.username": "another"})
    assert (settings.username, settings.password, settings.max_bytes) == ("another", "sesame-open", 8 << 30)
    assert settings.keeps is None
    assert "sesame-open" not in repr(settings)


def test_off_keeps_nothing() -> None:
    assert loaded({"FEDN_UPDATES_KIND": "off"}).keeps == 0


@pytest.mark.parametrize(
    ("code", "environ"),
    [
        ("missing_setting", {"KIND": "redis"}),
        ("unused_setting", {"KIND": "memory", "URL": "redis://h"}),
        ("unused_setting", {"KIND": "files", "PASSWORD": "x"}),
        ("unused_setting", {"KIND": "off", "LINEAGE_LENGTH": "2"}),
        ("unused_setting", {"EVICTION": "NoEviction", "LINEAGE_LENGTH": "2"}),
        ("unused_setting", {"KIND": "redis", "URL": "redis://h:1/0", "CA_FILE": "/ca.pem"}),
        ("missing_setting", {"KIND": "redis", "URL": "rediss://h:1/0", "KEY_FILE": "/key.pem"}),
        ("two_sources", {"KIND": "redis", "URL": "redis://me:secret@h:1/0", "PASSWORD": "other"}),
        ("bad_url", {"KIND": "redis", "URL": "http://h:1"}),
        ("bad_setting", {"MAX_BYTES": "0"}),
    ],
)
def test_what_contradicts_is_told(code: str, environ: dict[str, str]) -> None:
    assert faults({f"FEDN_UPDATES_{name}": value for name, value in environ.items()}) == [code]


def test_a_password_in_the_address_shows_in_no_message() -> None:
    with pytest.raises(InvalidSettings) as caught:
        loaded({"FEDN_UPDATES_KIND": "redis", "FEDN_UPDATES_URL": "http://me:sesame-open@h:1"})
    assert "sesame-open" not in str(caught.value)
