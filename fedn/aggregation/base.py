"""What an aggregation rule is, and how one is found by its name.

Not here: any rule; each has its own module and its entry point in the group `fedn.rules`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, Self, cast

from fedn.models.codecs.base import Check
from fedn.models.codecs.payload import Payload
from fedn.models.digest import Buffer
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec
from fedn.plan.options import load_option
from fedn.protocol.errors import InvalidInput


class Aggregate(Protocol):
    """A growing aggregate of updates.

    The law: up to rounding, the order of `add` and `merge` is invisible; a fresh aggregate changes nothing when it is
    merged; the weight of a merged aggregate is the sum of the weights. An aggregate is used by one thread at a time.
    """

    @property
    def weight(self) -> float:
        """Sum of the weights that were added."""

    @property
    def count(self) -> int:
        """Number of updates that were added."""

    def add(self, update: Buffer | Pieces, spec: ModelSpec, weight: float, *, form: str = "model") -> None:
        """Takes in one update. `update` is read during the call only.

        Args:
            update: the safetensors bytes, in one piece or in several.
            spec: what `read_spec` says of them; names, shapes and dtypes of the base model, in any layout, but for the
                widths of floating-point tensors, which are free.
            weight: finite, > 0.
            form: "model", or "delta" where the floating-point tensors are differences to the base model; integer and
                bool tensors of a delta are the new values themselves, since their dtypes cannot hold a difference.

        Raises:
            UpdateRefused: (`update_does_not_fit`) names, shapes or dtypes are not those of the base; nothing is added.
            InvalidInput: (`bad_weight`, `base_is_missing`) nothing is added.
        """

    def add_encoded(self, payload: Payload, weight: float, *, form: str = "model") -> None:
        """Takes in one update that went through a chain of codecs, without a whole copy of it where the rule can.

        Args:
            payload: checked; read during the call only.
            weight, form: as for `add`.

        Raises:
            UpdateRefused: (`update_does_not_fit`) it stands for another base model; nothing is added.
            InvalidInput: as `add`.
        """

    def merge(self, other: Self) -> None:
        """Takes in all that `other` took in. `other` stays as it is.

        Raises:
            InvalidInput: (`aggregates_do_not_fit`) it was started for another base model or sum dtype.
        """

    def result(self, piece_bytes: int) -> Iterator[memoryview]:
        """The combiner model: canonical safetensors bytes with the mean of each tensor, in `mean_dtype` of its dtype.

        It comes in pieces, so that nobody needs room for all of it. The aggregate stays as it is, and can grow further
        when the last piece was taken.

        Args:
            piece_bytes: of each piece but the last; a multiple of 64. A piece is valid until the next is asked for.

        Raises:
            InvalidInput: (`no_updates`) nothing was added; (`sum_overflow`) the mean is not finite.
        """


class Rule(Protocol):
    """How updates become a combiner model. Made from the options of the plan; unknown ones raise InvalidInput."""

    name: str
    decomposable: bool
    """Whether the weighted mean of combiner models is what the rule gives for all updates at once."""
    needs: frozenset[Check]
    """What it looks at in single updates, so that no codec of a plan may hide it."""
    required: frozenset[str]
    """Fields of an update's metadata that must be above 0."""

    def __init__(self, **options: Any) -> None: ...

    def start(
        self, base: ModelSpec, sum_dtype: str = "float64", base_model: Buffer | Pieces | None = None
    ) -> Aggregate:
        """The empty aggregate for updates of one base model.

        Args:
            base: the base model's spec.
            sum_dtype: "float64" or "float32": of the sums of floating-point tensors up to 32 bits; wider ones,
                integers and bools are always summed in float64.
            base_model: the base model's bytes, which `result` reads if updates of the form "delta" were added.
        """


def get_rule(name: str, options: Mapping[str, Any]) -> Rule:
    """The rule of this name, with its options.

    Raises:
        InvalidInput: (`unknown_option`) there is no such rule, or the rule does not know an option.
    """
    rule = cast(type[Rule], load_option("fedn.rules", name))
    return rule(**options)


def refuse_options(rule: str, options: Mapping[str, Any], known: tuple[str, ...] = ()) -> None:
    """Raises InvalidInput (`unknown_option`) for options that `rule` does not know."""
    if unknown := sorted(options.keys() - set(known)):
        raise InvalidInput(
            "unknown_option",
            f"The rule {rule} has no option {', '.join(unknown)}",
            fix=f"It knows: {', '.join(known)}." if known else "It has no options; leave them out.",
            where={"rule": rule},
        )
