"""What the platform must reach."""

import pytest

from benchmarks.targets import (
    PEERS,
    TARGETS,
    best_peer,
    combiners_factor,
    floor_s,
    passes,
    required_ratio,
    round_bytes,
)


def test_a_round_moves_the_model_to_and_from_every_client_and_combiner() -> None:
    assert round_bytes(1_000_000, 10, 1) == 88_000_000
    assert round_bytes(1_000_000, 10, 2) == 96_000_000


def test_the_floor_is_the_bytes_at_the_measured_speed_and_a_commit() -> None:
    assert floor_s(1_000_000, 10, 1, bytes_per_s=2e9, commit_s=0.004) == pytest.approx(0.048)


def test_the_required_ratio_is_ours_over_the_same_peer_of_the_table() -> None:
    cell = (10_000_000, 10)
    assert required_ratio(cell, "nvflare", tls=True) == pytest.approx(1.35 / 3.38)
    assert required_ratio(cell, "nvflare", tls=False) == pytest.approx(1.0 / 3.38)
    assert required_ratio(cell, "flower", tls=True) == pytest.approx(1.35 / 5.19)


def test_two_combiners_may_cost_more() -> None:
    assert combiners_factor((1_000_000, 10), 2) == 1.15
    assert combiners_factor((1_000_000, 2), 2) == 1.35
    assert combiners_factor((100_000_000, 2), 2) == 1.5
    assert combiners_factor((1_000_000, 10), 1) == 1.0
    with pytest.raises(ValueError, match="3 combiners"):
        combiners_factor((1_000_000, 10), 3)
    assert required_ratio((1_000_000, 10), "flower", tls=True, combiners=2) == pytest.approx(1.15 * 0.16 / 0.325)


@pytest.mark.parametrize(("cell", "peer"), [((1_000_000, 5), "flower"), ((1_000_000, 10), "another")])
def test_nothing_is_required_where_the_table_says_nothing(cell: tuple[int, int], peer: str) -> None:
    assert required_ratio(cell, peer, tls=True) is None


def test_every_cell_with_a_target_has_a_peer_that_we_must_beat() -> None:
    for cell, target in TARGETS.items():
        best = min(times[cell] for times in PEERS.values() if cell in times)
        assert target.plain_s <= target.tls_s < best


def test_the_best_peer_is_the_fastest() -> None:
    assert best_peer({"a": 2.0, "b": 1.0}) == "b"
    assert best_peer({}) is None


@pytest.mark.parametrize(
    ("value", "limit", "kept"), [(1.0, 1.0, True), (1.01, 1.0, False), (None, 1.0, None), (1.0, None, None)]
)
def test_a_limit_is_kept_up_to_and_with_itself(value: float | None, limit: float | None, kept: bool | None) -> None:
    assert passes(value, limit) is kept
