"""SCAFFOLD: clients correct each step of their training for how their data differ from everybody's."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from pydantic import Field

from fedn.aggregation.accumulator import Accumulator, Entry
from fedn.aggregation.extra import Extra
from fedn.aggregation.fedavg import Linear
from fedn.aggregation.numerics import is_floating, mean_dtype
from fedn.aggregation.optimizers.base import STATISTICS
from fedn.models.codecs.base import Flat
from fedn.models.digest import Buffer
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec
from fedn.plan.option_values import OptionValues, read_values


class ControlVariate:
    """c, about the gradient over all clients' data: c ← c + |S|/N · mean of Δcᵢ (Karimireddy et al. 2020, Algorithm 1).

    Args:
        exclude: patterns of names of tensors that have none.
    """

    name = "control_variate"

    def __init__(self, exclude: Sequence[str]) -> None:
        self._exclude = exclude

    def entries(self, base: ModelSpec) -> list[Entry]:
        return [
            (tensor.name, mean_dtype(tensor.dtype), tensor.shape)
            for tensor in base.tensors
            if is_floating(tensor.dtype) and not any(fnmatchcase(tensor.name, like) for like in self._exclude)
        ]

    def advance(self, state: Flat, mean: Flat, share: float) -> None:
        mean *= share
        state += mean


class Scaffold(Linear):
    """SCAFFOLD (Karimireddy et al. 2020): the weighted mean of updates whose steps were corrected by c − cᵢ.

    The server's control variate c goes down with the model, and each client returns, apart from its update, by how much
    it changed its own, Δcᵢ. The result is the same however clients are spread over combiners. With the scaling factor
    NumParticipants, and the server optimizer sgd without momentum for the paper's global step size, it is Algorithm 1.
    """

    name = "scaffold"
    hands_up = None
    """Its extra state is of one base model."""

    class Options(OptionValues):
        exclude: list[str] = Field(default=list(STATISTICS))
        """Tensors that no gradient belongs to, and so no control variate, by name; `*` stands for anything."""

    def __init__(self, **options: Any) -> None:
        given = read_values("rule", self.name, self.Options, options)
        self.extras: Sequence[Extra] = (ControlVariate(given.exclude),)

    def start(
        self, base: ModelSpec, sum_dtype: str = "float64", base_model: Buffer | Pieces | None = None
    ) -> Accumulator:
        """The empty sum; see `fedn.aggregation.base.Rule.start`."""
        return Accumulator(base, sum_dtype, base_model)
