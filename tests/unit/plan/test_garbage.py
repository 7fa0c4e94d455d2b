"""When garbage is looked for: what stays is set apart, what goes is found, and long looks are rare."""

import asyncio
import gc
from typing import Any

import pytest

from fedn.plan import garbage
from fedn.plan.garbage import GarbageSchedule, Turnover, garbage_schedule


class Collector:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.threshold = (700, 10, 10)

    def collect(self) -> int:
        self.told.append("collect")
        return 0

    def freeze(self) -> None:
        self.told.append("freeze")

    def unfreeze(self) -> None:
        self.told.append("unfreeze")

    def get_threshold(self) -> tuple[int, int, int]:
        return self.threshold

    def set_threshold(self, *threshold: int) -> None:
        self.threshold = threshold  # type: ignore[assignment]


class Stage:
    """A schedule whose program's turnover and clock the test sets."""

    def __init__(self) -> None:
        self.collector, self.now, self.time = Collector(), Turnover(), 0.0
        self.schedule = GarbageSchedule(lambda: self.now, collector=self.collector, clock=lambda: self.time)

    def tick(self, **changes: Any) -> list[str]:
        """What the collector is told at a tick with this turnover."""
        self.now = Turnover(**{**vars(self.now), **changes})
        self.collector.told.clear()
        self.schedule.tick()
        return list(self.collector.told)


SET_APART = ["collect", "freeze"]
LOOK = ["collect"]
LONG_LOOK = ["unfreeze", "collect", "freeze"]


def test_what_is_there_at_the_start_is_set_apart_and_everything_is_as_before_at_the_end() -> None:
    stage = Stage()
    stage.schedule.begin()
    assert stage.collector.told == SET_APART
    assert stage.collector.threshold[2] > 10**6  # no walk through all objects by itself
    stage.schedule.end()
    assert stage.collector.threshold == (700, 10, 10)
    assert stage.collector.told[-1] == "unfreeze"


def test_newcomers_are_set_apart_when_there_are_enough() -> None:
    stage = Stage()
    assert stage.tick(came=100) == []
    assert stage.tick(came=300) == SET_APART
    assert stage.tick(came=350) == []
    assert stage.tick(came=500) == SET_APART


def test_a_round_under_way_is_not_set_apart_with_a_few_newcomers() -> None:
    stage = Stage()
    assert stage.tick(came=300, busy=1) == []
    assert stage.tick(came=5000, busy=1) == SET_APART
    assert stage.tick(came=5300, busy=0) == SET_APART


def test_what_a_round_leaves_is_looked_for_when_it_has_ended() -> None:
    stage = Stage()
    stage.tick(came=10_000)
    assert stage.tick(busy=1) == []
    assert stage.tick(busy=0, done=1) == LOOK
    assert stage.tick() == []


def test_when_many_of_those_set_apart_went_one_long_look_is_taken() -> None:
    stage = Stage()
    stage.tick(came=10_000)
    assert stage.tick(went=50) == []
    assert stage.tick(went=200) == LOOK
    assert stage.tick(came=12_000, went=3000) == LONG_LOOK
    assert stage.tick() == []


def test_a_long_look_waits_for_quiet_but_not_for_ever() -> None:
    stage = Stage()
    stage.tick(came=2000)
    assert stage.tick(went=1900, busy=1) == LOOK
    assert stage.tick(went=1950) == []
    stage.time = 10_000.0
    assert stage.tick() == LONG_LOOK


def test_a_program_keeps_house_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "_EVERY_S", 0.001)
    before = gc.get_threshold()
    asked = asyncio.Event()

    def turnover() -> Turnover:
        asked.set()
        return Turnover(came=1000)

    async def run() -> None:
        async with garbage_schedule(turnover), asyncio.timeout(60):
            await asked.wait()
            assert gc.get_freeze_count() > 0
            assert gc.get_threshold() != before

    asyncio.run(run())
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_looking_takes_a_fiftieth_of_the_time_at_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()

    def slow() -> int:
        stage.time += 0.1
        return Collector.collect(stage.collector)

    monkeypatch.setattr(stage.collector, "collect", slow)
    assert stage.tick(done=1) == LOOK
    stage.time += 4.9
    assert stage.tick(done=2) == []
    stage.time += 0.2
    assert stage.tick(done=3) == LOOK
