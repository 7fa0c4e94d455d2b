"""Extra state: tensors that a rule carries beside the model, each set of them by a name.

The server's set goes down to the clients with the model; each client answers with its update and, apart from it, a
change of the set; the mean of the changes moves the server's set on. SCAFFOLD's control variate is one.

Not here: how the bytes travel (behind those of the model, see `fedn.protocol.tasks.Section`), and what clients do.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from fedn.aggregation.accumulator import Accumulator, Entry
from fedn.aggregation.combine import combine
from fedn.models.codecs.base import PIECE, Flat
from fedn.models.digest import Buffer
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec, header_size, layout, read_spec
from fedn.protocol.errors import InvalidInput


class Extra(Protocol):
    """One set of tensors. Has no state of its own."""

    @property
    def name(self) -> str:
        """1 to 64 characters; unique within its rule."""

    def entries(self, base: ModelSpec) -> Sequence[Entry]:
        """Its tensors for such a model, each float32 or float64. Those of the changes are alike."""

    def advance(self, state: Flat, mean: Flat, share: float) -> None:
        """Moves elements on, in place.

        Args:
            state: (n,) float64, of the server's set.
            mean: (n,) float64, of the clients' changes, each counting the same.
            share: how many clients of the federation the mean is of, |S|/N; 0 < share <= 1.
        """


class WithExtras(Protocol):
    """A rule, as far as its extra state goes."""

    @property
    def extras(self) -> Sequence[Extra]: ...


def extra_specs(rule: WithExtras, base: ModelSpec) -> dict[str, ModelSpec]:
    """What the bytes of each set hold, in the order in which they follow a model."""
    return {extra.name: layout(extra.entries(base))[1] for extra in rule.extras}


def fresh_extras(rule: WithExtras, base: ModelSpec) -> dict[str, Buffer]:
    """The bytes of each set before the first round: all zero."""
    made: dict[str, Buffer] = {}
    for extra in rule.extras:
        header, spec = layout(extra.entries(base))
        made[extra.name] = header + bytes(spec.size_bytes - len(header))
    return made


def advance_extra(
    extra: Extra, base: ModelSpec, state: Buffer, parts: Sequence[tuple[Buffer | Pieces, int]], population: int
) -> bytes:
    """The set after a round, as bytes in canonical layout.

    However clients are spread over combiners, it is that of the mean over all of them.

    Args:
        state: the set before it, in any layout.
        parts: for each combiner, the mean of its clients' changes and their number.
        population: of the federation's clients, N; at least as many as are counted.

    Raises:
        InvalidInput: (`combiner_model_does_not_fit`, `bad_model`) a part is no mean of such changes; (`sum_overflow`)
            the set would not be finite.
    """
    header, spec = layout(extra.entries(base))
    before = read_spec(state)
    mean = combine([(data, float(count)) for data, count in parts], spec)
    counted = sum(count for _, count in parts)
    share = counted / max(population, counted)
    made = np.empty(spec.size_bytes, np.uint8)
    made[: len(header)] = np.frombuffer(header, np.uint8)
    for tensor in spec.tensors:
        start = before.by_name[tensor.name].start
        for at in range(0, tensor.size, PIECE):
            size, offset = min(PIECE, tensor.size - at), at * tensor.dtype.itemsize
            values = np.frombuffer(state, tensor.dtype, size, start + offset).astype(np.float64)
            change = np.frombuffer(mean, tensor.dtype, size, tensor.start + offset).astype(np.float64)
            out: Flat = np.frombuffer(made, tensor.dtype, size, tensor.start + offset)
            with np.errstate(over="ignore", invalid="ignore"):
                extra.advance(values, change, share)
                np.copyto(out, values, casting="same_kind")
            if not np.isfinite(out).all():
                raise InvalidInput(
                    "sum_overflow",
                    f"the {extra.name} of tensor {tensor.name!r} would not be finite",
                    fix="Look for a client whose training diverges.",
                    where={"tensor": tensor.name},
                )
    return made.tobytes()


class ExtraSums:
    """The clients' changes of one combiner, added up. For one thread at a time.

    Args:
        specs: as `extra_specs` says.
    """

    def __init__(self, specs: Mapping[str, ModelSpec]) -> None:
        self._sums = {name: Accumulator(spec) for name, spec in specs.items()}

    def add(self, sections: Mapping[str, Pieces]) -> None:
        """Takes in one client's changes, by the names of their sets. UpdateRefused where one does not fit."""
        specs = {name: _spec_of(data) for name, data in sections.items()}
        for name, total in self._sums.items():
            total.add(sections[name], specs[name], 1.0)

    def means(self) -> list[Pieces]:
        """The bytes of the mean of each set, in canonical layout. InvalidInput (`no_updates`, `sum_overflow`)."""
        return [Pieces([memoryview(bytes(piece)) for piece in total.result()]) for total in self._sums.values()]


def _spec_of(data: Pieces) -> ModelSpec:
    return read_spec(data.copy(0, header_size(data.copy(0, 8)) or 0), len(data))


def sections_of(data: Pieces, sizes: Mapping[str, int]) -> tuple[Pieces, dict[str, Pieces]]:
    """(The model, each section) of bytes with sections of these sizes at their end.

    Raises:
        InvalidInput: (`bad_model`) they are too few.
    """
    at = len(data) - sum(sizes.values())
    if at <= 0:
        raise InvalidInput("bad_model", f"{len(data)} bytes hold no model with {sum(sizes.values())} bytes behind it")
    model, found = data.part(0, at), {}
    for name, size_bytes in sizes.items():
        found[name] = data.part(at, at + size_bytes)
        at += size_bytes
    return model, found
