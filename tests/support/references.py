"""Aggregation rules by their definitions, in plain float64, over whole models; and rules run over two tiers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedn.aggregation.base import Rule
from fedn.aggregation.combine import FromBase, combine, finish_pieces
from fedn.aggregation.gathering.base import Gathered, GatheringRule, Rows
from fedn.models.pieces import Pieces
from fedn.models.wire import decode, encode, read_spec
from fedn.protocol.tasks import RoundName, UpdateMetadata
from tests.support.models import Array, Model
from tests.support.sums import whole_result

NAME = RoundName(session="s", index=0, attempt=0, epoch=0)


@dataclass(frozen=True)
class Sent:
    """An update as a client sends it."""

    model: Model
    weight: float
    steps: int = 1
    form: str = "model"

    @property
    def metadata(self) -> UpdateMetadata:
        return UpdateMetadata(task_id="t", client="c", round=NAME, num_steps=self.steps, num_examples=1, form=self.form)


def cut(data: Any, size: int = 41) -> Pieces:
    """Bytes in pieces that split elements."""
    view = memoryview(data)
    return Pieces([view[at : at + size] for at in range(0, len(view), size)])


def flat(model: Model) -> Array:
    """All floating-point values, in float64."""
    return np.concatenate([array.astype(np.float64).ravel() for array in model.values() if array.dtype.kind == "f"])


def random_model(rng: np.random.Generator) -> Model:
    return {
        "w": rng.standard_normal((6, 3)).astype(np.float32),
        "steps": rng.integers(0, 50, 2),
        "b": rng.standard_normal(4),
        "flag": rng.random(3) < 0.5,
        "empty": np.zeros((0, 2), np.float32),
    }


def random_sent(rng: np.random.Generator, base: Model, count: int, *, scale: float = 0.5) -> list[Sent]:
    """Updates of that base, models and deltas mixed; integers and bools are new values in both forms."""
    sent = []
    for number in range(count):
        change = {key: rng.standard_normal(array.shape) * scale for key, array in base.items()}
        form = "delta" if number % 3 == 2 else "model"
        model: Model = {}
        for key, array in base.items():
            if array.dtype.kind != "f":
                model[key] = random_model(rng)[key]
            else:
                model[key] = (change[key] + (array if form == "model" else 0.0)).astype(array.dtype)
        sent.append(Sent(model, float(rng.integers(1, 100)), int(rng.integers(1, 20)), form))
    return sent


def models_of(base: Model, sent: Sequence[Sent]) -> list[Model]:
    """What each client has after its training, in float64."""
    return [
        {
            key: array.astype(np.float64) + (base[key] if one.form == "delta" and array.dtype.kind == "f" else 0.0)
            for key, array in one.model.items()
        }
        for one in sent
    ]


def two_tiers(
    rule: Rule, base: Model, sent: Sequence[Sent], places: Sequence[int], sum_dtype: str = "float64"
) -> Model:
    """The global model where update i is at combiner places[i], as the combiners and the reducer make it."""
    data = encode(base)
    spec = read_spec(data)
    models, parts = [], []
    for combiner in sorted(set(places)):
        total = rule.start(spec, sum_dtype, cut(data))
        mine = [one for one, place in zip(sent, places, strict=True) if place == combiner]
        for one in mine:
            update = encode(one.model)
            total.add(cut(update), read_spec(update), one.weight, form=one.form, share=rule.share_of(one.metadata))
        assert total.count == len(mine)
        models.append((whole_result(total), total.weight))
        parts.append([(one.weight, one.metadata) for one in mine])
    from_base = FromBase(cut(data), rule.part_shares(parts))
    made = combine(models, spec, sum_dtype=sum_dtype, from_base=from_base)
    return {key: np.array(array) for key, array in decode(made).items()}


def by_parts(base: Model, sent: Sequence[Sent], floats: Callable[[Array, Sequence[Array]], Array]) -> dict[str, Array]:
    """Floating-point tensors by `floats` of (base, updates) as flat vectors, the others by their mean."""
    models = models_of(base, sent)
    vector = floats(flat(base), [flat({k: m[k] for k in m if base[k].dtype.kind == "f"}) for m in models])
    weights = [one.weight for one in sent]
    expected: dict[str, Array] = {}
    at = 0
    for key, array in base.items():
        if array.dtype.kind == "f":
            expected[key] = vector[at : at + array.size].reshape(array.shape)
            at += array.size
        else:
            expected[key] = np.average([model[key] for model in models], axis=0, weights=weights)
    return expected


def assert_near(made: Model, expected: dict[str, Array], base: Model, tolerance: float = 1e-6) -> None:
    """Floats to a tolerance; the others rounded, with the base's dtypes.

    A mean that lies at a half, up to the tolerance, may be rounded either way: that depends on the order of a sum.
    """
    assert list(made) == list(base)
    for key, array in made.items():
        assert array.dtype == base[key].dtype, key
        mean = np.asarray(expected[key], np.float64)
        if array.dtype.kind == "f":
            np.testing.assert_allclose(array, mean, rtol=tolerance, atol=tolerance, err_msg=key)
        else:
            slack = 0.5 + tolerance * np.maximum(1.0, np.abs(mean))
            assert np.all(np.abs(array.astype(np.float64) - mean) <= slack), key


class MemorySpill:
    """Rows that wait in memory."""

    def __init__(self) -> None:
        self._data = bytearray()

    def append(self, row: memoryview) -> None:
        self._data += row

    def whole(self) -> memoryview:
        return memoryview(self._data)


def gathered(rule: GatheringRule, base: Model, sent: Sequence[Sent]) -> Gathered:
    """Updates as one combiner gathers them."""
    data = encode(base)
    aggregate = rule.gather(read_spec(data), cut(data), MemorySpill())
    for one in sent:
        update = encode(one.model)
        aggregate.add(cut(update), read_spec(update), one.weight, form=one.form)
    return aggregate


def forwarded(rule: GatheringRule, base: Model, sent: Sequence[Sent], places: Sequence[int]) -> Model:
    """The global model of scope `global`, where update i is at combiner places[i]."""
    spec, rows, weights = read_spec(encode(base)), [], []
    for combiner in sorted(set(places)):
        mine = [one for one, place in zip(sent, places, strict=True) if place == combiner]
        rows += [cut(bytes(row)) for row in gathered(rule, base, mine).rows()]
        weights += [one.weight for one in mine]
    made = b"".join(map(bytes, finish_pieces(rule.over(Rows(rows, weights, spec)), spec)))
    return {key: np.array(array) for key, array in decode(made).items()}
