"""What `fedn worker run --backend mpi` says where it cannot start, or its ranks do not fit together."""

import importlib.machinery
import subprocess
import sys
from pathlib import Path

import pytest

from fedn.protocol.errors import InvalidInput
from fedn.workers.mpi import job


def program(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_mpiexec_beside_python_comes_before_the_one_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(program(tmp_path / "venv" / "python")))
    on_path = program(tmp_path / "system" / "mpiexec")
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert job.find_mpiexec() == str(on_path)
    beside = program(tmp_path / "venv" / "mpiexec")
    assert job.find_mpiexec() == str(beside)


def test_without_mpiexec_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidInput, match="pip install mpich") as caught:
        job.find_mpiexec()
    assert caught.value.code == "mpiexec_missing"


def test_without_mpi4py_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> importlib.machinery.ModuleSpec | None:
        return None

    monkeypatch.setattr(job, "find_spec", nothing)
    with pytest.raises(InvalidInput, match=r"pip install fedn\[mpi\]") as caught:
        job.find_mpiexec()
    assert caught.value.code == "mpi_missing"


@pytest.mark.parametrize(
    ("size", "code"), [(3, "mpi_mismatch"), (1, "launcher_lost")], ids=["another MPI", "another machine"]
)
def test_a_rank_that_does_not_belong_to_its_launcher_says_why(tmp_path: Path, size: int, code: str) -> None:
    """A process without mpiexec is an MPI job of one; so is each where mpiexec is not of the library of mpi4py."""
    script = tmp_path / "script.py"
    script.write_text("print('it ran')")
    rank = [sys.executable, "-m", "fedn.workers.mpi.rank", str(tmp_path / "no.sock"), str(size), str(script)]
    done = subprocess.run(rank, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert f"[{code}]" in done.stderr and "it ran" not in done.stdout
