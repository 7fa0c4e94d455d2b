"""Preflight: each thing that would not work is named, with what to do."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from fedn.client import preflight as module
from fedn.client.preflight import Check, preflight
from fedn.network.join import JoinString
from fedn.network.tls import CertificateAuthority
from fedn.plan.settings import ClientSettings
from fedn.privacy.keys import write_key
from tests.integration.client.stand_ins import SECRET, FakeReducer, Place
from tests.support.encrypted import key_of
from tests.support.fake_combiner import FakeCombiner

MakeSettings = Callable[..., ClientSettings]


def checks_of(settings: ClientSettings, reducer: FakeReducer) -> dict[str, Check]:
    """Checks by name, made while a combiner runs."""

    async def scenario() -> list[Check]:
        async with FakeCombiner(reducer.ca) as combiner:
            reducer.places = [Place("fake", combiner.port)]
            return await asyncio.to_thread(preflight, settings)

    return {check.name: check for check in asyncio.run(scenario())}


def test_everything_is_well(reducer: FakeReducer, settings: MakeSettings, tmp_path: Path) -> None:
    checks = checks_of(settings(data_path=tmp_path), reducer)
    assert all(check.ok for check in checks.values()), checks
    assert list(checks) == [
        "join_string",
        "data_dir",
        "disk_space",
        "data_path",
        "encryption",
        "reducer",
        "clock",
        "enrolment",
        "assignment",
        "combiner",
        "isolation",
        "code",
    ]
    assert "train" in checks["code"].detail


def test_faults_are_named_each_by_itself(reducer: FakeReducer, settings: MakeSettings, tmp_path: Path) -> None:
    other = CertificateAuthority.create_or_load(tmp_path / "other", "testing")
    join = JoinString(f"https://localhost:{reducer.port}", other.fingerprint, SECRET).encode()
    checks = checks_of(settings(join=join, data_path=tmp_path / "nothing", learner="no_such_module:Learner"), reducer)
    assert "wrong_ca" in checks["reducer"].detail and checks["reducer"].fix
    assert "data_path_unreadable" in checks["data_path"].detail
    assert "no_such_module" in checks["code"].detail
    assert checks["enrolment"].skipped and "reducer" in checks["enrolment"].detail
    well = [name for name, check in checks.items() if check.ok]
    assert well == ["join_string", "data_dir", "disk_space", "encryption", "isolation"]


def test_a_key_that_cannot_be_used_is_named(reducer: FakeReducer, settings: MakeSettings, tmp_path: Path) -> None:
    path = tmp_path / "federation.key"
    write_key(key_of(), path)
    assert key_of().key_id in checks_of(settings(encryption_key=path), reducer)["encryption"].detail
    path.chmod(0o644)
    check = checks_of(settings(encryption_key=path), reducer)["encryption"]
    assert not check.ok and "private_file_exposed" in check.detail and "chmod 600" in check.fix


def test_combiner_behind_a_wall_is_named(reducer: FakeReducer, settings: MakeSettings) -> None:
    reducer.places = [Place("away", 9)]
    checks = {check.name: check for check in preflight(settings())}
    assert checks["assignment"].ok
    assert "localhost:9" in checks["combiner"].detail and checks["combiner"].fix


def test_reducer_that_is_away_is_named(settings: MakeSettings, reducer: FakeReducer) -> None:
    mine = settings()
    reducer.stop()
    try:
        checks = {check.name: check for check in preflight(mine)}
    finally:
        reducer.start()
    assert "reducer_unreachable" in checks["reducer"].detail


def test_wrong_clock_is_named(reducer: FakeReducer, settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "clock_skew_s", lambda url, ca: -3600.0)
    check = checks_of(settings(), reducer)["clock"]
    assert not check.ok and "3600 s behind" in check.detail
