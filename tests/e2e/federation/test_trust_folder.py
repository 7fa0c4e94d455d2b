"""What containers need: sites that start before the reducer find its authority in a shared folder; health checks."""

import os
import subprocess
import sys
from pathlib import Path

from fedn import APIClient
from tests.support.federation import LEARNERS, SECRETS, Process, wait_for
from tests.support.servers import free_port


def health(program: str, *flags: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("FEDN_", "ALLIANCE_"))}
    command = [sys.executable, "-m", "fedn.cli.main", program, "health", *flags]
    return subprocess.run(command, env=inherited, capture_output=True, text=True, timeout=120, check=False)


def test_sites_wait_for_the_authority_and_health_checks_tell_who_serves(tmp_path: Path) -> None:
    trust = tmp_path / "trust"
    trust.mkdir()
    reducer_port, combiner_port = free_port(), free_port()
    url = f"https://127.0.0.1:{reducer_port}"
    found = ["--reducer-url", url, "--ca-file", str(trust / "ca.crt")]
    join = [*found, "--enrolment-secret", SECRETS["enrolment"]]
    at = ["--bind", "127.0.0.1", "--public-host", "127.0.0.1", "--port", str(combiner_port)]
    combiner_flags = [*join, *at, "--name", "c1", "--data-dir", str(tmp_path / "c1")]
    reducer_flags = ["--data-dir", str(tmp_path / "reducer"), "--port", str(reducer_port), "--bind", "127.0.0.1"]
    secrets = ["--enrolment-secret", SECRETS["enrolment"], "--admin-secret", SECRETS["admin"]]
    client_flags = [*join, "--name", "a", "--data-dir", str(tmp_path / "a"), "--package", "none"]
    learner = ["--learner", f"{LEARNERS}:CountingLearner"]
    processes = [
        Process("combiner", ["combiner", "start", *combiner_flags], tmp_path),
        Process("client", ["client", "start", *client_flags, *learner], tmp_path),
    ]
    try:
        for process in processes:
            wait_for(lambda process=process: "is not there yet" in process.tail(), f"{process.name} waits")
        early = health("combiner", *combiner_flags)
        assert early.returncode != 0 and "unreadable_file" in early.stderr
        processes.append(
            Process("reducer", ["reducer", "start", *reducer_flags, *secrets, "--trust-dir", str(trust)], tmp_path)
        )
        wait_for((trust / "ca.crt").exists, "the authority is published")
        with APIClient(url, ca=trust / "ca.crt", admin_secret=SECRETS["admin"]) as api:
            wait_for(lambda: api.status().clients_attached == 1, "the client is attached")
        assert [file.name for file in trust.iterdir()] == ["ca.crt"]
        assert (trust / "ca.crt").read_bytes() == (tmp_path / "reducer" / "ca.crt").read_bytes()
        serving = health("reducer", *reducer_flags)
        assert serving.returncode == 0 and f"127.0.0.1:{reducer_port}" in serving.stdout, serving.stderr
        attached = health("combiner", *combiner_flags)
        assert attached.returncode == 0 and f"127.0.0.1:{combiner_port}" in attached.stdout, attached.stderr
    finally:
        for process in processes:
            process.stop()
    for program, flags in (("reducer", reducer_flags), ("combiner", combiner_flags)):
        gone = health(program, *flags)
        assert gone.returncode == 6 and "does_not_serve" in gone.stderr, gone.stderr


def test_a_client_that_waits_for_the_authority_ends_when_told_to(tmp_path: Path) -> None:
    (tmp_path / "trust").mkdir()
    found = ["--reducer-url", "https://127.0.0.1:1", "--ca-file", str(tmp_path / "trust" / "ca.crt")]
    client = Process("client", ["client", "start", *found, "--data-dir", str(tmp_path / "a")], tmp_path)
    combiner = Process("combiner", ["combiner", "start", *found, "--data-dir", str(tmp_path / "c")], tmp_path)
    for process in (client, combiner):
        wait_for(lambda process=process: "is not there yet" in process.tail(), f"{process.name} waits")
        assert process.stop() == 0, process.tail()


def test_a_folder_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    found = ["--reducer-url", "https://127.0.0.1:1", "--ca-file", str(tmp_path / "truts" / "ca.crt")]
    client = Process("client", ["client", "start", *found, "--data-dir", str(tmp_path / "a")], tmp_path)
    wait_for(lambda: client.ended, "the client ends")
    assert client.stop() == 1 and "unreadable_file" in client.tail()
