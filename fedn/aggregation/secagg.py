"""SecAgg: FedAvg on updates that servers can add and cannot read.

Ciphertexts of CKKS (Cheon et al. 2017) under one key add up coefficient by coefficient, modulo one prime: that is all
a server does, in NumPy, so there is no library for encryption here that hostile bytes could crash.

Not here: encryption and decryption (fedn.privacy), which only clients can, and the bytes (fedn.models.encrypted).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field

from fedn.aggregation.additive import Additive
from fedn.aggregation.ciphertexts import CiphertextSum
from fedn.aggregation.combine import FromBase, MeanLayout, does_not_fit
from fedn.models.digest import Buffer
from fedn.models.encrypted import (
    MAX_SCALE_BITS,
    MIN_SCALE_BITS,
    RINGS,
    EncryptedLayout,
    Parameters,
    encrypted_layout,
    is_encrypted,
    plain_entries,
    read_encrypted,
)
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec, header_size, read_spec
from fedn.plan.option_values import OptionValues, read_values
from fedn.protocol.errors import InvalidInput, UpdateRefused
from fedn.protocol.tasks import Encryption

_PIECE_BYTES = 1 << 20
_ROOM = (1 - 2.0**-10) / math.sqrt(2)
"""The part of half the modulus that sums of values may fill. Two values in a slot, a + ib, are up to √2 times as large
as one; 2^-10 is for their noise, which is far smaller."""
_ROUNDING = 1 + 1e-9
"""So much more the sum of the largest weights may be than their product, where they are no whole numbers."""


class SecAgg(Additive):
    """FedAvg of updates that the servers cannot read: Σ sₖ·xₖ in CKKS ciphertexts, which clients decrypt and divide.

    It equals FedAvg up to `precision`. The more a sum may hold (clients × weight × value), the less precise it is; the
    plan is refused where both do not fit.
    """

    name = "secagg"
    takes_sparse = False
    hands_up = None
    weighted_only = True
    encrypts = True

    class Options(OptionValues):
        key_id: str = Field(pattern="^sha256:[0-9a-f]{64}$")
        """The key that the data owners share, by the id that `fedn keys create` printed."""
        degree: Literal[2048, 4096, 8192] = 4096
        """Degree of the key's polynomials."""
        max_clients: int = Field(default=100, ge=1, le=1_000_000)
        """Clients in one sum; more are refused."""
        max_weight: float = Field(default=100_000.0, gt=0)
        """Largest weight of an update (its examples, with NumTrainingExamples); heavier ones are refused."""
        min_weight: float = Field(default=1.0, gt=0)
        """Smallest weight of an update; lighter ones are refused."""
        max_value: float = Field(default=16.0, gt=0)
        """Largest value of a model, either sign; a client does not encrypt larger ones."""
        precision: float = Field(default=1e-6, gt=0)
        """Largest error of a value that encryption may cause."""

    def __init__(self, **options: Any) -> None:
        given = read_values("rule", self.name, self.Options, options)
        self._options = given
        self._max_total = given.max_clients * given.max_weight * _ROUNDING
        room = RINGS[given.degree].modulus / 2 * _ROOM / (self._max_total * given.max_value)
        scale_bits = min(MAX_SCALE_BITS, math.floor(math.log2(room)))
        if given.min_weight > given.max_weight:
            raise _unfit("min_weight", "no update weighs more than max_weight and less than min_weight")
        if scale_bits < MIN_SCALE_BITS or self._error(scale_bits) > given.precision:
            raise _unfit(
                "precision",
                f"sums of {given.max_clients} clients of weight {given.max_weight:g} with values up to "
                f"{given.max_value:g} leave an error of {self._error(scale_bits):.1e}",
            )
        self._parameters = Parameters(given.key_id, given.degree, scale_bits)

    def _error(self, scale_bits: int) -> float:
        """The largest error of a mean: that of one update of the smallest weight, since the errors of n updates grow
        with √n and their weight with n."""
        return Parameters("", self._options.degree, scale_bits).noise / self._options.min_weight

    @property
    def max_clients(self) -> int:
        """Of a plan's cohort."""
        return self._options.max_clients

    def encryption(self, scaling_factor: str, scaling_options: Mapping[str, Any]) -> Encryption:
        return Encryption(
            key_id=self._parameters.key_id,
            degree=self._parameters.degree,
            scale_bits=self._parameters.scale_bits,
            max_value=self._options.max_value,
            min_weight=self._options.min_weight,
            max_weight=self._options.max_weight,
            scaling_factor=scaling_factor,
            scaling_options=dict(scaling_options),
        )

    def update_spec(self, base: ModelSpec) -> ModelSpec:
        """Of encrypted updates; the base may be a plain model, or one that is encrypted with the same key."""
        return self._layout(base).spec

    def _layout(self, base: ModelSpec) -> EncryptedLayout:
        if is_encrypted(base) and read_encrypted(base).parameters.key_id != self._parameters.key_id:
            raise InvalidInput(
                "model_of_other_key",
                f"the model is encrypted with the key {read_encrypted(base).parameters.key_id}, the plan names another",
                fix="Name the model's key in the options of the rule, or start from another model.",
                where={"field": "rule.options.key_id"},
            )
        return encrypted_layout(plain_entries(base), self._parameters)

    def model_layout(self, base: ModelSpec) -> MeanLayout:
        found = self._layout(base)
        return MeanLayout(found.header, found.spec, is_global=True)

    def start(
        self, base: ModelSpec, sum_dtype: str = "float64", base_model: Buffer | Pieces | None = None
    ) -> "EncryptedAggregate":
        return EncryptedAggregate(
            read_encrypted(base), self._options.min_weight, self._options.max_weight, self._max_total
        )

    def combine_models(
        self,
        models: Sequence[tuple[Buffer | Pieces, float]],
        base: ModelSpec,
        mean: Literal["weighted", "plain"] = "weighted",
        sum_dtype: str = "float64",
        from_base: FromBase | None = None,
    ) -> Iterator[memoryview]:
        """The sum of combiner models, which are sums: each counts by its weight, as it must."""
        layout = self._layout(base)
        total = CiphertextSum(layout)
        for model, weight in models:
            if weight == 0:
                continue
            pieces = model if isinstance(model, Pieces) else Pieces.of(model)
            spec = read_spec(pieces.copy(0, header_size(pieces.copy(0, 8)) or 0), len(pieces))
            try:
                total.add(pieces, spec, weight)
            except UpdateRefused as error:
                raise does_not_fit("A combiner model", error.message) from error
        if not total.count:
            raise InvalidInput("no_updates", "There is no mean of no updates")
        if total.weight > self._max_total:
            raise _too_heavy(total.weight, self._max_total)
        return total.pieces(_PIECE_BYTES)


class EncryptedAggregate:
    """The sum of encrypted updates; an `fedn.aggregation.base.Aggregate`.

    Args:
        layout: of the updates.
        min_weight, max_weight: of an update.
        max_total: of all together.
    """

    def __init__(self, layout: EncryptedLayout, min_weight: float, max_weight: float, max_total: float) -> None:
        self._sum = CiphertextSum(layout)
        self._min_weight = min_weight
        self._max_weight = max_weight
        self._max_total = max_total

    @property
    def weight(self) -> float:
        return self._sum.weight

    @property
    def count(self) -> int:
        return self._sum.count

    def add(
        self, update: Buffer | Pieces, spec: ModelSpec, weight: float, *, form: str = "model", share: float = 1.0
    ) -> None:
        """Adds an update whose values are multiplied by the weight already; see `Aggregate.add`.

        Raises:
            UpdateRefused: (`weight_out_of_range`, `sum_is_full`) it weighs too little or too much; (`bad_ciphertext`)
                as `CiphertextSum.add`.
        """
        if form != "model":
            raise UpdateRefused(
                "bad_form",
                "an encrypted update is the model itself, not a difference",
                fix="Run the same version of fedn at the client: it makes of a difference a model.",
            )
        if not self._min_weight <= weight <= self._max_weight:
            raise UpdateRefused(
                "weight_out_of_range",
                f"the update weighs {weight:g}, and the plan allows {self._min_weight:g} to {self._max_weight:g}",
                fix="Change min_weight or max_weight in the options of the rule secagg.",
            )
        if self.weight + weight > self._max_total:
            raise UpdateRefused(
                "sum_is_full",
                f"the sum of encrypted updates has the weight {self.weight:g} and may have {self._max_total:g}",
                fix="Raise max_clients in the options of the rule secagg, or lower clients_requested.",
            )
        self._sum.add(update if isinstance(update, Pieces) else Pieces.of(update), spec, weight)

    def add_encoded(self, payload: Any, weight: float, *, form: str = "model", share: float = 1.0) -> None:
        """Never of a plan that was checked."""
        raise UpdateRefused(
            "update_other_chain",
            "an encrypted update went through codecs, which the servers could not undo",
            fix="Leave update_chain out of the plan.",
        )

    def merge(self, other: Self) -> None:
        if self.weight + other.weight > self._max_total:
            raise _too_heavy(self.weight + other.weight, self._max_total)
        self._sum.merge(other._sum)

    def result(self, piece_bytes: int) -> Iterator[memoryview]:
        if not self.count:
            raise InvalidInput("no_updates", "There is no mean of no updates")
        return self._sum.pieces(piece_bytes)


def _unfit(field: str, message: str) -> InvalidInput:
    return InvalidInput(
        "bad_option",
        f"The rule secagg cannot be used like this: {message}",
        fix="Lower max_clients, max_weight or max_value, raise min_weight, allow a larger error as precision, or use a "
        "key of a larger degree than 2048.",
        where={"field": f"rule.options.{field}"},
    )


def _too_heavy(weight: float, allowed: float) -> InvalidInput:
    return InvalidInput(
        "sum_overflow",
        f"The encrypted updates weigh {weight:g} together, and their sum may overflow above {allowed:g}",
        fix="Set clients_requested to max_clients of the rule secagg at the most, or raise max_clients.",
    )
