"""Environments of the peers: one virtual environment a system, with pinned versions, made once."""

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import say


@dataclass(frozen=True)
class Peer:
    """A system to compare with."""

    name: str
    requirements: tuple[str, ...]
    module: str
    """Runs one cell in the peer's environment."""


FLOWER = Peer("flower", ("flwr==1.8.0", "numpy<2", "setuptools"), "benchmarks.peers.flower_cell")
NVFLARE = Peer("nvflare", ("nvflare==2.9.0",), "benchmarks.peers.nvflare_cell")
PEERS = {peer.name: peer for peer in (FLOWER, NVFLARE)}


def python_of(peer: Peer, folder: Path) -> Path:
    """The interpreter of a peer's environment in `folder`, which is made where it is missing or has other pins.

    Raises:
        RuntimeError: its packages could not be installed; pip has said why.
    """
    python = folder / peer.name / "bin" / "python"
    stamp = folder / peer.name / "installed.txt"
    wanted = "\n".join(peer.requirements) + "\n"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    say(f"installing {' '.join(peer.requirements)} into {folder / peer.name}")
    venv.create(folder / peer.name, with_pip=True, clear=True)
    command = [python, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.requirements]
    done = subprocess.run([str(part) for part in command], stdout=sys.stderr, check=False)
    if done.returncode:
        raise RuntimeError(
            f"the packages of {peer.name} could not be installed: see what pip says above. "
            "This step needs a package index: check the network, or set PIP_INDEX_URL to a mirror"
        )
    stamp.write_text(wanted)
    return python
