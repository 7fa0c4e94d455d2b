"""FedAvg: the weighted mean of the updates (McMahan et al. 2017, Algorithm 1)."""

from typing import Any

from fedn.aggregation.accumulator import Accumulator
from fedn.aggregation.additive import Additive
from fedn.aggregation.plain import PlainModels
from fedn.models.digest import Buffer
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec
from fedn.plan.option_values import NoValues, read_values
from fedn.protocol.rounds import HandsUp


class Linear(Additive, PlainModels):
    """What rules have in common that add up models which servers can read."""

    takes_sparse = True
    hands_up: HandsUp | None = HandsUp.DIFFERENCE
    weighted_only = False


class FedAvg(Linear):
    """The mean of the updates, weighted by the scaling factor: Σ sₖ·xₖ / Σ sₖ (McMahan et al. 2017).

    The law, up to rounding: taking updates in commutes and associates; no update at all is neutral; the weight of a
    sum is the sum of the weights. So the weighted mean of combiner models equals the mean over all their clients.
    """

    name = "fedavg"
    Options = NoValues

    def __init__(self, **options: Any) -> None:
        read_values("rule", self.name, NoValues, options)

    def start(
        self, base: ModelSpec, sum_dtype: str = "float64", base_model: Buffer | Pieces | None = None
    ) -> Accumulator:
        """The empty sum; see `fedn.aggregation.base.Rule.start`."""
        return Accumulator(base, sum_dtype, base_model)
