"""Figures of the convergence study: idle time from a ledger, targets and steadiness of curves, plans from a grid."""

from pathlib import Path

import pytest

from benchmarks.convergence import methods, schedulers, study
from benchmarks.convergence.clients.network import make_network
from benchmarks.convergence.federation import evenly
from benchmarks.convergence.idleness import idleness
from benchmarks.convergence.measures import late_accuracy, mean_and_spread, rounds_to, time_to, unsteadiness
from benchmarks.convergence.methods import Grid
from benchmarks.convergence.record import Record
from benchmarks.results import read
from fedn.plan.session import SessionPlan
from fedn.protocol.rest import RoundView
from fedn.protocol.rounds import LedgerEntry, LedgerState, RoundKind, RoundState

CURVE = [[1, 0.5, 0.2], [2, 1.0, 0.6], [3, 1.5, 0.5], [4, 2.0, 0.7]]


def entry(client: str, task: str, sent_at: float, busy_s: float, state: LedgerState) -> LedgerEntry:
    return LedgerEntry(client=client, task_id=task, sent_at=sent_at, busy_ms=busy_s * 1e3, state=state)


def a_round(index: int, ended_at: float, *ledger: LedgerEntry, state: RoundState = RoundState.COMMITTED) -> RoundView:
    return RoundView(
        session="s",
        index=index,
        attempt=0,
        epoch=1,
        kind=RoundKind.TRAIN,
        state=state,
        ledger=ledger,
        started_at=100.0,
        ended_at=ended_at,
    )


def test_a_client_is_idle_between_its_answer_and_its_next_task() -> None:
    updated = LedgerState.UPDATED
    found = idleness(
        [
            a_round(0, 104.0, entry("a", "a0", 100.0, 1.0, updated), entry("b", "b0", 100.0, 4.0, updated)),
            a_round(1, 110.0, entry("a", "a1", 105.0, 2.0, updated), entry("b", "b1", 105.0, 5.0, updated)),
        ]
    )
    assert found.window_s == pytest.approx(10.0)
    assert found.idle_s == pytest.approx({"a": 7.0, "b": 1.0})
    assert found.share == pytest.approx(0.4)


def test_a_task_that_no_commit_waited_for_keeps_its_client_busy_to_the_end() -> None:
    late = entry("b", "b0", 101.0, 0.0, LedgerState.LATE)
    found = idleness(
        [
            a_round(0, 104.0, entry("a", "a0", 100.0, 3.0, LedgerState.UPDATED)),
            a_round(1, 109.0, late, state=RoundState.CANCELLED),
        ]
    )
    assert found.idle_s == pytest.approx({"a": 1.0, "b": 1.0})


def test_a_session_without_a_commit_has_no_idle_time() -> None:
    with pytest.raises(ValueError, match="nothing was committed"):
        idleness([a_round(0, 104.0, state=RoundState.FAILED)])


def test_figures_of_a_curve() -> None:
    assert (rounds_to(CURVE, 0.6), time_to(CURVE, 0.6)) == (2, 1.0)
    assert rounds_to(CURVE, 0.9) is None and time_to(CURVE, 0.9) is None
    assert late_accuracy(CURVE) == pytest.approx(0.7)
    assert unsteadiness([*CURVE, [5, 2.5, 0.6]]) == pytest.approx(0.05)
    assert unsteadiness(CURVE[:1]) == 0.0
    assert mean_and_spread([1.0, 3.0], digits=1) == "2.0 ± 1.4"
    assert mean_and_spread([1.0], digits=1) == "1.0"


def test_judged_models_are_spread_evenly_and_the_last_is_one_of_them() -> None:
    assert evenly(3, 10) == [0, 1, 2]
    assert evenly(10, 4) == [0, 3, 6, 9]
    assert evenly(11, 4)[-1] == 10


@pytest.mark.parametrize("name", methods.METHODS)
def test_every_value_of_a_grid_is_one_that_a_plan_takes(name: str) -> None:
    method = methods.METHODS[name]
    for value in method.grid.values:
        fields, parameters = methods.filled(method.plan, value), methods.filled(method.parameters, value)
        assert methods.VALUE not in str((fields, parameters)) and f"{value}" in str((fields, parameters))
        SessionPlan.model_validate({**fields, "parameters": parameters})


@pytest.mark.parametrize(
    ("best", "found", "tried"),
    [
        (0.2, 0.2, [0.1, 0.2, 0.3]),
        (0.04, 0.05, [0.1, 0.2, 0.3, 0.05, 0.01]),
        (0.0, 0.01, [0.1, 0.2, 0.3, 0.05, 0.01]),
        (0.9, 0.5, [0.1, 0.2, 0.3, 0.5]),
    ],
)
def test_a_grid_is_searched_on_beyond_its_edge(best: float, found: float, tried: list[float]) -> None:
    asked: list[float] = []

    def score(value: float) -> float:
        asked.append(value)
        return -abs(value - best)

    assert Grid((0.1, 0.2, 0.3), below=(0.01, 0.05), above=(0.5,)).search(score) == found
    assert asked == tried


def test_the_smallest_of_equally_good_values_is_taken() -> None:
    assert Grid((0.1, 0.2, 0.3)).search(lambda _: 1.0) == 0.1


def test_what_an_earlier_run_has_measured_is_not_measured_again(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    head = {"bench": "b", "seed": 1, "scheduler": {"name": "s", "options": {"lambda": 2}}}
    first = Record(file).row(head, lambda: {"rounds": 3})
    again = Record(file)
    assert again.row(head, lambda: pytest.fail("it was there")) == first
    other = again.row({**head, "seed": 2}, lambda: {"rounds": 4})
    assert again.rows == read(file) == [first, other]
    assert (first["rounds"], other["rounds"], other["seed"]) == (3, 4, 2)


def test_a_busy_machine_shows_in_the_time_that_steps_took() -> None:
    taken = {"client-1": 5.0, "client-3": 15.0}
    assert schedulers.stretch({"clients": 10, "step_ms": 5.0, "ms_per_step": taken}) == pytest.approx(1.25)


def test_schedulers_are_ones_that_a_plan_takes_and_sites_differ() -> None:
    for scheduler in schedulers.arms(4).values():
        SessionPlan.model_validate({"scheduler": scheduler})
    assert schedulers.slowness(6) == [1.0, 1.0, 2.0, 4.0, 8.0, 1.0]


@pytest.mark.parametrize("options", [["--only", "FedAvg,nonsense"], ["--settings", "nonsense"], ["--data", "mnist"]])
def test_a_name_that_the_study_does_not_know_is_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        study.parse(options)
    assert "there is no" in capsys.readouterr().err


def test_what_is_measured_unless_options_say_otherwise() -> None:
    given = study.parse(["--clients", "4"])
    assert {"asynchronous K=2", "SCAFFOLD"} <= set(given.only) and given.settings == tuple(methods.SETTINGS)


def test_the_network_classifies() -> None:
    network = make_network([4, 3, 2])
    assert {name: array.shape for name, array in network.init(0).items()} == {
        "0.weight": (4, 3),
        "0.bias": (3,),
        "2.weight": (3, 2),
        "2.bias": (2,),
    }
