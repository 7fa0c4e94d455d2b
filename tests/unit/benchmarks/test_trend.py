"""The slope that says whether something grows: not moved by outliers, right on a line, blind to noise."""

import numpy as np
import pytest

from benchmarks.trend import Limit, theil_sen, trend_of


def test_a_line_has_its_slope_however_many_points_it_has() -> None:
    for count in (2, 5, 399, 5000):
        at = np.arange(count) * 0.5
        assert theil_sen(at, 3.0 * at + 7.0) == pytest.approx(3.0)


def test_a_quarter_of_outliers_does_not_move_the_slope() -> None:
    chance = np.random.default_rng(1)
    at = np.arange(200.0)
    values = 0.1 * at
    values[chance.choice(200, 50, replace=False)] += chance.uniform(-1e6, 1e6, 50)
    assert theil_sen(at, values) == pytest.approx(0.1, rel=0.3)
    assert abs(np.polyfit(at, values, 1)[0] - 0.1) > 10  # least squares is moved


def test_points_at_one_place_have_no_slope() -> None:
    assert theil_sen([], []) == theil_sen([1.0], [5.0]) == theil_sen([2.0, 2.0, 2.0], [1.0, 5.0, 9.0]) == 0.0


def test_a_trend_is_of_the_second_half_and_its_growth_of_that_length() -> None:
    at = [float(second) for second in range(101)]
    grows_then_stays = [min(second, 50.0) for second in at]
    assert trend_of(at, grows_then_stays).growth == 0.0
    trend = trend_of(at, [2.0 * second for second in at])
    assert (trend.first, trend.last, trend.median) == (0.0, 200.0, 150.0)
    assert trend.growth == pytest.approx(2.0 * 50)


def test_a_sawtooth_that_comes_back_does_not_grow_and_one_that_climbs_does() -> None:
    chance = np.random.default_rng(2)
    at = np.arange(1000.0)
    teeth = at % 40 + chance.normal(0, 1, 1000)
    assert Limit(4.0).of(20.0) > trend_of(at.tolist(), teeth.tolist()).growth
    climbing = trend_of(at.tolist(), (teeth + 0.02 * at).tolist())
    assert climbing.growth == pytest.approx(10.0, rel=0.3)
    assert climbing.growth > Limit(4.0, 0.04).of(climbing.median)


def test_a_limit_is_the_larger_of_its_parts() -> None:
    assert Limit(4.0, 0.1).of(10.0) == 4.0
    assert Limit(4.0, 0.1).of(100.0) == 10.0


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="four samples"):
        trend_of([0.0, 1.0, 2.0], [0.0, 1.0, 2.0])
