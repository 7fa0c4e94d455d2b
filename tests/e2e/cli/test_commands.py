"""Every command that talks to a reducer, against a live federation."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.sandboxes import fedn, running_sandbox

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("cli")
    with running_sandbox(place, "--clients", "2", "--combiners", "1", "--rounds", "2") as sandbox:
        sandbox.wait_for("The federation goes on")
        yield place


def data(folder: Path, *arguments: str) -> Any:
    done = fedn(*arguments, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def text(folder: Path, *arguments: str) -> str:
    done = fedn(*arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_status(folder: Path) -> None:
    assert data(folder, "status")["clients_attached"] == 2
    assert "2 attached of 2 enrolled" in text(folder, "status")


def test_sites_are_listed(folder: Path) -> None:
    assert {view["name"] for view in data(folder, "client", "list")} == {"client-1", "client-2"}
    assert [view["name"] for view in data(folder, "combiner", "list")] == ["combiner-1"]
    assert "combiner-1" in text(folder, "client", "list")
    assert "2/" in text(folder, "combiner", "list")


def test_a_session_is_shown_with_its_rounds_and_ledger(folder: Path) -> None:
    shown = data(folder, "session", "show")
    assert shown["session"]["state"] == "finished"
    ledger = data(folder, "session", "show", "--round", "1")["ledger"]
    assert {entry["client"]: entry["state"] for entry in ledger} == {"client-1": "updated", "client-2": "updated"}
    assert "accuracy" in text(folder, "session", "show")
    assert "100.0%" not in text(folder, "session", "show", "--round", "1")
    assert "finished" in text(folder, "session", "list")


def test_a_session_can_be_started_watched_stopped_and_resumed(folder: Path) -> None:
    assert "Finished: 1 of 1 rounds" in text(folder, "session", "start", "--rounds", "1", "--name", "short")
    started = data(folder, "session", "start", "--rounds", "100000", "--no-watch")
    refused = fedn("session", "start", "--json", cwd=folder)
    assert refused.returncode == 5
    assert json.loads(refused.stderr)["code"] == "session_running"
    assert data(folder, "session", "stop")["state"] == "stopped"
    assert data(folder, "session", "resume", "--no-watch")["id"] == started["id"]
    assert data(folder, "session", "stop", started["id"])["state"] == "stopped"
    assert fedn("session", "watch", cwd=folder).returncode == 1


def test_models_are_listed_shown_and_downloaded(folder: Path) -> None:
    models = data(folder, "model", "list")
    head = next(view for view in models if view["head"])
    assert data(folder, "model", "show")["model_id"] == head["model_id"]
    digits = head["model_id"].partition(":")[2]
    assert data(folder, "model", "show", digits[:10])["model_id"] == head["model_id"]
    assert data(folder, "model", "show", "0")["kind"] == "seed"
    text(folder, "model", "download", "--out", "m.npz")
    with np.load(folder / "m.npz") as arrays:
        assert sum(arrays[name].size for name in arrays.files) > 4000
    assert fedn("model", "show", "ffffffffffffffff", cwd=folder).returncode == 4


def test_the_trail_is_shown_and_verified(folder: Path) -> None:
    entries = data(folder, "trail", "show")
    found = data(folder, "trail", "verify", "--head", entries[0]["hash"])
    assert found["length"] >= len(entries)
    done = fedn("trail", "verify", "--head", "sha256:" + "1" * 64, "--json", cwd=folder)
    assert done.returncode == 7
    assert json.loads(done.stderr)["code"] == "trail_cut"
    (folder / "key.pem").write_text(found["key"])
    assert "is whole" in text(folder, "trail", "verify", "--key", "key.pem")


def test_a_package_is_made_uploaded_and_activated(folder: Path) -> None:
    active = next(view for view in data(folder, "package", "list") if view["active"])
    text(folder, "new", "other")
    made = data(folder, "package", "create", "other/client", "--out", "other.tar.gz")
    uploaded = data(folder, "package", "upload", "other.tar.gz")
    assert uploaded["package_id"] == made["package_id"]
    assert next(view for view in data(folder, "package", "list") if view["active"])["name"] == "other"
    text(folder, "package", "download", made["package_id"], "--out", "back.tar.gz")
    assert (folder / "back.tar.gz").read_bytes() == (folder / "other.tar.gz").read_bytes()
    text(folder, "package", "activate", active["package_id"])
    assert fedn("package", "upload", "key-that-is-not-there", cwd=folder).returncode == 2


def test_events_are_listed(folder: Path) -> None:
    done = fedn("events", "--json", cwd=folder)
    kinds = {json.loads(line)["kind"] for line in done.stdout.splitlines()}
    assert {"client_attached", "session_started", "round_committed", "session_finished"} <= kinds


def test_a_viewer_may_look_and_not_touch(folder: Path) -> None:
    token = text(folder, "token", "create", "--role", "viewer").strip()
    assert data(folder, "status", "--token", token)["federation"] == "sandbox"
    done = fedn("session", "start", "--token", token, "--json", cwd=folder)
    assert done.returncode == 3
    assert json.loads(done.stderr)["code"] == "role_not_allowed"


def test_a_join_string_lets_a_client_pass_preflight_and_is_all_it_needs(folder: Path) -> None:
    join = text(folder, "token", "create").strip()
    arguments = ("client", "preflight", "--join", join, "--name", "client-9", "--data-dir", "nine")
    checks = data(folder, *arguments)
    assert checks["ok"], checks
    assert "This client would work." in text(folder, *arguments)
    broken = fedn("client", "preflight", "--join", join[:-6] + "xxxxxx", "--data-dir", "ten", cwd=folder)
    assert broken.returncode != 0


def test_a_second_machine_cannot_take_a_name(folder: Path) -> None:
    join = text(folder, "token", "create").strip()
    done = fedn(
        "client", "preflight", "--join", join, "--name", "client-1", "--data-dir", "thief", "--json", cwd=folder
    )
    assert done.returncode == 1
    failed = [check for check in json.loads(done.stdout)["checks"] if not check["ok"] and not check["skipped"]]
    assert [check["name"] for check in failed] == ["enrolment"]


def test_the_store_can_be_cleaned(folder: Path) -> None:
    assert data(folder, "store", "gc", "--dry-run")["dry_run"]
    assert "Removed" in text(folder, "store", "gc")


def test_a_wrong_secret_is_refused(folder: Path) -> None:
    done = fedn("status", "--admin-secret", "wrong-secret-wrong-secret", "--json", cwd=folder)
    assert done.returncode == 3
