"""One step of a server optimizer over a whole model, piece by piece, and the state that comes of it."""

from fnmatch import fnmatchcase

import numpy as np

from fedn.aggregation.numerics import is_floating, mean_dtype
from fedn.aggregation.optimizers.base import ServerOptimizer
from fedn.aggregation.optimizers.state import NewState, ServerState
from fedn.models.codecs.base import Flat
from fedn.models.wire import DType, ModelSpec
from fedn.protocol.errors import InvalidInput


class OptimizerStep:
    """See the module. For one thread; each element of each tensor that it covers is to be stepped once.

    Args:
        base: the global model that the step is from.
        sum_dtype: "float64" or "float32": of the state of tensors up to 32 bits.
        state: after the step before, if there was one. A state of another optimizer or model does not count.
    """

    def __init__(
        self, optimizer: ServerOptimizer, base: ModelSpec, sum_dtype: str = "float64", state: ServerState | None = None
    ) -> None:
        self._optimizer = optimizer
        self._first = optimizer.slots
        self._covered: dict[str, DType] = {
            tensor.name: np.dtype(sum_dtype) if mean_dtype(tensor.dtype) == np.float32 else np.dtype(np.float64)
            for tensor in base.tensors
            if is_floating(tensor.dtype) and not any(fnmatchcase(tensor.name, like) for like in optimizer.exclude)
        }
        shapes = {tensor.name: tensor.shape for tensor in base.tensors}
        tensors = [(name, dtype, shapes[name]) for name, dtype in self._covered.items()]
        self._new = NewState(optimizer.name, self._first, tensors, 1)
        self._old = state if state is not None and state.fits(self._new) else None
        if self._old is not None:
            self._new = NewState(optimizer.name, self._first, tensors, self._old.steps + 1)

    def covers(self, tensor: str) -> bool:
        return tensor in self._covered

    def apply(self, tensor: str, first: int, weights: Flat, mean: Flat) -> None:
        """Makes the new weights of elements that lie together.

        Args:
            first: index of the first element in its tensor.
            weights: (n,) those of the base model, in the dtype of its slots; become the new ones.
            mean: (n,) of the updates, in the same dtype; overwritten.

        Raises:
            InvalidInput: (`optimizer_diverged`) a new weight is not finite.
        """
        size = len(weights)
        slots = [self._new.slot(slot, tensor, first, size) for slot in self._first]
        for (slot, value), room in zip(self._first.items(), slots, strict=True):
            room[:] = value if self._old is None else self._old.slot(slot, tensor, first, size)
        np.subtract(mean, weights, out=mean)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            self._optimizer.step(weights, mean, slots)
        if not np.isfinite(weights).all():
            raise self.diverged(tensor)

    def diverged(self, tensor: str) -> InvalidInput:
        """Why no model can come of the step."""
        return InvalidInput(
            "optimizer_diverged",
            f"the server optimizer {self._optimizer.name} made weights that are infinite or not a number",
            fix="Lower its learning_rate, or look for a client whose updates are far too large.",
            where={"tensor": tensor},
        )

    def state(self) -> ServerState | None:
        """After the step, when it is complete; None for an optimizer without state."""
        return self._new.finished() if self._first else None
