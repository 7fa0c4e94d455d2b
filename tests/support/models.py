"""Hypothesis strategies of models: mappings of names to arrays of every dtype and shape that models hold."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedn.models.wire import DTYPES, DType

Array = np.ndarray[Any, Any]
Model = dict[str, Array]

FLOATS = tuple(DTYPES[code] for code in ("F16", "BF16", "F32", "F64"))
INTEGERS = tuple(dtype for dtype in DTYPES.values() if dtype.kind in "iu")

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda name: name != "__metadata__")
dtypes = st.sampled_from(list(DTYPES.values()))
shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
entries = st.dictionaries(names, st.tuples(dtypes, shapes), max_size=8)


def random_array(rng: np.random.Generator, dtype: DType, shape: tuple[int, ...], scale: float = 1.0) -> Array:
    """Finite values: floats around 0, integers over their whole range, both bools."""
    if dtype.kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return np.asarray(rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True))
    return np.asarray(rng.standard_normal(shape) * scale).astype(dtype)


@st.composite
def models(draw: Callable[..., Any], entries: st.SearchStrategy[Any] = entries) -> Model:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return {name: random_array(rng, dtype, shape) for name, (dtype, shape) in draw(entries).items()}


def assert_same_model(left: Model, right: Model) -> None:
    """Names in order, dtypes, shapes and every bit."""
    assert list(left) == list(right)
    for name in left:
        assert left[name].dtype == right[name].dtype, name
        assert left[name].shape == right[name].shape, name
        assert left[name].tobytes() == right[name].tobytes(), name
