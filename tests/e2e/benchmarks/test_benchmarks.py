"""Every benchmark runs, in cells as small as can be, and what it measures makes sense. No limit of speed is in here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fedn

ROOT = Path(fedn.__file__).resolve().parent.parent
WITHIN_S = 240.0

Rows = list[dict[str, Any]]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs what `make bench` does."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
    )


def bench(folder: Path, *arguments: str) -> Rows:
    """Runs a benchmark; the rows that are in its results file then."""
    out = folder / "results.jsonl"
    done = run(folder, *arguments, "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| --" in done.stdout
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.timeout(300)
def test_rounds_over_one_and_two_tiers_with_and_without_tls(tmp_path: Path) -> None:
    grid = bench(tmp_path, "rounds", "--params", "20k", "--clients", "2", "--rounds", "12", "--tls", "both")
    assert [row["tls"] for row in grid] == [True, False]
    (two,) = bench(
        tmp_path, "rounds", "--params", "20k", "--clients", "2", "--rounds", "12", "--combiners", "2", "--no-floor"
    )[2:]
    for row in (*grid, two):
        assert row["max_err"] < 1e-4
        assert len(row["all_rounds"]) == 12 and min(row["all_rounds"]) > 0
        assert row["server_rss_mb"] >= row["combiner_rss_now_mb"] > 20
        assert {"aggregation", "commit", "total"} <= row["times_ms"].keys()
    # None where the session was over before its watcher saw the first round.
    processors = [row["cpu_s"] for row in (*grid, two) if row["cpu_s"]]
    assert processors
    assert all(each.keys() == {"reducer", "combiners", "clients", "workers", "watcher"} for each in processors)
    for row in grid:
        assert row["floor_s"] > row["commit_floor_s"] > 0
        assert row["of_floor"] == pytest.approx(row["round_s"] / row["floor_s"])


@pytest.mark.timeout(300)
def test_a_failing_cell_does_not_end_the_grid(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    command = ["rounds", "--params", "20k,500", "--clients", "1", "--rounds", "2", "--no-floor", "--out", str(out)]
    done = run(tmp_path, *command)
    assert done.returncode == 1
    good, bad = (json.loads(line) for line in out.read_text().splitlines())
    assert good["max_err"] < 1e-4
    assert "ended with status" in bad["failed"]
    assert "multiple of 1000" in (tmp_path / "benchmarks.log").read_text()


def test_the_floor_of_this_machine(tmp_path: Path) -> None:
    parts = "hash,echo"
    rows = bench(tmp_path, "floor", "--only", parts, "--params", "10k", "--clients", "2")
    assert {row["unit"] for row in rows} == {"GB/s", "ms"}
    assert all(row["value"] > 0 for row in rows)


def test_aggregation(tmp_path: Path) -> None:
    rows = bench(tmp_path, "aggregation", "--params", "100k", "--updates", "3")
    assert [(row["sum_dtype"], row["weight"]) for row in rows] == [
        ("float64", 1.0),
        ("float64", 100.0),
        ("float32", 1.0),
        ("float32", 100.0),
    ]
    for row in rows:
        assert row["max_err"] < 1e-5
        assert row["of_floor"] == pytest.approx(row["fold_ms"] / row["fold_floor_ms"])


def test_codecs(tmp_path: Path) -> None:
    options = ["--data", "digits", "--clients", "3", "--rounds", "5", "--params", "20k"]
    rows = bench(tmp_path, "codecs", *options)
    effects = {row["chain"]: row for row in rows if row["kind"] == "effect"}
    speeds = {row["chain"]: row for row in rows if row["kind"] == "speed"}
    assert effects.keys() == speeds.keys()
    assert effects["bfloat16"]["up_bytes"] < 0.6 * effects["none"]["up_bytes"]
    assert all(row["encode_update"] > 0 and row["add_update"] > 0 for row in speeds.values())
    shown = run(tmp_path, "table", str(tmp_path / "results.jsonl"))
    assert shown.returncode == 0 and "digits:" in shown.stdout and "20k parameters" in shown.stdout


def test_encrypted_aggregation(tmp_path: Path) -> None:
    (row,) = bench(tmp_path, "secagg", "--params", "20k", "--degrees", "4096")
    assert 3 < row["times_float32"] < 10 and row["bytes"] == pytest.approx(4 * row["times_float32"])
    assert row["error"] < row["bound"] < 1e-6
    assert all(row[step] > 0 for step in ("encrypt_ns", "decrypt_ns", "add_ns", "fedavg_add_ns"))


def test_the_data_plane(tmp_path: Path) -> None:
    (row,) = bench(tmp_path, "data_plane", "--params", "10k", "--clients", "2", "--rounds", "2")
    assert row["up_of_raw"] == pytest.approx(row["up_s"] / row["raw_up_s"])
    assert row["down_gb_s"] > 0 and row["pull_s"] > 0 and row["raw_tcp_gb_s"] > 0


def test_small_messages_through_a_combiner(tmp_path: Path) -> None:
    rows = bench(tmp_path, "relay", "--streams", "2", "--messages", "200")
    assert [row["kind"] for row in rows] == ["turns", "one way", "unary"]
    assert all(row["per_s"] > 0 and row["of_raw"] == pytest.approx(row["per_s"] / row["raw_per_s"]) for row in rows)


def test_messages_from_worker_to_worker(tmp_path: Path) -> None:
    rows = bench(tmp_path, "workers", "--pairs", "2", "--messages", "200", "--frames", "10")
    assert [row["kind"] for row in rows] == ["turns", "one way", "1 MiB"]
    assert all(row["per_s"] > 0 and row["of_raw"] == pytest.approx(row["per_s"] / row["raw_per_s"]) for row in rows)


def test_idle_clients(tmp_path: Path) -> None:
    options = ["--clients", "30", "--processes", "2", "--pings", "20", "--idle", "0.5", "--per-connection", "4"]
    (row,) = bench(tmp_path, "idle", *options)
    assert row["ping_p99_ms"] >= row["ping_p50_ms"] > 0
    assert row["dispatch_s"] > 0 and row["raw_dispatch_s"] > 0


@pytest.mark.timeout(300)
def test_rounds_of_light_clients(tmp_path: Path) -> None:
    (row,) = bench(tmp_path, "scale", "--clients", "20", "--params", "10k", "--rounds", "2")
    assert row["round_s"] > 0 and row["max_err"] < 1e-5 and row["health_failures"] == 0


@pytest.mark.timeout(300)
def test_nothing_grows_while_clients_leave_fail_and_come_back(tmp_path: Path) -> None:
    small = ["--params", "1k", "--clients", "20", "--sites", "1", "--rounds", "5", "--warm-up", "60"]
    (row,) = bench(tmp_path, "soak", "--minutes", "0.75", "--every", "0.5", *small)
    assert [verdict for verdict in row["verdicts"] if not verdict["kept"]] == []
    assert row["left_behind"] == 0 and row["kept"]
    programs = {verdict["of"] for verdict in row["verdicts"] if verdict["quantity"] == "rss_bytes"}
    swarm = {"swarm", "swarm/children"}
    assert programs == {"reducer", "combiner-1", "combiner-2", "client-1", "client-1/children", *swarm}
    # It was a test: rounds came to an end, sessions were stopped, clients went away and came back.
    assert row["rounds"] > 60 and row["trail"] > 60 and row["sessions"]["stopped"] > 1
    assert row["swarm"]["went_away"] > 0 and row["swarm"]["attachments"] > 20


def test_stores(tmp_path: Path) -> None:
    rows = bench(tmp_path, "stores", "--sizes", "100k", "--inserts", "20")
    assert [row["store"] for row in rows] == ["files", "memory", "s3", "sqlite", "mongodb"]
    assert not [row for row in rows if "failed" in row]


@pytest.mark.timeout(300)
def test_the_housing_workload(tmp_path: Path) -> None:
    (row,) = bench(tmp_path, "housing", "--size", "100k", "--clients", "2", "--rounds", "2", "--sessions", "1")
    assert 0 < row["train_dispatch_s"] < row["train_round_s"]
    assert 0 < row["evaluation_dispatch_s"] < row["evaluation_round_s"]
    assert 0 < row["aggregation_s"] < row["federation_round_s"]


@pytest.mark.timeout(300)
def test_the_convergence_study(tmp_path: Path) -> None:
    short = ["--clients", "2", "--seeds", "1", "--seconds", "5", "--rounds", "2"]
    some = ["--only", "semi-synchronous λ=2,asynchronous K=1,SCAFFOLD", "--settings", "few clients, few steps"]
    rows = bench(tmp_path, "convergence", "--data", "digits", *short, *some)
    timed = {row["name"]: row for row in rows if row["bench"] == "convergence_schedulers"}
    assert timed.keys() == {"semi-synchronous λ=2", "asynchronous K=1"}
    for row in timed.values():
        assert row["updates"] >= row["rounds"] > 0 and row["steps"] >= row["updates"]
        assert set(row["idle_s"]) == set(row["ms_per_step"]) == {"client-1", "client-2"}
        # The sites are as slow as is said, or slower where the machine has other work to do.
        assert all(ms_per_step >= row["step_ms"] for ms_per_step in row["ms_per_step"].values())
        assert 0 <= row["idle_share"] < 1
        times = [t_s for _, t_s, _ in row["curve"]]
        assert times == sorted(times)
    assert timed["asynchronous K=1"]["updates"] == timed["asynchronous K=1"]["rounds"]
    tried = [row for row in rows if row["bench"] == "convergence_grid"]
    counted = {row["name"]: row for row in rows if row["bench"] == "convergence_methods"}
    assert counted.keys() == {"FedAvg", "SCAFFOLD"}
    for name, row in counted.items():
        assert row["value"] in [other["value"] for other in tried if other["name"] == name]
        assert [index for index, _, _ in row["curve"]] == [1, 2] and row["updates"] == 4
    done = run(tmp_path, "plots", str(tmp_path / "results.jsonl"), "--to", "plots")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        "schedulers.svg",
        "idle-clients.svg",
        "methods.svg",
    }


@pytest.mark.timeout(300)
def test_ours_among_peers_and_the_table_and_plots_of_a_results_file(tmp_path: Path) -> None:
    """The peers themselves need a package index: here a row stands for one."""
    out = tmp_path / "results.jsonl"
    peer = {"bench": "rounds", "system": "flower-1.8.0", "params": 20_000, "clients": 2, "tls": False, "rounds": 2}
    out.write_text(json.dumps(peer | {"round_s": 1000.0, "server_rss_mb": 80.0}) + "\n")
    options = ["--params", "20k", "--clients", "2", "--rounds", "2", "--systems", "fedn"]
    rows = bench(tmp_path, "peers", *options)
    assert [row["system"] for row in rows] == ["flower-1.8.0", "fedn"]
    outputs = []
    for command in (["table", str(out)], ["plots", str(out), "--to", "plots"], ["plots", str(out), "--to", "again"]):
        done = run(tmp_path, *command)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert "## peers" in outputs[0] and "## rounds" in outputs[0]
    plots = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert plots == ["memory.svg", "processors.svg", "rounds.svg"]
    for name in plots:
        content = (tmp_path / "plots" / name).read_bytes()
        assert content == (tmp_path / "again" / name).read_bytes()
        assert b"fedn" in content or b"reducer" in content
