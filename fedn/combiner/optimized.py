"""A combiner's optimizer in a round: the mean, stepped from the base model, with the optimizer's state behind it.

Not here: where the state lasts (the reducer keeps it with the models, and hands it to whoever has the combiner's name).
"""

from collections.abc import Sequence

from fedn.aggregation.optimizers.at_combiner import stepped
from fedn.aggregation.optimizers.base import get_optimizer
from fedn.aggregation.optimizers.state import ServerState
from fedn.aggregation.optimizers.step import OptimizerStep
from fedn.combiner.objects import StoredObject, cut, evenly
from fedn.combiner.totals import Arrived, Total
from fedn.models.digest import algorithm_of
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec
from fedn.protocol.rounds import RoundSpec
from fedn.stores.updates.base import KeptUpdate


class OptimizedTotal:
    """See the module.

    Args:
        total: of models, not of differences.
        round_spec: names the optimizer.
        base: the round's base model, and `spec` what it is like.
    """

    def __init__(self, total: Total, round_spec: RoundSpec, base: StoredObject, spec: ModelSpec) -> None:
        self._total = total
        self._optimizer = get_optimizer(round_spec.combiner_optimizer, round_spec.combiner_optimizer_options)
        self._sum_dtype = round_spec.sum_dtype
        self._base = base
        self._spec = spec
        self.state: StoredObject | None = None
        """The optimizer's, to be set before `seal`; None where it has made no step here yet."""
        self.new_state: StoredObject | None = None
        """After the step, once `seal` made it; None for an optimizer without state."""
        self.inline_bytes = total.inline_bytes

    def add(self, arrived: Arrived, weight: float) -> None:
        self._total.add(arrived, weight)

    def let_base_go(self) -> bool:
        return False

    def seal(self) -> tuple[StoredObject | None, float]:
        mean, weight = self._total.seal()
        if mean is None:
            return None, weight
        state = ServerState.read(self.state.bytes_in_pieces().copy()) if self.state is not None else None
        step = OptimizerStep(self._optimizer, self._spec, self._sum_dtype, state)
        pieces = stepped(mean.bytes_in_pieces(), self._spec, self._base.bytes_in_pieces(), step, self._sum_dtype)
        views = [memoryview(bytes(piece)) for piece in pieces]
        algorithm = algorithm_of(mean.object_id)
        after = step.state()
        if after is not None:
            data = memoryview(after.data)
            self.new_state = cut(mean.kind, evenly(Pieces([data])), algorithm)
            views.append(data)
        return cut(mean.kind, evenly(Pieces(views)), algorithm), weight

    @property
    def counted(self) -> Sequence[KeptUpdate]:
        return self._total.counted

    def close(self) -> None:
        self._total.close()
