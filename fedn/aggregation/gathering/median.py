"""The median of each element."""

from typing import Any

from fedn.aggregation.gathering.base import GatheringOptions, Matrix, Vector
from fedn.aggregation.gathering.coordinates import Coordinatewise
from fedn.plan.option_values import read_values


class Median(Coordinatewise):
    """The median of each element over the updates, each counting the same (Yin et al. 2018).

    Of an even number of updates, it is the mean of the two in the middle. Robust while fewer than half are faulty.
    """

    name = "median"

    class Options(GatheringOptions):
        pass

    def __init__(self, **options: Any) -> None:
        self.scope = read_values("rule", self.name, self.Options, options).scope

    def combine(self, ordered: Matrix) -> Vector:
        count = len(ordered)
        middle: Vector = ordered[(count - 1) // 2] * 0.5 + ordered[count // 2] * 0.5
        return middle
