"""The workload of no-op rounds, the same for every system: its model, what a client does, what must come out.

A compute package ships this file too, and other systems' environments import it: it needs NumPy and nothing else.
"""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

STEP = 0.01
TENSORS = 20
COLUMNS = 50
NUM_EXAMPLES = 100


def make_model(params: int) -> list[Array]:
    """`params` float32 values in 20 matrices of 50 columns, all different: some systems store equal tensors once.

    Raises:
        ValueError: `params` is no multiple of 1,000.
    """
    rows, rest = divmod(params, TENSORS * COLUMNS)
    if rest or not rows:
        raise ValueError(f"the number of parameters must be a multiple of {TENSORS * COLUMNS}, not {params}")
    rng = np.random.default_rng(7)
    return [rng.standard_normal((rows, COLUMNS), dtype=np.float32) for _ in range(TENSORS)]


def shift_of(index: int) -> np.float32:
    """What client `index` (from 0) adds to every value."""
    return np.float32((index + 1) * STEP)


def max_error(final: list[Array], clients: int, rounds: int) -> float:
    """The largest distance of the final average from what it must be, w₀ + rounds · STEP · (clients + 1) / 2."""
    start = make_model(sum(array.size for array in final))
    shift = np.float32(rounds * STEP * (clients + 1) / 2)
    return float(max(np.abs(got - (first + shift)).max() for got, first in zip(final, start, strict=True)))
