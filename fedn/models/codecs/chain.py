"""A chain of codecs, and what a model looks like once it went through: a function of its spec alone.

An encoded payload is a safetensors model again. A coded tensor keeps its name (its shape too, unless values were
selected) and has its side parts, if any, beside it under `NAME#part`; all others are as they were. The metadata of the
header says what it is: the chain, the base, and the tensors that it stands for. `zstd` packs those bytes as they are.

Not here: the way through (fedn.models.codecs.encode) and back (fedn.models.codecs.payload).
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass

from fedn.models.codecs.base import FLOATING, Bytes, Codec, Difference, Numbers, Part, Selection
from fedn.models.description import describe
from fedn.models.wire import DTYPES, DType, ModelSpec, TensorInfo, layout
from fedn.protocol.errors import InvalidInput

CHAIN_KEY = "fedn.chain"
"""Key of the header's metadata: the chain, as `Chain.text`."""
BASE_KEY = "fedn.base"
"""Digest of the model that was encoded, or that an update is of."""
TENSORS_KEY = "fedn.tensors"
"""The model's tensors, as `fedn.models.description` writes them."""


@dataclass(frozen=True)
class CodedTensor:
    """How one floating-point tensor is stored."""

    tensor: TensorInfo
    """Of the base model."""
    kept: int | None
    """Values that are stored, where some were selected."""
    dtype: DType
    """Of the stored values."""
    selection_parts: tuple[tuple[str, Part], ...]
    numbers_parts: tuple[tuple[str, Part], ...]
    """(name in the payload, part) of what the two codecs store beside them."""
    casts: bool
    """Whether the stored values are other than float32 of the tensor's own."""

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return self.tensor.shape if self.kept is None else (self.kept,)


class Chain:
    """Codecs in the order in which a sender applies them.

    Raises:
        InvalidInput: (`bad_chain`) the order is not that of the stages, or a stage comes twice.
    """

    def __init__(self, codecs: Sequence[Codec]) -> None:
        self.codecs = tuple(codecs)
        if faults := order_faults(self.codecs):
            raise InvalidInput("bad_chain", f"The codecs make no chain: {'; '.join(faults)}", fix=ORDER)
        self.difference = next((codec for codec in self.codecs if isinstance(codec, Difference)), None)
        self.selection = next((codec for codec in self.codecs if isinstance(codec, Selection)), None)
        self.numbers = next((codec for codec in self.codecs if isinstance(codec, Numbers)), None)
        self.bytes = next((codec for codec in self.codecs if isinstance(codec, Bytes)), None)

    @property
    def text(self) -> str:
        """The chain as canonical JSON, with all options: what two sides compare."""
        choices = [{"name": codec.name, "options": codec.options} for codec in self.codecs]
        return json.dumps(choices, sort_keys=True, separators=(",", ":"))

    @property
    def error_feedback(self) -> bool:
        return any(codec.error_feedback for codec in self.codecs)

    @property
    def lossless(self) -> bool:
        """Whether the numbers come back as they were; a difference alone changes no more than its own rounding."""
        return self.selection is None and self.numbers is None

    def of(self, base: ModelSpec, base_id: str) -> "Encoding":
        """What models, or updates, of this base become.

        Args:
            base_id: digest of the model that is encoded, or that the updates are of.
        """
        return Encoding(self, base, base_id)


class Encoding:
    """How models like `base` are stored by a chain: worked out once, for any number of them."""

    def __init__(self, chain: Chain, base: ModelSpec, base_id: str) -> None:
        self.chain = chain
        self.base = base
        self.base_id = base_id
        self.coded = {one.tensor.name: one for one in _coded(chain, base)}
        """The tensors that are stored otherwise, by name, in the header's order."""
        self.header, self.spec = self._layout()
        """Header (with its length field) and spec of the payload."""

    @property
    def max_bytes(self) -> int:
        """Size of the largest payload in the usual layout."""
        size_bytes = self.spec.size_bytes
        return self.chain.bytes.max_bytes(size_bytes) if self.chain.bytes is not None else size_bytes

    @property
    def feedback_size(self) -> int:
        """Number of values that error feedback keeps; 0 where the chain has none."""
        return sum(one.tensor.size for one in self.coded.values()) if self.chain.error_feedback else 0

    def _layout(self) -> tuple[bytes, ModelSpec]:
        base = self.base
        entries: list[tuple[str, DType, tuple[int, ...]]] = []
        for tensor in base.tensors:
            one = self.coded.get(tensor.name)
            if one is None:
                entries.append((tensor.name, tensor.dtype, tensor.shape))
                continue
            entries.append((tensor.name, one.dtype, one.stored_shape))
            entries += [(name, part.dtype, part.shape) for name, part in (*one.selection_parts, *one.numbers_parts)]
        own = {CHAIN_KEY: self.chain.text, BASE_KEY: self.base_id, TENSORS_KEY: describe(base.tensors)}
        return layout(entries, {**base.metadata, **own})


def _coded(chain: Chain, base: ModelSpec) -> list[CodedTensor]:
    found = []
    taken = set(base.names)
    for tensor in base.tensors:
        if tensor.dtype not in FLOATING:
            continue
        kept = chain.selection.kept(tensor.size) if chain.selection is not None else None
        stored = chain.numbers.stored_dtype(tensor.dtype) if chain.numbers is not None else None
        if kept is None and stored is None:
            continue
        selection_parts = chain.selection.parts(tensor.size) if chain.selection is not None and kept else ()
        numbers_parts = chain.numbers.parts() if chain.numbers is not None and stored is not None else ()
        parts = (*selection_parts, *numbers_parts)
        mark = _mark(tensor.name, [part.suffix for part in parts], taken)
        taken.update(f"{tensor.name}{mark}{part.suffix}" for part in parts)
        found.append(
            CodedTensor(
                tensor=tensor,
                kept=kept,
                dtype=stored if stored is not None else DTYPES["F32"],
                selection_parts=tuple((f"{tensor.name}{mark}{part.suffix}", part) for part in selection_parts),
                numbers_parts=tuple((f"{tensor.name}{mark}{part.suffix}", part) for part in numbers_parts),
                casts=stored is not None,
            )
        )
    return found


ORDER = "A chain is: delta, topk, one of float16, bfloat16 and int8, zstd; each may be left out."


def order_faults(codecs: Sequence[Codec]) -> list[str]:
    """What is wrong with the order of codecs, one sentence a fault."""
    faults = []
    for before, after in itertools.pairwise(codecs):
        if before.stage == after.stage:
            faults.append(f"{before.name} and {after.name} do the same kind of thing: one of them is enough")
        elif before.stage > after.stage:
            faults.append(f"{after.name} cannot come after {before.name}")
    return faults


def _mark(name: str, suffixes: Sequence[str], taken: set[str]) -> str:
    """`#`, or as many of them as it takes for the parts' names to be free."""
    mark = "#"
    while any(f"{name}{mark}{suffix}" in taken for suffix in suffixes):
        mark += "#"
    return mark
