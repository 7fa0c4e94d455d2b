"""What an aggregation rule is, and how one is found by its name.

Not here: any rule; each has its own module and its entry point in the group `fedn.rules`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, Self, cast

from fedn.aggregation.combine import FromBase, MeanLayout
from fedn.aggregation.extra import Extra
from fedn.models.codecs.base import Check
from fedn.models.codecs.payload import Payload
from fedn.models.digest import Buffer
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec
from fedn.plan.options import load_option
from fedn.protocol.rounds import HandsUp
from fedn.protocol.tasks import Encryption, UpdateMetadata


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

    def add(
        self, update: Buffer | Pieces, spec: ModelSpec, weight: float, *, form: str = "model", share: float = 1.0
    ) -> None:
        """Takes in one update. `update` is read during the call only.

        Args:
            update: the safetensors bytes, in one piece or in several.
            spec: what `read_spec` says of them; names, shapes and dtypes of the base model, in any layout, but for the
                widths of floating-point tensors, which are free.
            weight: finite, > 0.
            form: "model", or "delta" where the floating-point tensors are differences to the base model; integer and
                bool tensors of a delta are the new values themselves, since their dtypes cannot hold a difference.
            share: what the rule's `share_of` says of the update.

        Raises:
            UpdateRefused: (`update_does_not_fit`) names, shapes or dtypes are not those of the base; nothing is added.
            InvalidInput: (`bad_weight`, `base_is_missing`) nothing is added.
        """

    def add_encoded(self, payload: Payload, weight: float, *, form: str = "model", share: float = 1.0) -> None:
        """Takes in one update that went through a chain of codecs, without a whole copy of it where the rule can.

        Args:
            payload: checked; read during the call only.
            weight, form, share: as for `add`.

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


class SummedAggregate(Aggregate, Protocol):
    """One whose mean can be told as a difference to the base model, too."""

    def difference(self, piece_bytes: int) -> Iterator[memoryview]:
        """As `result`, with the mean minus the base model in the floating-point tensors; the others are the mean.

        It needs the base model's bytes, but for updates of the form "delta" alone.
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
    needs_base: bool
    """Whether its aggregates need the base model's bytes for every update, not only for those of the form "delta"."""
    gathers: bool
    """Whether it looks at all updates at once: then it is a `fedn.aggregation.gathering.base.GatheringRule`."""
    lineage: int
    """How many of each client's latest updates it goes by, of this round and earlier ones. 0: it goes by this round's
    alone; else it is a `fedn.aggregation.lineage.LineageRule`."""
    takes_sparse: bool
    """Whether updates may leave most values out (top-k), which then count as unchanged."""
    extras: Sequence[Extra]
    """What it carries beside the model; empty for most."""
    is_numeric: bool
    """Whether models and updates are numbers to calculate with: to round, subtract, or step along."""
    hands_up: HandsUp | None
    """What combiners hand up while clients work on, so that updates from several base models meet in one commit (the
    scheduler asynchronous): with `DIFFERENCE` its aggregates are of `SummedAggregate`; with `MEAN` it is a
    `fedn.aggregation.lineage.LineageRule`. None: updates of different base models do not go together."""
    weighted_only: bool
    """Whether combiner models must not count the same, whatever they stand for (`reducer_mean: plain`)."""
    encrypts: bool
    """Whether servers add updates that they cannot read: then nothing of a plan may look at them."""

    def __init__(self, **options: Any) -> None: ...

    def share_of(self, metadata: UpdateMetadata) -> float:
        """What the difference of an update's floating-point tensors to the base model is multiplied by; finite, > 0."""

    def part_shares(self, parts: Sequence[Sequence[tuple[float, UpdateMetadata]]]) -> Sequence[float] | None:
        """For each combiner model, what its difference to the base model is multiplied by in the global mean.

        None where it is 1 for all.

        Args:
            parts: (weight, metadata) of the updates of each combiner model.
        """

    def encryption(self, scaling_factor: str, scaling_options: Mapping[str, Any]) -> Encryption | None:
        """How clients encrypt their updates, which weigh what the scaling factor says; None: not at all."""

    def update_spec(self, base: ModelSpec) -> ModelSpec:
        """What updates of a round that starts from such a model must be like: names, shapes, dtypes, metadata.

        Raises:
            InvalidInput: (`model_is_encrypted`, `model_of_other_key`, …) the rule cannot start from such a model.
        """

    def model_layout(self, base: ModelSpec) -> MeanLayout:
        """What the combiner models of such a round are like. InvalidInput as `update_spec`."""

    def combine_models(
        self,
        models: Sequence[tuple[Buffer | Pieces, float]],
        base: ModelSpec,
        mean: Literal["weighted", "plain"] = "weighted",
        sum_dtype: str = "float64",
        from_base: FromBase | None = None,
    ) -> Iterator[memoryview]:
        """The global model of combiner models; see `fedn.aggregation.combine.combine_pieces`."""

    def start(
        self, base: ModelSpec, sum_dtype: str = "float64", base_model: Buffer | Pieces | None = None
    ) -> Aggregate:
        """The empty aggregate for updates of one base model.

        Args:
            base: what `update_spec` says.
            sum_dtype: "float64" or "float32": of the sums of floating-point tensors up to 32 bits; wider ones,
                integers and bools are always summed in float64.
            base_model: the base model's bytes, for rules that need them and for updates of the form "delta".
        """


def get_rule(name: str, options: Mapping[str, Any]) -> Rule:
    """The rule of this name, with its options.

    Raises:
        InvalidInput: (`unknown_option`) there is no such rule, or the rule does not know an option.
    """
    rule = cast(type[Rule], load_option("fedn.rules", name))
    return rule(**options)
