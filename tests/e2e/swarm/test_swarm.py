"""`fedn swarm` against a real federation: it trains, keeps its names, and says what is wrong."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fedn.network.join import JoinString
from tests.support.federation import WITHIN_S, Federation, wait_for
from tests.support.sandboxes import clean_environment

CLIENTS = 50


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with Federation(tmp_path_factory.mktemp("swarm"), combiners=2, clients=0) as started:
        started.seed()
        yield started


def begin(federation: Federation, *arguments: object, join: str = "") -> "subprocess.Popen[str]":
    """`fedn swarm`, running."""
    secret = join or federation.api.join_string(federation.url).join
    return subprocess.Popen(
        [sys.executable, "-m", "fedn.cli.main", "swarm", "--json", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment() | {"FEDN_JOIN": secret},
        cwd=federation.folder,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[list[dict[str, Any]], str]:
    """The reports, and what it wrote to standard error, when it has ended by itself."""
    try:
        out, err = process.communicate(timeout=WITHIN_S)
    finally:
        process.kill()
    return [json.loads(line) for line in out.splitlines()], err


def attached(federation: Federation) -> int:
    return federation.api.status().clients_attached


def test_fifty_light_clients_train_and_leave_when_they_have_done_their_tasks(federation: Federation) -> None:
    swarm = begin(
        federation, "--clients", CLIENTS, "--processes", 2, "--tasks", 3 * CLIENTS, "--step", 0.5, "--name-base", "load"
    )
    try:
        wait_for(lambda: attached(federation) == CLIENTS, "the swarm is attached")
        before = federation.weights(federation.api.status().model_id)
        view = federation.run(rounds=3, clients_required=CLIENTS, validate=False)
    finally:
        reports, errors = finish(swarm)
    assert (swarm.returncode, errors) == (0, "")
    assert view.state == "finished", view.error

    for round_view in federation.api.rounds(view.id):
        assert {entry.client for entry in round_view.ledger if entry.state == "updated"} == {
            f"load-{number:05d}" for number in range(1, CLIENTS + 1)
        }
        assert {part.num_examples for model in round_view.combiner_models for part in model.contributions} == {10}
    after = federation.weights(view.model_id)
    for name, tensor in before.items():
        np.testing.assert_allclose(after[name], tensor + 3 * 0.5 * (CLIENTS + 1) / 2, rtol=1e-6)
    assert federation.api.verify_trail().length >= 4

    last = reports[-1]
    assert last["final"] and not any(report["final"] for report in reports[:-1])
    assert (last["clients"], last["enrolled"], last["attachments"]) == (CLIENTS, CLIENTS, CLIENTS)
    assert (last["tasks"], last["updated"]) == (3 * CLIENTS, 3 * CLIENTS)
    assert last["task"]["count"] == 3 * CLIENTS and 0 < last["task"]["p50_ms"] <= last["task"]["max_ms"]
    assert last["received_bytes"] > 0 and last["sent_bytes"] > 0
    assert last["open_files"] > 0, "of now, when clients have left already"
    assert not any(last[trouble] for trouble in ("breaks", "refused", "gave_up", "damaged"))
    wait_for(lambda: attached(federation) == 0, "the clients have left")


def test_clients_that_fail_and_drop_out_do_not_keep_a_session_from_its_end(federation: Federation) -> None:
    behaviour = ("--failure-rate", 0.1, "--dropout-rate", 0.3, "--away-s", 0.2, "--slow-share", 0.2, "--seed", 3)
    swarm = begin(federation, "--clients", 20, "--think-ms", 20, "--think-spread", 0.5, *behaviour)
    try:
        wait_for(lambda: attached(federation) == 20, "the swarm is attached")
        view = federation.run(rounds=4, clients_required=5, validate=True)
    finally:
        swarm.terminate()
        reports, _ = finish(swarm)
    assert view.state == "finished", view.error
    assert swarm.returncode == 0
    last = reports[-1]
    assert last["failed"] > 0 and last["went_away"] > 0
    assert last["attachments"] > 20
    states = {str(entry.state) for one in federation.api.rounds(view.id) for entry in one.ledger}
    assert {"updated", "failed"} <= states


def test_kept_keys_let_a_swarm_come_back_under_its_names(federation: Federation) -> None:
    folder = federation.folder / "keys"
    for _ in range(2):
        swarm = begin(federation, "--clients", 5, "--data-dir", folder)
        wait_for(lambda: attached(federation) == 5, "the swarm is attached")
        swarm.terminate()
        reports, errors = finish(swarm)
        assert (swarm.returncode, reports[-1]["enrolled"], reports[-1]["gave_up"], errors) == (0, 5, {}, "")
        wait_for(lambda: attached(federation) == 0, "the clients have left")
    assert {f"swarm-{number:05d}" for number in range(1, 6)} <= {view.name for view in federation.api.clients()}


def test_a_swarm_whose_names_others_have_says_so_and_ends(federation: Federation) -> None:
    first = begin(federation, "--clients", 2, "--name-base", "mine")
    try:
        wait_for(lambda: attached(federation) == 2, "the first swarm is attached")
        second = begin(federation, "--clients", 2, "--name-base", "mine")
        _, errors = finish(second)
    finally:
        first.terminate()
        finish(first)
    assert second.returncode == 5
    assert "name_taken" in errors


def test_a_wrong_join_string_ends_it_with_the_reason(federation: Federation) -> None:
    known = JoinString.parse(federation.api.join_string(federation.url).join)
    wrong = JoinString(known.url, known.ca_fingerprint, "not the enrolment secret of this federation")
    swarm = begin(federation, "--clients", 3, join=wrong.encode())
    _, errors = finish(swarm)
    assert swarm.returncode == 3
    assert "secret" in errors


def test_its_processes_end_with_the_one_that_started_them(federation: Federation) -> None:
    swarm = begin(federation, "--clients", 4, "--processes", 2)
    wait_for(lambda: attached(federation) == 4, "the swarm is attached")
    swarm.kill()
    finish(swarm)
    wait_for(lambda: attached(federation) == 0, "the clients are gone")
