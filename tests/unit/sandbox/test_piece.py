"""Clients in containers that share a folder of locks: each has a piece of its own for as long as it lives."""

import subprocess
import sys
from pathlib import Path

from tests.support.servers import free_port

HOLD = """
import os, sys
from pathlib import Path
from fedn.sandbox.piece import take

print(take(Path(sys.argv[1]), 2), flush=True)
# What a client does after it took its piece: it becomes another program. That one ends with its standard input.
os.execv(sys.executable, [sys.executable, "-c", "import sys; sys.stdin.read()"])
"""


class Holder:
    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-c", HOLD, str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.piece = self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


def test_each_client_takes_another_piece_and_gives_it_back_with_its_end(tmp_path: Path) -> None:
    first, second = Holder(tmp_path), Holder(tmp_path)
    third = Holder(tmp_path)
    try:
        assert [first.piece, second.piece, third.piece] == ["0", "1", "None"]
        first.end()
        fourth = Holder(tmp_path)
        assert fourth.piece == "0"
        fourth.end()
    finally:
        for holder in (first, second, third):
            holder.end()


def test_it_becomes_a_client_with_its_piece_as_data(tmp_path: Path) -> None:
    project, locks, work = tmp_path / "project", tmp_path / "locks", tmp_path / "work"
    for folder in (project, locks, work):
        folder.mkdir()
    (tmp_path / "trust").mkdir()
    command = [sys.executable, "-m", "fedn.sandbox.piece", "--project", project, "--count", "3", "--locks", locks]
    # The client gets the flags after ours; it ends at once, since no folder of this name can bring the authority.
    flags = ["--reducer-url", f"https://127.0.0.1:{free_port()}", "--ca-file", str(tmp_path / "none" / "ca.crt")]
    done = subprocess.run(
        [*command, *flags, "--data-dir", "data"], cwd=work, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1 and "unreadable_file" in done.stderr, done.stderr
    assert (work / "piece" / "partition.json").read_text() == '{"index": 0, "count": 3, "seed": 0}\n'
    own = project / "data" / "client-1"
    own.mkdir(parents=True)
    (work / "piece" / "partition.json").unlink()
    subprocess.run([*command, *flags, "--data-dir", "data"], cwd=work, capture_output=True, timeout=120, check=False)
    assert not (work / "piece" / "partition.json").exists(), "the project's own data come first"
