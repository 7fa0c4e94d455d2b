"""What a codec is: a step of a chain, its place in it, and what can still be known of an update behind it.

A chain has at most one codec of each stage, in their order. Floating-point tensors alone are coded; integers and bools
pass as they are. Values between the steps are float32, read in pieces of at most PIECE elements.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import IntEnum, StrEnum
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np

from fedn.models.digest import Buffer
from fedn.models.wire import DTYPES, DType
from fedn.protocol.errors import InvalidInput, UpdateRefused

Flat = np.ndarray[tuple[int], np.dtype[Any]]

PIECE = 65_536
"""Elements that are read at once at the most: in float32 they take a quarter of a 1 MiB cache."""

FLOATING = frozenset({DTYPES["F16"], DTYPES["BF16"], DTYPES["F32"], DTYPES["F64"]})
"""The dtypes that codecs work on."""


class Stage(IntEnum):
    """Where in a chain a codec stands, from the tensors outwards."""

    DIFFERENCE = 0
    """Instead of a model, its difference to the base model."""
    SELECTION = 1
    """Some of the values."""
    NUMBERS = 2
    """Each value in fewer bits."""
    BYTES = 3
    """The finished bytes, smaller."""


class Inverse(StrEnum):
    """How a step is undone."""

    NONE = "none"
    """Not at all (clipping, noise)."""
    PER_UPDATE = "per_update"
    """For each update, before it is added."""
    ON_SUM = "on_sum"
    """Once, on the sum of all updates: it is linear, or it hides single updates (masks, encryption)."""


class Check(StrEnum):
    """What a server may want to look at in a single update."""

    FINITE = "finite"
    NORM = "norm"
    VALUES = "values"
    """Each value, as rules do that compare updates (median, Krum …)."""


class Part(NamedTuple):
    """One array that a codec stores beside the values. `suffix` tells it from the others of its tensor."""

    suffix: str
    dtype: DType
    shape: tuple[int, ...]


class Stored(Protocol):
    """Stored elements, flat, of which up to PIECE can be had at once: an array, or what stands for one."""

    def __len__(self) -> int: ...

    def __getitem__(self, where: slice, /) -> Flat: ...


class Source(Protocol):
    """The values of one tensor, flat, which may have to be worked out."""

    def read(self, start: int, stop: int, out: Flat) -> None:
        """Writes elements [start, stop), PIECE at the most, to `out`, which is float32 and of that size."""


@runtime_checkable
class SparseSource(Source, Protocol):
    """Values of which most are 0."""

    def nonzero(self, start: int, stop: int) -> tuple[Flat, Flat]:
        """(positions from `start` on, their values in float32) of the elements [start, stop) that may not be 0.

        Positions ascend and come once.
        """


class Codec(ABC):
    """A step of a chain, made from the options of the plan; equal options make equal codecs."""

    def __init__(self, **options: Any) -> None:
        """Raises InvalidInput (`unknown_option`, `bad_codec_option`)."""
        refuse_options(self.name, options)

    name: ClassVar[str]
    stage: ClassVar[Stage]
    inverse: ClassVar[Inverse] = Inverse.PER_UPDATE
    hides: ClassVar[frozenset[Check]] = frozenset()
    """What a server cannot look at while the step is not undone."""
    lossless: ClassVar[bool] = False

    @property
    def options(self) -> dict[str, Any]:
        """All options, with their defaults: with the name, what two sides must agree on."""
        return {}

    @property
    def error_feedback(self) -> bool:
        """Whether what this step leaves out is added to the sender's next update (Seide et al. 2014).

        A codec that can do so has the option `error_feedback`, which turns it off.
        """
        return False


class Difference(Codec):
    """Stage DIFFERENCE. The chain does the arithmetic: a difference is the only one there is."""

    stage = Stage.DIFFERENCE


class Selection(Codec):
    """Stage SELECTION."""

    stage = Stage.SELECTION

    @abstractmethod
    def kept(self, size: int) -> int | None:
        """How many of `size` values are kept; None where a tensor of that size is left whole."""

    @abstractmethod
    def parts(self, size: int) -> tuple[Part, ...]:
        """What is stored beside the kept values of a tensor of that size."""

    @abstractmethod
    def select(self, values: Source, size: int, parts: Mapping[str, Flat]) -> Flat:
        """The kept values, (kept,) float32, in the order of their places, which are written to `parts`."""

    @abstractmethod
    def check(self, size: int, parts: Mapping[str, Flat]) -> None:
        """Raises UpdateRefused (`bad_encoding`) where `source` could not be believed."""

    @abstractmethod
    def source(self, size: int, parts: Mapping[str, Flat], kept: Source) -> SparseSource:
        """The values of the whole tensor; `parts` passed `check`."""


class Numbers(Codec):
    """Stage NUMBERS: element by element, so that any range of them can be read."""

    stage = Stage.NUMBERS
    plain: ClassVar[bool] = False
    """Whether what is stored is the values themselves, in a narrower floating-point dtype."""

    @abstractmethod
    def stored_dtype(self, dtype: DType) -> DType | None:
        """What values of a tensor of that dtype are stored in; None where it is left as it is."""

    @abstractmethod
    def parts(self) -> tuple[Part, ...]:
        """What is stored beside the values of a tensor."""

    @abstractmethod
    def encode(self, values: Source, out: Flat, parts: Mapping[str, Flat]) -> None:
        """Writes the values to `out` (of `stored_dtype`) and `parts`.

        Raises:
            InvalidInput: (`values_out_of_range`) they are not finite, or too large to be stored.
        """

    @abstractmethod
    def check(self, stored: Stored, parts: Mapping[str, Flat]) -> None:
        """Raises UpdateRefused (`bad_encoding`) where `source` could give what is not finite or not meant."""

    @abstractmethod
    def source(self, stored: Stored, parts: Mapping[str, Flat]) -> Source:
        """The values again; what is stored passed `check`, and floating-point numbers in it are finite."""


class Bytes(Codec):
    """Stage BYTES."""

    stage = Stage.BYTES
    lossless = True

    @abstractmethod
    def max_bytes(self, size_bytes: int) -> int:
        """What `size_bytes` bytes can become at the most."""

    @abstractmethod
    def compress(self, data: Buffer) -> bytes:
        """The smaller bytes; equal for equal data."""

    @abstractmethod
    def unpacked_bytes(self, data: Buffer) -> int:
        """Size of what `data` unpacks to, as it says itself. UpdateRefused (`bad_encoding`) where it is damaged."""

    @abstractmethod
    def decompress(self, data: Buffer, out: memoryview) -> None:
        """Unpacks into `out`, which has `unpacked_bytes`.

        Raises:
            UpdateRefused: (`bad_encoding`) the data is damaged, is of another size than it says, or more follows it.
        """


class StoredSource:
    """Values that are stored as they are, in any floating-point dtype."""

    def __init__(self, values: Stored) -> None:
        self._values = values

    def read(self, start: int, stop: int, out: Flat) -> None:
        np.copyto(out, self._values[start:stop], casting="unsafe")


def pieces(size: int) -> Sequence[tuple[int, int]]:
    """The ranges of at most PIECE elements that make up `size` of them."""
    return [(start, min(start + PIECE, size)) for start in range(0, size, PIECE)]


def refuse_options(codec: str, options: Mapping[str, Any], known: tuple[str, ...] = ()) -> None:
    """Raises InvalidInput (`unknown_option`) for options that the codec does not know."""
    if unknown := sorted(options.keys() - set(known)):
        raise InvalidInput(
            "unknown_option",
            f"The codec {codec} has no option {', '.join(unknown)}",
            fix=f"It knows: {', '.join(known)}." if known else "It has no options; leave them out.",
            where={"codec": codec},
        )


def bad_option(codec: str, option: str, value: object, fix: str) -> InvalidInput:
    """The error for a value that the option cannot have."""
    return InvalidInput(
        "bad_codec_option",
        f"The option {option} of the codec {codec} cannot be {value!r}",
        fix=fix,
        where={"codec": codec, "option": option},
    )


def flag(codec: str, option: str, value: object) -> bool:
    """The value of an option that is true or false. InvalidInput (`bad_codec_option`) otherwise."""
    if not isinstance(value, bool):
        raise bad_option(codec, option, value, "It is true or false.")
    return value


def bad_encoding(codec: str, fault: str) -> UpdateRefused:
    """The refusal of bytes that the codec cannot have made."""
    return UpdateRefused(
        "bad_encoding",
        f"The bytes are not what the codec {codec} writes: {fault}",
        fix="Encode with fedn, or as docs/reference/wire-protocol.md says.",
        where={"codec": codec},
    )


def out_of_range(codec: str, fault: str, fix: str) -> InvalidInput:
    """The error for values that a codec cannot store."""
    return InvalidInput("values_out_of_range", f"The codec {codec} cannot store {fault}", fix=fix)
