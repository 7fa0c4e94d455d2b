"""What a soak test says of samples: a leak of each kind is found, and what must grow is held to its rounds."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.soak import LIMITS, judge, table
from benchmarks.watching import Sample, Watch, of_folder, of_process, of_program

STEADY = {"rss_bytes": 100e6, "threads": 10.0, "open_files": 50.0, "nameless_files": 0.0, "nameless_bytes": 0.0}
BY_ROUND = {"store": {"files": 1.0, "bytes": 1000.0}}


def watched(samples: list[dict[str, Sample]]) -> Watch:
    """A watch that has taken these, a second and two rounds apart."""
    watch = Watch({}, {}, lambda: 0, every_s=1.0)
    watch.samples = samples
    watch.at_s = [float(place) for place in range(len(samples))]
    watch.done = [2.0 * place for place in range(len(samples))]
    return watch


def test_what_stays_is_kept() -> None:
    verdicts = judge(watched([{"combiner-1": STEADY}] * 20), BY_ROUND)
    assert {verdict["quantity"] for verdict in verdicts} == STEADY.keys()
    assert all(verdict["kept"] and verdict["gained"] == 0 for verdict in verdicts)


@pytest.mark.parametrize("quantity", sorted(STEADY))
def test_a_leak_of_each_quantity_is_found(quantity: str) -> None:
    each = 2 * LIMITS[quantity].of(STEADY[quantity]) / 10
    samples = [{"combiner-1": {**STEADY, quantity: STEADY[quantity] + each * place}} for place in range(20)]
    broken = [verdict for verdict in judge(watched(samples), BY_ROUND) if not verdict["kept"]]
    assert [(verdict["of"], verdict["quantity"]) for verdict in broken] == [("combiner-1", quantity)]
    assert broken[0]["gained"] == pytest.approx(9 * each)


def test_a_store_may_grow_by_so_much_a_round() -> None:
    for each, kept in ((1900.0, True), (2100.0, False)):
        samples: list[dict[str, Sample]] = [
            {"store": {"files": 2.0 * place, "bytes": each * place}} for place in range(20)
        ]
        verdicts = {verdict["quantity"]: verdict for verdict in judge(watched(samples), BY_ROUND)}
        assert verdicts["bytes"]["gained"] == pytest.approx(each / 2)
        assert (verdicts["bytes"]["kept"], verdicts["files"]["kept"]) == (kept, True)


def test_a_program_that_was_there_for_three_samples_is_not_judged() -> None:
    samples: list[dict[str, Sample]] = [{"combiner-1": STEADY}] * 17 + [{"combiner-1": STEADY, "late": STEADY}] * 3
    assert {verdict["of"] for verdict in judge(watched(samples), BY_ROUND)} == {"combiner-1"}


OPENS = """
import os, sys
print("begun", flush=True)
input()
descriptors = [os.open(f"{number}", os.O_CREAT | os.O_RDWR) for number in range(3)]
os.write(descriptors[0], bytes(1 << 20))
os.unlink("0")
descriptors.append(os.dup(descriptors[0]))  # the same file once more
print("opened", flush=True)
input()
"""


def test_a_process_tells_what_it_holds(tmp_path: Path) -> None:
    """A child: in the tests' own process, others open and close files too."""
    command = [sys.executable, "-c", OPENS]
    with psutil.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "begun\n"
        before = of_process(psutil.Process(child.pid))
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "opened\n"
        now = of_process(psutil.Process(child.pid))
        child.communicate("\n", timeout=60)
    assert now["open_files"] - before["open_files"] == 4
    assert now["nameless_files"] - before["nameless_files"] == 1
    assert now["nameless_bytes"] - before["nameless_bytes"] >= 1 << 20
    assert now["rss_bytes"] > 0 and now["threads"] >= 1


def test_a_program_that_has_ended_has_no_sample_and_a_folder_counts_what_is_below(tmp_path: Path) -> None:
    child = psutil.Popen(["true"])
    child.wait()
    assert of_program(child.pid) == {}
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(bytes(100))
    assert of_folder(tmp_path) == {"files": 1.0, "bytes": 100.0}
    assert of_folder(tmp_path / "missing") == {"files": 0.0, "bytes": 0.0}


def test_a_watch_samples_until_it_ends(tmp_path: Path) -> None:
    with Watch({"me": os.getpid()}, {"here": tmp_path}, lambda: 7, every_s=0.001) as watch:
        while len(watch.samples) < 3:
            watch._thread.join(0.001)
    names = {name for name, _, places, values in watch.series() if len(places) == len(values) == len(watch.samples)}
    assert {"me", "here"} <= names
    assert set(watch.done) == {7.0}
    assert not watch._thread.is_alive()


def test_the_table_shows_what_grew_first_and_every_program_and_folder() -> None:
    folder = {"files": 2.0, "bytes": 1e6}
    samples: list[dict[str, Sample]] = [
        {"combiner-1": {**STEADY, "open_files": 50.0 + 2 * place}, "reducer": STEADY, "logs": folder}
        for place in range(20)
    ]
    verdicts = judge(watched(samples), BY_ROUND)
    grew, programs, folders = table([{"verdicts": verdicts}]).split("\n\n")
    assert len(grew.splitlines()) == 3 and "open files" in grew and "| 18.0" in grew
    assert [line.split("|")[1].strip() for line in programs.splitlines()[2:]] == ["combiner-1", "reducer"]
    assert [line.split("|")[-2].strip() for line in programs.splitlines()[2:]] == ["no", "yes"]
    assert [line.split("|")[1].strip() for line in folders.splitlines()[2:]] == ["logs"]
    steady = judge(watched([{"combiner-1": STEADY, "logs": folder}] * 20), BY_ROUND)
    assert len(table([{"verdicts": steady}]).split("\n\n")) == 2
