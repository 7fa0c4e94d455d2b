"""What a data scientist writes: a `Learner`, and what it is told about its task. Not here: processes and wires."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fedn.client.batches import Batches
from fedn.models.helpers.base import Helper
from fedn.models.helpers.numpy import positional_names
from fedn.models.helpers.registry import get_helper

Weights = Sequence[np.ndarray] | Mapping[str, np.ndarray]
"""A model's tensors: named arrays, or a list of arrays whose names are their positions."""

Metrics = Mapping[str, float]


def _never() -> bool:
    return False


def _nobody(fraction: float, metrics: Metrics) -> None:
    """Takes the progress of a task that nobody watches."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskContext(Mapping[str, Any]):
    """What a learner is told about its task; as a mapping, the hyper-parameters: `context["epochs"]`."""

    session: str
    round: int
    """Index of the round in its session, from 0."""
    client: str
    kind: str
    """init, train, validate or predict."""
    task_id: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Hyper-parameters of the session's plan."""
    step_budget: int | None = None
    """Optimizer steps to make, more or fewer than an epoch (`batches` keeps to it); None: as the learner decides."""
    seed: int = 0
    """31 bits, the same for each repetition of (the plan's seed, client, round), different between them."""
    data_path: Path | None = None
    """Where the site keeps its data, as its owner set it."""
    work_dir: Path = Path()
    """A directory of this client that outlives tasks and restarts, for what must not leave it (optimizer state …)."""
    extra: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict, repr=False)
    """Of a train task: what the plan's rule carries beside the model, sets of tensors by name. Read-only."""
    last_counted: int | None = None
    """Where the rule carries something: index of the session's last round whose model counts this client's update."""
    is_cancelled: Callable[[], bool] = field(default=_never, repr=False)
    """Asks whether the result is not wanted any more. A long `train` that looks now and then may return early."""
    report: Callable[[float, Metrics], None] = field(default=_nobody, repr=False)
    """Tells the federation how far the task is: a fraction 0..1, and metrics so far."""

    def batches(self, num_examples: int, batch_size: int, epochs: int = 1) -> Batches:
        """Shuffled mini-batches of this task: so many epochs, or as many steps as the federation asks for.

        The order follows from `seed`. Afterwards, `metadata()` of it is what `train` returns as its metadata.
        """
        return Batches(num_examples, batch_size, epochs, step_budget=self.step_budget, seed=self.seed)

    def __getitem__(self, name: str) -> Any:
        return self.parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parameters)

    def __len__(self) -> int:
        return len(self.parameters)


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What `Learner.train` returns."""

    weights: Weights
    num_examples: int
    """Training examples that the update stands for, > 0: its weight in the mean."""
    metrics: Metrics = field(default_factory=dict)
    num_steps: int = 0
    """Optimizer steps done. Must be above 0 where a plan weighs updates by them (NumCompletedBatches, FedNova)."""
    ms_per_step: float = 0.0
    """Milliseconds; 0 where not measured. Semi-synchronous sessions budget steps by it."""
    ms_per_epoch: float = 0.0
    form: str = "model"
    """`model`: the tensors are the trained model; `delta`: its difference to the model it started from."""
    extra: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    """The change of each set that came as `TaskContext.extra`, by the same names; `fedn.Scaffold` makes SCAFFOLD's."""


class Learner(ABC):
    """A model and its training on this site's data. One object serves all tasks of a client, in its worker process.

    A learner that keeps a framework's model in `self.model` and names its `helper` needs to write only `train`
    (and `evaluate`): `get_weights` and `set_weights` then work on that model.

    Weights come in the form that `get_weights` gave: a list if the model's tensors are named by position, else a dict.
    Those for `train` may be changed in place; those for `evaluate` and `predict` are read-only.
    """

    helper: ClassVar[str] = "numpy"
    """Name of the helper that knows `self.model`: numpy, pytorch, keras, sklearn, or one of an entry point."""
    model: Any

    @property
    def validates(self) -> bool:
        """Whether this site validates models; by default, where there is an `evaluate`."""
        return type(self).evaluate is not Learner.evaluate

    def get_weights(self) -> Weights:
        """The model's tensors now; of a new learner, those of a fresh model (task kind init)."""
        return _helper(self.helper).get_weights(self._own_model("get_weights"))

    def set_weights(self, weights: Weights) -> None:
        """Puts tensors into the model. InvalidInput (`weights_do_not_fit`) lists every difference."""
        named = weights if isinstance(weights, Mapping) else positional(weights)
        _helper(self.helper).set_weights(self._own_model("set_weights"), named)

    @abstractmethod
    def train(
        self, weights: Any, context: TaskContext
    ) -> TrainResult | tuple[Weights, Metrics] | tuple[Weights, Metrics, Mapping[str, Any]]:
        """Trains from `weights` on this site's data.

        Returns:
            A TrainResult; or (weights, metrics) or (weights, metrics, metadata) with `num_examples` among the
            metadata or the metrics, and whatever else of TrainResult's fields is known among the metadata.
            Tensors must have the names and shapes of `weights`; floats of another width are converted.
        """

    def evaluate(self, weights: Any, context: TaskContext) -> Metrics | tuple[Metrics, int]:
        """Metrics of the model `weights` on this site's data, or (metrics, num_examples). Optional."""
        raise NotImplementedError(f"{type(self).__name__} has no evaluate")

    def predict(self, weights: Any, context: TaskContext) -> Weights:
        """Tensors of predictions by the model `weights`. Optional."""
        raise NotImplementedError(f"{type(self).__name__} has no predict")

    def _own_model(self, method: str) -> Any:
        try:
            return self.model
        except AttributeError as error:
            raise NotImplementedError(
                f"{type(self).__name__} must either set self.model (and name its helper) or write {method}"
            ) from error


def positional(weights: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Names a list's arrays by their positions, as the numpy helper does."""
    return dict(zip(positional_names(len(weights)), weights, strict=True))


# Finding an entry point reads the metadata of all installed packages: once is enough.
@cache
def _helper(name: str) -> Helper:
    return get_helper(name)
