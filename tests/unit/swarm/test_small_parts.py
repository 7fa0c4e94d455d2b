"""Draws, counts, keys, and the options of a swarm."""

import math
import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from fedn.network.tls import public_key_id
from fedn.protocol.errors import FednError
from fedn.swarm.behaviour import Deed, draw, is_slow
from fedn.swarm.keys import keys_of
from fedn.swarm.options import Behaviour, SwarmOptions
from fedn.swarm.statistics import Histogram, SwarmStatistics


def test_a_draw_depends_on_seed_client_and_task_alone() -> None:
    behaviour = Behaviour(seed=3, think_ms=100, think_spread=0.5, failure_rate=0.2, dropout_rate=0.2)
    draws = {(c, t): draw(behaviour, c, t) for c in ("a", "b") for t in ("1", "2")}
    assert draws == {key: draw(behaviour, *key) for key in draws}
    assert len({one.think_s for one in draws.values()}) == 4
    assert draw(behaviour.model_copy(update={"seed": 4}), "a", "1") != draws["a", "1"]


def test_rates_are_kept_on_average_and_thinking_stays_in_its_spread() -> None:
    behaviour = Behaviour(think_ms=200, think_spread=0.25, failure_rate=0.1, dropout_rate=0.3)
    draws = [draw(behaviour, "client", f"task-{index}") for index in range(4000)]
    parts = {deed: sum(one.deed is deed for one in draws) / len(draws) for deed in Deed}
    assert parts[Deed.FAIL] == pytest.approx(0.1, abs=0.03)
    assert parts[Deed.ANSWER] == pytest.approx(0.6, abs=0.05)
    for deed in (Deed.LEAVE, Deed.VANISH, Deed.VANISH_UPLOADING):
        assert parts[deed] == pytest.approx(0.1, abs=0.03)
    assert all(0.15 <= one.think_s <= 0.25 for one in draws)


def test_without_rates_everything_is_answered_at_once() -> None:
    found = draw(Behaviour(), "client", "task")
    assert (found.deed, found.think_s) == (Deed.ANSWER, 0.0)


def test_the_slow_ones_are_always_the_same() -> None:
    behaviour = Behaviour(slow_share=0.25)
    slow = [name for name in map(str, range(2000)) if is_slow(behaviour, name)]
    assert slow == [name for name in map(str, range(2000)) if is_slow(behaviour, name)]
    assert len(slow) == pytest.approx(500, abs=100)
    assert not any(is_slow(Behaviour(), name) for name in slow)


def test_percentiles_are_right_to_five_percent() -> None:
    histogram = Histogram()
    for ms in range(1, 1001):
        histogram.add(ms / 1000)
    for part in (0.01, 0.5, 0.9, 0.99):
        assert histogram.percentile(part) == pytest.approx(1000 * part, rel=0.051)
    assert histogram.summary()["max_ms"] == 1000
    assert histogram.summary()["mean_ms"] == pytest.approx(500.5)
    assert Histogram().summary() == {"count": 0, "mean_ms": 0, "p50_ms": 0, "p90_ms": 0, "p99_ms": 0, "max_ms": 0}


def test_statistics_of_processes_add_up() -> None:
    parts = []
    for number in (1, 2):
        one = SwarmStatistics(clients=number, attached=number, refused={"late": number}, received_bytes=10)
        one.task.add(number)
        one.count_break("combiner_lost")
        parts.append(SwarmStatistics.model_validate_json(one.model_dump_json()))
    parts[1].count_break("only here")
    whole = SwarmStatistics.sum_of(parts)
    assert (whole.clients, whole.attached, whole.received_bytes) == (3, 3, 20)
    assert whole.refused == {"late": 3}
    assert whole.breaks == {"combiner_lost": 2, "only here": 1}
    assert (whole.task.count, whole.task.max_ms) == (2, 2000)
    assert math.isclose(parts[0].task.total_ms, 1000)  # the parts stay as they were


def test_kept_keys_are_the_same_again_and_nobody_elses_to_read(tmp_path: Path) -> None:
    first = keys_of(["a", "b"], tmp_path / "keys")
    again = keys_of(["b", "c"], tmp_path / "keys")
    assert again["b"] == first["b"]
    assert len({public_key_id(key) for key in (*first.values(), again["c"])}) == 3
    (file,) = (tmp_path / "keys").glob("*.db")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_keys_without_a_folder_are_new_each_time() -> None:
    assert keys_of(["a"], None) != keys_of(["a"], None)


def test_keys_that_cannot_be_kept_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FednError, match="cannot be kept"):
        keys_of(["a"], tmp_path / "file")


@pytest.mark.parametrize(
    "wrong", [{"clients": 0}, {"receive": "some"}, {"report_s": 0}, {"name_base": ""}, {"unknown": 1}]
)
def test_options_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SwarmOptions.model_validate({"clients": 1, "name_base": "s"} | wrong)


def test_names_are_numbered() -> None:
    assert SwarmOptions(clients=3, name_base="load").name(2) == "load-00002"
