"""Cells of a grid as child processes."""

import sys
from pathlib import Path

import pytest

from benchmarks.cells import CellFailed, Limits, run_cell
from benchmarks.proc import available_bytes
from tests.support.federation import wait_for
from tests.support.processes import has_ended

GENEROUS = Limits(timeout_s=60.0, min_free_bytes=0)


def command(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_last_line_of_a_cell_is_its_result(tmp_path: Path) -> None:
    code = "import sys; print('words'); print('error', file=sys.stderr); print('{\"round_s\": 0.5}')"
    assert run_cell(command(code), limits=GENEROUS, log=tmp_path / "log") == {"round_s": 0.5}
    assert "error" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("code", ["", "print('no json')", "print('[1]')"])
def test_a_cell_without_a_result_has_failed(tmp_path: Path, code: str) -> None:
    with pytest.raises(CellFailed, match="no result"):
        run_cell(command(code), limits=GENEROUS, log=tmp_path / "log")


def test_a_cell_that_ends_with_an_error_has_failed(tmp_path: Path) -> None:
    with pytest.raises(CellFailed, match="status 3"):
        run_cell(command("import sys; print('{}'); sys.exit(3)"), limits=GENEROUS, log=tmp_path / "log")


def test_a_cell_that_needs_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    place = tmp_path / "pid"
    # The child of the cell is in a session of its own, as the programs of a sandbox are.
    code = (
        "import pathlib, signal, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'], start_new_session=True)\n"
        f"pathlib.Path({str(place)!r}).write_text(str(child.pid))\n"
        "signal.pause()\n"
    )
    with pytest.raises(CellFailed, match="over 6 s"):  # enough for two interpreters to start, on a busy machine too
        run_cell(command(code), limits=Limits(timeout_s=6.0, min_free_bytes=0), log=tmp_path / "log")
    pid = int(place.read_text())
    wait_for(lambda: has_ended(pid), "the child has ended")


def test_a_cell_that_needs_too_much_memory_is_ended(tmp_path: Path) -> None:
    starved = Limits(timeout_s=60.0, min_free_bytes=available_bytes() * 100)
    with pytest.raises(CellFailed, match="memory"):
        run_cell(command("import signal; signal.pause()"), limits=starved, log=tmp_path / "log")
