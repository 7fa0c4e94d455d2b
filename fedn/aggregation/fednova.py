"""FedNova: updates of clients that made different numbers of steps count as if they had made the same."""

from collections.abc import Sequence
from typing import Any, Self

from pydantic import Field

from fedn.aggregation.accumulator import Accumulator
from fedn.aggregation.fedavg import Linear
from fedn.models.codecs.payload import Payload
from fedn.models.digest import Buffer
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec
from fedn.plan.option_values import OptionValues, read_values
from fedn.protocol.tasks import UpdateMetadata


class FedNova(Linear):
    """FedNova (Wang et al. 2020): x + τ·Σ pₖ·(xₖ − x)/aₖ, with pₖ = sₖ / Σ sⱼ and τ = Σ pₖ·aₖ.

    aₖ is the client's `num_steps` τₖ, or with momentum ρ at the clients (τₖ − ρ·(1 − ρ^τₖ)/(1 − ρ)) / (1 − ρ): the norm
    of the vector with which it adds up its gradients. The result is the same however clients are spread over
    combiners. Integer and bool tensors are the weighted mean.
    """

    name = "fednova"
    required = frozenset({"num_steps"})
    needs_base = True
    hands_up = None  # the clients' τ of one sum do not go with another's base
    weighted_only = True

    class Options(OptionValues):
        momentum: float = Field(default=0.0, ge=0, lt=1)
        """Momentum factor of the clients' SGD, ρ."""

    def __init__(self, **options: Any) -> None:
        self._momentum = read_values("rule", self.name, self.Options, options).momentum

    def _norm(self, metadata: UpdateMetadata) -> float:
        """aₖ, the 1-norm of the client's accumulation vector."""
        steps, rho = metadata.num_steps, self._momentum
        return (steps - rho * (1 - rho**steps) / (1 - rho)) / (1 - rho) if rho else float(steps)

    def share_of(self, metadata: UpdateMetadata) -> float:
        return 1.0 / self._norm(metadata)

    def part_shares(self, parts: Sequence[Sequence[tuple[float, UpdateMetadata]]]) -> Sequence[float]:
        """A combiner model has the τ of its own clients: that of all clients takes its place."""
        sums = [
            (sum(weight * self._norm(metadata) for weight, metadata in part), sum(weight for weight, _ in part))
            for part in parts
        ]
        total = sum(steps for steps, _ in sums) / sum(weight for _, weight in sums)
        return [total * weight / steps for steps, weight in sums]

    def start(
        self, base: ModelSpec, sum_dtype: str = "float64", base_model: Buffer | Pieces | None = None
    ) -> Accumulator:
        return _NormalizedSum(base, sum_dtype, base_model)


class _NormalizedSum(Accumulator):
    """The mean of normalized differences, stretched by the mean of what they were normalized by."""

    def __init__(self, base: ModelSpec, sum_dtype: str, base_model: Buffer | Pieces | None) -> None:
        super().__init__(base, sum_dtype, base_model)
        self._norms = 0.0
        """Σ sₖ·aₖ."""

    @property
    def stretch(self) -> float:
        return self._norms / self.weight

    def add(
        self, update: Buffer | Pieces, spec: ModelSpec, weight: float, *, form: str = "model", share: float = 1.0
    ) -> None:
        super().add(update, spec, weight, form=form, share=share)
        self._norms += weight / share

    def add_encoded(self, payload: Payload, weight: float, *, form: str = "model", share: float = 1.0) -> None:
        if payload.plain:
            return self.add(payload.data, payload.spec, weight, form=form, share=share)
        super().add_encoded(payload, weight, form=form, share=share)
        self._norms += weight / share
        return None

    def merge(self, other: Self) -> None:
        super().merge(other)
        self._norms += other._norms
