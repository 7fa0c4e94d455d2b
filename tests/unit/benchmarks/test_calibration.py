"""Costs are found again from rounds that were made with them, and the commands say what they cannot find."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.calibration import compare, cpu_of_combiners, federation_of, fit, line_through
from benchmarks.results import Row
from benchmarks.simulate import RECORD, bytes_of_client, main, predict, runs_of
from benchmarks.simulator import Costs, Federation, simulate

TRUE = Costs(
    combiner_s=0.1, combiner_client_s=2e-3, reducer_s=0.05, reducer_client_s=4e-4, client_s=1.5e-3, stretch=1.3,
    reducer_model_s=4e-4, combiner_idle=1e-5,
)  # fmt: skip


def run(clients: int, combiners: int = 1) -> Row:
    """What `scale` would have measured, were the simulator the truth."""
    row: Row = {
        "bench": "scale", "clients": clients, "combiners": combiners, "params": 100_000, "processes": 2, "cores": 2,
        "other_cores": 0.5, "idle_cpu_percent": 1e-3 * clients, "kb_per_client": 100.0, "combiner_mb": {"empty": 90.0},
    }  # fmt: skip
    outcome = simulate(federation_of(row), TRUE)
    combiners_s = cpu_of_combiners(outcome, TRUE, clients)
    cpu = {"combiners": combiners_s, "reducer": outcome.busy_s["reducer"], "swarm": clients * 1.5e-3}
    return row | {"round_s": outcome.round_s, "all_rounds": [outcome.round_s], "cpu_s": cpu}


def test_costs_are_found_again() -> None:
    found = fit([run(1_000), run(5_000)])
    for name in (
        "combiner_s",
        "combiner_client_s",
        "combiner_idle",
        "reducer_s",
        "reducer_client_s",
        "client_s",
        "stretch",
    ):
        assert getattr(found, name) == pytest.approx(getattr(TRUE, name), rel=1e-6), name


def test_a_size_that_was_not_fitted_is_then_foretold() -> None:
    found = fit([run(1_000), run(5_000)])
    assert all(abs(error) < 1e-6 for error in compare(run(10_000), found)["error"].values())
    twice_as_slow = run(2_500)
    twice_as_slow["round_s"] *= 2
    assert compare(twice_as_slow, found)["error"]["round_s"] == pytest.approx(-0.5)


def test_a_line_costs_nothing_negative() -> None:
    assert line_through([1.0, 3.0], [3.0, 7.0]) == pytest.approx((1.0, 2.0))
    assert line_through([1.0, 2.0], [1.0, 3.0]) == (0.0, pytest.approx(7 / 5))
    assert line_through([1.0, 2.0], [3.0, 1.0]) == (2.0, 0.0)
    assert line_through([4.0], [8.0]) == (0.0, 2.0)
    with pytest.raises(ValueError, match="points"):
        line_through([], [])


def test_limits_are_named_where_a_round_passes_them() -> None:
    costs = dataclasses.replace(TRUE, combiner_idle=0.0)

    def limits(clients: int, combiners: int) -> list[str]:
        found: list[str] = predict(
            Federation(clients=clients, combiners=combiners), costs, attached_kb=100.0, empty_mb=90.0
        )["limits"]
        return found

    assert limits(10_000, 1) == []
    assert [text.split(" over ")[0] for text in limits(1_000_000, 100)] == ["trail entry"]
    assert any("max_clients" in text for text in limits(100_000, 5))
    assert any("message" in text for text in limits(100_000, 1))


def test_a_prediction_adds_up() -> None:
    row = predict(Federation(clients=100_000, combiners=10), TRUE, attached_kb=100.0, empty_mb=90.0)
    assert row["combiner_mb"] == pytest.approx(90 + 100 * 10_000 / 1024)
    assert row["entry_mb"] == pytest.approx(bytes_of_client()["entry"] * 100_000 / 2**20)
    assert row["hosts"] == 10


def test_a_missing_size_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"2\.5k"):
        runs_of([run(1_000)], [1_000, 2_500])
    assert main(["--runs", str(tmp_path / "nothing.jsonl")]) == 2
    assert "nothing.jsonl" in capsys.readouterr().err


def test_the_record_is_carried_to_a_million_clients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    assert main(["--clients", "100k,1M", "--out", str(out)]) == 0
    row: dict[str, Any] = json.loads(out.read_text())
    assert {one["clients"] for one in row["predictions"]} == {100_000, 1_000_000}
    assert {one["clients"] for one in row["compared"] if not one["fitted"]} >= {2_500, 10_000}
    assert row["costs"]["combiner_client_s"] > row["costs"]["reducer_client_s"] > 0
    assert capsys.readouterr().out.count("| --") >= 3
    assert RECORD.exists()
