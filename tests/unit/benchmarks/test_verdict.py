"""Rows of one run of several systems, judged."""

from typing import Any

import pytest

from benchmarks.peers.verdict import table, verdicts


def ours(**changes: Any) -> dict[str, Any]:
    row = {"bench": "rounds", "system": "fedn", "params": 1_000_000, "clients": 10, "combiners": 1, "tls": True}
    return row | {"round_s": 0.1, "of_floor": 1.4, "server_rss_mb": 300.0} | changes


def peer(system: str, round_s: float, **changes: Any) -> dict[str, Any]:
    row = {"bench": "rounds", "system": system, "params": 1_000_000, "clients": 10, "tls": False}
    return row | {"round_s": round_s} | changes


def test_a_cell_is_judged_against_the_fastest_peer_of_its_run() -> None:
    (one,) = verdicts([ours(), peer("flower-1.8.0", 0.25), peer("nvflare-2.9.0", 0.6)])
    assert one.best == "flower"
    assert one.ratio == pytest.approx(0.4)
    assert one.required == pytest.approx(0.16 / 0.325)
    assert one.passed is True


@pytest.mark.parametrize(
    "changes", [{"round_s": 0.2}, {"of_floor": 1.6}, {"server_rss_mb": 401.0}], ids=["ratio", "floor", "memory"]
)
def test_a_cell_that_breaks_one_limit_does_not_pass(changes: dict[str, float]) -> None:
    (one,) = verdicts([ours(**changes), peer("flower-1.8.0", 0.25)])
    assert one.passed is False


def test_repeated_runs_count_by_their_median() -> None:
    rows = [ours(round_s=seconds) for seconds in (0.1, 0.11, 5.0)]
    rows += [peer("flower-1.8.0", seconds) for seconds in (0.2, 0.22, 9.0)]
    (one,) = verdicts(rows)
    assert one.ratio == pytest.approx(0.5)


def test_runs_with_and_without_tls_are_judged_apart() -> None:
    tls, plain = verdicts([ours(tls=False, round_s=0.05), ours(), peer("flower-1.8.0", 0.25)])
    assert (tls.tls, plain.tls) == (True, False)
    assert plain.required == pytest.approx(0.12 / 0.325)


def test_a_failed_run_of_a_peer_is_no_time() -> None:
    failed = {"bench": "rounds", "system": "flower", "params": 1_000_000, "clients": 10, "failed": "over 600 s"}
    (one,) = verdicts([ours(), failed])
    assert (one.best, one.ratio, one.required) == (None, None, None)


def test_a_failed_run_of_ours_does_not_pass_unseen() -> None:
    failed = ours(failed="over 600 s")
    for key in ("round_s", "of_floor", "server_rss_mb"):
        del failed[key]
    (one,) = verdicts([failed, peer("flower-1.8.0", 0.25)])
    assert one.passed is False


def test_a_cell_that_the_table_does_not_know_is_shown_without_a_judgement() -> None:
    (one,) = verdicts([ours(clients=5), peer("flower-1.8.0", 0.25, clients=5)])
    assert one.ratio == pytest.approx(0.4)
    assert one.passed is None
    assert "0.400" in table([one])
