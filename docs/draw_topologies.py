"""Draws the pictures of the tutorial on workers: `python docs/draw_topologies.py [FOLDER]`. Needs matplotlib."""

import sys
from pathlib import Path

import numpy as np

from fedn.workers import AsymmetricTopologyManager, SymmetricTopologyManager
from fedn.workers.topology import BalancedTreeTopology, GraphTopology, MatrixTopology, StarTopology

FOLDER = Path(__file__).resolve().parent / "images" / "topologies"


def split_learning(n: int) -> GraphTopology:
    """Worker 0 is the server, whom all others talk with; they hand their layers on in a ring."""
    links = np.zeros((n, n), dtype=bool)
    links[0, 1:] = links[1:, 0] = True
    for client in range(1, n):
        links[client, client % (n - 1) + 1] = True
    return GraphTopology(links)


PICTURES: dict[str, MatrixTopology] = {
    "vertical": StarTopology(4),
    "split": split_learning(5),
    "hierarchical": BalancedTreeTopology(7, 2),
    "ring": SymmetricTopologyManager(6, 2),
    "asymmetric": AsymmetricTopologyManager(8, 4, 2, seed=145981),
}


def draw(folder: Path) -> None:
    """Writes a PNG of each topology into a folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, topology in PICTURES.items():
        topology.plot(str(folder / f"{name}.png"))


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
