"""Metrics over rounds, and the figures that are drawn of them."""

import json
import math

import numpy as np
import pytest

from fedn.protocol.rest import RoundView
from fedn.protocol.rounds import LedgerEntry, LedgerState, RoundKind, RoundState
from fedn.protocol.tasks import RoundName, UpdateMetadata
from fedn.protocol.trail import ValidationRecord
from fedn.reducer.pages.figures import (
    MAX_LINES,
    box_figure,
    client_figure,
    cpu_figure,
    mean_figure,
    round_time_figure,
    table_figure,
)
from fedn.reducer.pages.measures import Measured, spreads, training, validation
from fedn.reducer.watching.vitals import REDUCER, Sample, Vitals


def measured(number: int, values: dict[str, float], examples: dict[str, int] | None = None) -> Measured:
    return Measured(number, {client: {"loss": value} for client, value in values.items()}, examples or {})


def test_the_spread_is_that_of_a_box_plot() -> None:
    values = [0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 2.0]
    (spread,) = spreads([measured(1, {f"c{at}": value for at, value in enumerate(values)})], "loss")
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
    assert (spread.q1, spread.median, spread.q3) == pytest.approx((q1, median, q3))
    assert (spread.least, spread.most, spread.count) == (0.1, 2.0, 7)
    assert (spread.low_fence, spread.high_fence) == (0.1, 0.4)  # 2.0 lies beyond 1.5 quartile ranges
    assert spread.mean == pytest.approx(np.mean(values))


def test_the_mean_is_by_examples_and_what_is_no_number_counts_not() -> None:
    one = measured(1, {"a": 1.0, "b": 4.0, "c": math.nan}, {"a": 30, "b": 10, "c": 100})
    assert one.mean("loss") == pytest.approx(1.75)
    assert measured(1, {"a": 1.0, "b": 4.0}).mean("loss") == 2.5
    assert one.mean("accuracy") is None
    assert spreads([one, measured(2, {"a": math.inf})], "loss")[-1].round == 1


def entry(client: str, loss: float, state: LedgerState = LedgerState.UPDATED) -> LedgerEntry:
    name = RoundName(session="s", index=0, attempt=0, epoch=1)
    said = UpdateMetadata(task_id="t", client=client, round=name, num_examples=5, metrics={"loss": loss})
    return LedgerEntry(client=client, state=state, metadata=said)


def round_view(index: int, *ledger: LedgerEntry, base: str = "", model: str = "") -> RoundView:
    return RoundView(
        session="s",
        index=index,
        attempt=0,
        epoch=1,
        kind=RoundKind.TRAIN,
        state=RoundState.COMMITTED,
        base_model_id=base,
        model_id=model,
        ledger=ledger,
        started_at=float(index),
    )


def record(model: str, client: str, accuracy: float) -> ValidationRecord:
    return ValidationRecord(
        federation="f",
        entry_hash="h",
        model_id=model,
        session="s",
        client=client,
        metrics={"accuracy": accuracy},
        num_examples=2,
        time=1.0,
    )


def test_training_counts_updates_only_and_validation_belongs_to_the_round_that_made_the_model() -> None:
    rounds = [
        round_view(0, entry("a", 0.5), entry("b", 9.0, LedgerState.REFUSED), base="m0", model="m1"),
        round_view(1, entry("a", 0.25), base="m1", model="m2"),
    ]
    assert [(one.round, one.values("loss")) for one in training(rounds)] == [(1, {"a": 0.5}), (2, {"a": 0.25})]
    found = validation(rounds, [record("m0", "a", 0.1), record("m2", "a", 0.9), record("other", "a", 0.0)])
    assert [(one.round, one.mean("accuracy")) for one in found] == [(0, 0.1), (2, 0.9)]


def test_figures_are_plain_json_with_the_numbers_of_the_rounds() -> None:
    rounds = [measured(number, {"a": 1.0 / number, "b": 2.0 / number}) for number in (1, 2, 3)]
    found = spreads(rounds, "loss")
    mean = mean_figure(found, "loss")
    assert mean["data"][-1]["y"] == pytest.approx([1.5, 0.75, 0.5])
    assert mean["layout"]["xaxis"]["dtick"] == 1  # each round once
    many = spreads([measured(number, {"a": 1.0}) for number in range(100)], "loss")
    assert "dtick" not in mean_figure(many, "loss")["layout"]["xaxis"]
    box = box_figure(found, "loss")["data"][0]
    assert box["x"] == [1, 2, 3] and box["median"] == pytest.approx([1.5, 0.75, 0.5])
    lines = client_figure(rounds, "loss")["data"]
    assert [line["name"] for line in lines] == ["a", "b"] and lines[1]["y"] == pytest.approx([2.0, 1.0, 2 / 3])
    times = round_time_figure([round_view(0), round_view(1)], lambda view: {"training": view.index + 1.0})
    assert [(trace["name"], trace["y"]) for trace in times["data"]] == [("training", [1.0, 2.0])]
    table = table_figure(rounds, ["loss"])
    assert table["data"][0]["cells"]["values"][0] == [1, 2, 3]
    cpu = cpu_figure({"reducer": [Sample(0.0, 12.5, 1)]})
    assert cpu["data"][0]["y"] == [12.5] and cpu["data"][0]["x"] == ["1970-01-01T00:00:00+00:00"]
    for figure in (mean, times, table, cpu):
        assert json.loads(json.dumps(figure, allow_nan=False)) == figure


def test_many_clients_are_not_all_drawn_and_names_are_only_names() -> None:
    many = measured(1, {f"c{number:03}": 1.0 for number in range(100)})
    assert len(client_figure([many], "loss")["data"]) == MAX_LINES
    funny = client_figure([measured(1, {"<b>x": 1.0})], "loss")
    assert funny["data"][0]["name"] == "&lt;b&gt;x"


def test_vitals_tell_the_share_of_a_core_between_two_samples_that_are_apart() -> None:
    now = [100.0]
    vitals = Vitals(clock=lambda: now[0])
    vitals.note("combiner-1", "i", cpu_s=1.0, rss_bytes=10)
    now[0] = 102.0
    vitals.note("combiner-1", "i", cpu_s=1.5, rss_bytes=10)  # too soon
    now[0] = 110.0
    vitals.note("combiner-1", "i", cpu_s=3.0, rss_bytes=20)
    assert vitals.latest("combiner-1") == Sample(110.0, 20.0, 20)
    now[0] = 120.0
    vitals.note("combiner-1", "restarted", cpu_s=0.1, rss_bytes=5)  # of which nothing can be said yet
    assert vitals.latest("combiner-1") == Sample(110.0, 20.0, 20)
    vitals.measure()
    own = vitals.latest(REDUCER)
    assert own is not None and own.rss_bytes > 1 << 20 and own.cpu_percent >= 0
    assert list(vitals.samples()) == [REDUCER, "combiner-1"]
