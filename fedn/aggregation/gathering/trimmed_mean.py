"""The mean of each element without its extreme values."""

from typing import Any

from pydantic import Field

from fedn.aggregation.gathering.base import GatheringOptions, Matrix, Vector
from fedn.aggregation.gathering.coordinates import Coordinatewise
from fedn.plan.option_values import read_values


class TrimmedMean(Coordinatewise):
    """The mean of each element without its ⌊β·n⌋ smallest and largest values (Yin et al. 2018).

    Each update counts the same. Robust while no more than ⌊β·n⌋ of the n updates are faulty.
    """

    name = "trimmed_mean"

    class Options(GatheringOptions):
        trim: float = Field(gt=0, lt=0.5)
        """Part of the updates that is left out at each end of every element, β."""

    def __init__(self, **options: Any) -> None:
        self._options = read_values("rule", self.name, self.Options, options)
        self.scope = self._options.scope

    def combine(self, ordered: Matrix) -> Vector:
        count = len(ordered)
        cut = int(self._options.trim * count + 1e-9)
        mean: Vector = ordered[cut : count - cut].mean(axis=0)
        return mean
