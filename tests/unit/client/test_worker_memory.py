"""The worker's memory: used again, but never while somebody looks at it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.client.slots import SlotFolder
from fedn.client.weights import spec_of, weights_from_bytes
from fedn.client.worker_memory import ModelMemory, ResultFiles
from fedn.models.wire import encode


def model_file(folder: Path, value: float, size: int = 1000) -> tuple[str, int]:
    data = encode({"a": np.full(size, value, np.float32), "b": np.full(3, value, np.float32)})
    path = folder / f"{value}-{size}"
    path.write_bytes(data + b"not of the model")
    return str(path), len(data)


def weights_of(memory: ModelMemory, file: tuple[str, int]) -> dict[str, np.ndarray]:
    data = memory.read(*file)
    weights: dict[str, np.ndarray] = weights_from_bytes(data, spec_of(data), writable=True)
    return weights


def address(weights: dict[str, np.ndarray]) -> int:
    return weights["a"].ctypes.data


def test_memory_serves_again_once_nobody_refers_to_it(tmp_path: Path) -> None:
    memory = ModelMemory()
    first = address(weights_of(memory, model_file(tmp_path, 1)))
    weights = weights_of(memory, model_file(tmp_path, 2))
    assert address(weights) == first
    np.testing.assert_array_equal(weights["a"], np.full(1000, 2))
    assert weights["b"].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    "keep",
    [
        lambda weights: weights["a"],
        lambda weights: weights["b"],
        lambda weights: weights["a"][10:20],
        lambda weights: weights["a"].reshape(10, 100).T,
        lambda weights: memoryview(weights["a"]),
        lambda weights: np.from_dlpack(weights["a"]),
    ],
    ids=["array", "other array", "slice", "transposed", "memoryview", "dlpack"],
)
def test_memory_that_a_learner_kept_is_left_to_it(tmp_path: Path, keep: Callable[[Any], Any]) -> None:
    memory = ModelMemory()
    held = keep(weights_of(memory, model_file(tmp_path, 1)))
    other = weights_of(memory, model_file(tmp_path, 2))
    other["a"] += 5
    assert (np.asarray(held) == 1).all()
    del held
    third = weights_of(memory, model_file(tmp_path, 3))
    assert (third["a"] == 3).all() and (other["a"] == 7).all()


def test_change_in_place_stays_with_the_task(tmp_path: Path) -> None:
    memory = ModelMemory()
    file = model_file(tmp_path, 1)
    before = Path(file[0]).read_bytes()
    weights_of(memory, file)["a"] += 1
    assert Path(file[0]).read_bytes() == before
    assert (weights_of(memory, file)["a"] == 1).all()


def test_models_of_other_sizes_are_read_too(tmp_path: Path) -> None:
    memory = ModelMemory()
    for size in (1000, 10, 100_000, 99_000, 1):
        weights = weights_of(memory, model_file(tmp_path, 4, size))
        assert weights["a"].shape == (size,) and (weights["a"] == 4).all()
        del weights


def test_file_that_is_too_short_is_told(tmp_path: Path) -> None:
    path, size_bytes = model_file(tmp_path, 1)
    with pytest.raises(EOFError, match="instead of"):
        ModelMemory().read(path, size_bytes + 1000)


def test_results_are_written_into_the_agents_files_which_grow(tmp_path: Path) -> None:
    folder, files = SlotFolder(tmp_path), ResultFiles()
    slots = [folder.create(100_000) for _ in range(5)]
    for size_bytes in (1000, 90_000, 3 << 20, 50):
        for slot in slots:
            with files.open(str(slot.path), size_bytes) as view:
                view[:] = bytes([size_bytes % 251]) * size_bytes
            slot.refresh()
            assert slot.view(size_bytes) == bytes([size_bytes % 251]) * size_bytes
