"""What one data center has measured: how busy its racks were, and the power that they took. Made up here.

The same physics everywhere, but not the same weather and customers: one site knows only cold aisles, another only busy
servers. What is made follows from the site's partition.json, or from its name: see `fedn.datasets.pieces`.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedn.datasets.pieces import read_piece

FEATURES = ("servers", "cpu_load", "memory_load", "disk_mb_per_s", "network_mb_per_s", "inlet_celsius")
_CENTRES = np.array([30.0, 0.5, 0.5, 300.0, 500.0, 23.0])
_WIDTHS = np.array([8.0, 0.25, 0.25, 200.0, 300.0, 5.0])
_MEAN_WATTS, _WATTS_WIDTH = 8000.0, 2500.0
"""Fixed, not measured at the site: every site must scale alike."""
TRAIN, HELD_OUT = 1000, 250


@dataclass(frozen=True)
class Measurements:
    """Features float32 (n, 6), each about -2..2; the power float32 (n,), scaled likewise."""

    features: np.ndarray
    power: np.ndarray

    def __len__(self) -> int:
        return len(self.power)


def read_task() -> dict[str, Any]:
    """What this command is asked to do: session, round, client, parameters, seed and so on."""
    return json.loads(Path(os.environ["FEDN_TASK_FILE"]).read_text())


def load_site(client: str) -> tuple[Measurements, Measurements]:
    """Measurements to train on, and measurements held out."""
    path = os.environ.get("FEDN_DATA_PATH")
    draw = read_piece(Path(path) if path else None, client).own_draw()
    climate, custom, size = draw.uniform(18, 28), draw.uniform(0.25, 0.75), draw.uniform(20, 40)
    both = _measure(draw, TRAIN + HELD_OUT, climate, custom, size)
    return (
        Measurements(both.features[:TRAIN], both.power[:TRAIN]),
        Measurements(both.features[TRAIN:], both.power[TRAIN:]),
    )


def to_watts(power: np.ndarray) -> np.ndarray:
    return power * _WATTS_WIDTH + _MEAN_WATTS


def _measure(draw: np.random.Generator, count: int, climate: float, custom: float, size: float) -> Measurements:
    """`count` minutes at a site whose inlets have about `climate` °C, its CPUs the load `custom`, its racks `size`
    servers.
    """
    servers = np.clip(np.round(draw.normal(size, 4, count)), 5, 48)
    cpu = draw.beta(4 * custom, 4 * (1 - custom), count)
    memory = np.clip(0.3 + 0.5 * cpu + draw.normal(0, 0.15, count), 0, 1)
    disk, network = draw.gamma(2, 150, count), draw.gamma(2, 500 * cpu + 1)
    inlet = draw.normal(climate, 1.5, count)
    # Watts a server: idle, CPU (less than proportional), memory, and fans, which take the cube of their speed.
    fans = 18 * np.clip((inlet - 15) / 12, 0.2, 1.3) ** 3
    watts = servers * (110 + 190 * cpu * (1.4 - 0.4 * cpu) + 35 * memory + fans) + 0.5 * disk + 0.2 * network
    watts *= draw.normal(1, 0.015, count)  # what the meters get wrong
    features = np.stack([servers, cpu, memory, disk, network, inlet], axis=1)
    return Measurements(
        ((features - _CENTRES) / _WIDTHS).astype(np.float32), ((watts - _MEAN_WATTS) / _WATTS_WIDTH).astype(np.float32)
    )
