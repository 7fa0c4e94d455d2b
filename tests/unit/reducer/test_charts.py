"""Charts of metrics: what of them is drawn, and where."""

import pytest

from fedn.reducer.pages.charts import HEIGHT, WIDTH, charts


def test_accuracy_and_loss_come_first_and_a_metric_needs_two_values() -> None:
    series = {
        1: {"zeta": 1.0, "loss": 2.0, "accuracy": 0.5, "once": 1.0},
        2: {"zeta": 1.0, "loss": 1.0, "accuracy": 0.9},
    }
    assert [chart.name for chart in charts(series)] == ["accuracy", "loss", "zeta"]
    assert charts({}) == [] and charts({1: {"loss": 1.0}}) == []


@pytest.mark.parametrize("values", [[0.0, 1.0], [1.0, 1.0, 1.0], [-1.7e308, 0.0, 1.7e308], [3.0, 1.0, 2.0]])
def test_every_point_lies_within_the_drawing(values: list[float]) -> None:
    (chart,) = charts({number: {"loss": value} for number, value in enumerate(values, 1)})
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in chart.points)
    assert (chart.first, chart.last, chart.latest) == (1, len(values), values[-1])
    assert (chart.low, chart.high) == (min(values), max(values))


def test_a_round_without_the_metric_leaves_a_gap_in_the_numbers_only() -> None:
    (chart,) = charts({1: {"loss": 1.0}, 2: {}, 3: {"loss": 0.0}})
    assert len(chart.points) == 2 and chart.line.count(",") == 2


def test_what_is_no_number_is_not_drawn() -> None:
    (chart,) = charts({1: {"loss": 1.0}, 2: {"loss": float("nan")}, 3: {"loss": float("inf")}, 4: {"loss": 0.5}})
    assert len(chart.points) == 2 and chart.latest == 0.5
