"""Learners for PyTorch modules.

learner = TorchLearner(model, train_loader, torch.nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1))
"""

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from fedn.client.batches import Steps
from fedn.client.learner import Learner, Metrics, TaskContext
from fedn.client.proximal import Proximal
from fedn.client.scaffold import Scaffold
from fedn.learners.steps import rate_parameter, repeated, watched, whole_parameter
from fedn.protocol.errors import InvalidInput

Loaders = Any
"""A DataLoader, or a function that makes one from the TaskContext, where it depends on `data_path` or the plan."""
Measure = Callable[[torch.Tensor, torch.Tensor], torch.Tensor | float]
"""Takes (outputs, targets) of a batch and gives the mean of something over its examples."""


def accuracy(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """The share of examples whose highest output (n, classes) is the target (n,)."""
    return float((outputs.argmax(dim=1) == targets).float().mean())


class ModuleLearner(Learner):
    """What learners of PyTorch modules have in common; a subclass says what the loss of a batch is.

    The model stays on its device, and batches are brought there. A loader that shuffles does so by the task's seed, and
    the plan's `batch_size` wins over its own. Each task begins with the optimizer's state as it was given: what
    momentum remembers of another model would be wrong.

    Args:
        model: its state_dict, with buffers, is what is federated.
        train_data: to train on.
        optimizer: of the model's parameters. The plan's `learning_rate` wins over its own.
        test_data: to validate on; None: this site does not validate.
        epochs: where the plan names none, and no steps are asked for.
    """

    helper = "pytorch"

    def __init__(
        self,
        model: torch.nn.Module,
        train_data: Loaders,
        optimizer: torch.optim.Optimizer,
        test_data: Loaders | None = None,
        *,
        epochs: int = 1,
    ) -> None:
        self.model = model
        self._train_data = train_data
        self._test_data = test_data
        self._optimizer = optimizer
        self._fresh = copy.deepcopy(optimizer.state_dict())
        self._epochs = epochs

    @abstractmethod
    def batch_loss(self, batch: Any) -> torch.Tensor:
        """The loss of a batch, which is on the model's device: a scalar with its gradient."""

    @abstractmethod
    def batch_metrics(self, batch: Any) -> tuple[Metrics, int]:
        """(means over the batch, examples in it); gradients are off."""

    @property
    def validates(self) -> bool:
        return self._test_data is not None

    def train(self, weights: Any, context: TaskContext) -> tuple[Any, Metrics, Mapping[str, Any]]:
        loader = _for_task(_loader(self._train_data, context), context)
        self.set_weights(weights)
        self.model.train()
        torch.manual_seed(context.seed)  # of dropout and the like
        optimizer = self._prepared(context)
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        near = Proximal.of(context, parameters)
        named = dict(self.model.named_parameters(remove_duplicate=False))
        scaffold = Scaffold.of(context, named)
        corrections = _corrections(scaffold, named, optimizer)
        epochs = whole_parameter(context, "epochs", self._epochs)
        steps = Steps(_size(loader, context), len(loader), epochs, step_budget=context.step_budget)
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        batches = steps.over(repeated(loader))
        for batch in watched(context, steps, batches, lambda: {"train_loss": float(total) / steps.steps}):
            loss = self.batch_loss(_onto(batch, self._device))
            total.add_(loss.detach())
            optimizer.zero_grad()
            (loss + near.penalty(parameters) if near.mu else loss).backward()
            for parameter, correction in corrections:
                if parameter.grad is not None:
                    parameter.grad += correction
            optimizer.step()
        metadata = dict(steps.metadata())
        if scaffold.active:
            rate = optimizer.param_groups[0]["lr"]
            metadata["extra"] = scaffold.finish(named, num_steps=steps.steps, learning_rate=rate)
        return self.get_weights(), {"train_loss": float(total) / max(1, steps.steps)}, metadata

    def evaluate(self, weights: Any, context: TaskContext) -> tuple[Metrics, int]:
        """Means over the site's test data, by examples."""
        self.set_weights(weights)
        self.model.eval()
        totals: dict[str, float] = {}
        count = 0
        with torch.no_grad():
            for batch in _loader(self._test_data, context):
                metrics, examples = self.batch_metrics(_onto(batch, self._device))
                count += examples
                for name, value in metrics.items():
                    totals[name] = totals.get(name, 0.0) + float(value) * examples
        return {name: total / count for name, total in totals.items()}, count

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _prepared(self, context: TaskContext) -> torch.optim.Optimizer:
        """The optimizer with its first state, and with the plan's learning rate."""
        self._optimizer.load_state_dict(copy.deepcopy(self._fresh))
        rate = rate_parameter(context)
        if rate is not None:
            for group in self._optimizer.param_groups:
                group["lr"] = rate
        return self._optimizer


def _corrections(
    scaffold: Scaffold, named: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> list[tuple[torch.nn.Parameter, torch.Tensor]]:
    """What SCAFFOLD adds to the gradient of each parameter that is trained, each once; nothing without it.

    Raises:
        InvalidInput: (`optimizer_not_supported`) steps of the optimizer say nothing of the mean gradient.
    """
    if not scaffold.active:
        return []
    groups = optimizer.param_groups
    if not isinstance(optimizer, torch.optim.SGD) or any(group["momentum"] for group in groups) or len(groups) > 1:
        raise InvalidInput(
            "optimizer_not_supported",
            "SCAFFOLD works out the mean gradient from how far the weights went: this optimizer does not go along it",
            fix="Train with torch.optim.SGD without momentum, with one group of parameters; or choose another rule.",
        )
    found = {id(one): (one, correction) for one, correction in zip(named.values(), scaffold.gradients(), strict=True)}
    return [pair for pair in found.values() if pair[0].requires_grad]


class TorchLearner(ModuleLearner):
    """A module, batches of (inputs, targets), and a loss of (outputs, targets).

    Args:
        model, train_data, optimizer, test_data, epochs: as of `ModuleLearner`.
        loss: gives the mean over the batch.
        metrics: what to validate besides the loss, by name, such as `{"accuracy": accuracy}`.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        train_data: Loaders,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        optimizer: torch.optim.Optimizer,
        test_data: Loaders | None = None,
        *,
        metrics: Mapping[str, Measure] | None = None,
        epochs: int = 1,
    ) -> None:
        super().__init__(model, train_data, optimizer, test_data, epochs=epochs)
        self._loss = loss
        self._metrics = dict(metrics or {})

    def batch_loss(self, batch: Any) -> torch.Tensor:
        inputs, targets = batch
        return self._loss(self.model(inputs), targets)

    def batch_metrics(self, batch: Any) -> tuple[Metrics, int]:
        inputs, targets = batch
        outputs = self.model(inputs)
        measured = {name: float(measure(outputs, targets)) for name, measure in self._metrics.items()}
        return {"loss": float(self._loss(outputs, targets)), **measured}, len(targets)


def _loader(data: Loaders, context: TaskContext) -> "DataLoader[Any]":
    """The loader of a task. InvalidInput (`bad_loader`) where it is none."""
    found = data if isinstance(data, DataLoader) else data(context) if callable(data) else data
    if not isinstance(found, DataLoader):
        raise InvalidInput(
            "bad_loader",
            f"a DataLoader is needed, or a function that makes one from the TaskContext, not {type(found).__name__}",
            fix="Write DataLoader(dataset, batch_size=32, shuffle=True).",
        )
    return found


def _for_task(loader: "DataLoader[Any]", context: TaskContext) -> "DataLoader[Any]":
    """The loader with the plan's batch size, shuffled by the task's seed; as it is, where it samples in its own way.

    InvalidInput (`bad_loader`) where the plan has a batch size and such a loader cannot take it.
    """
    if loader.batch_size is None or type(loader.sampler) not in {RandomSampler, SequentialSampler}:
        if "batch_size" in context:
            raise InvalidInput(
                "bad_loader",
                "the plan says batch_size, and the site's DataLoader has a sampler of its own",
                fix="Leave batch_size out of the plan, or let the loader shuffle by itself (shuffle=True).",
                where={"field": "parameters.batch_size"},
            )
        return loader
    return DataLoader(
        loader.dataset,
        batch_size=whole_parameter(context, "batch_size", loader.batch_size),
        shuffle=isinstance(loader.sampler, RandomSampler),
        generator=torch.Generator().manual_seed(context.seed),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        drop_last=loader.drop_last,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
    )


def _size(loader: "DataLoader[Any]", context: TaskContext) -> int:
    """Examples of the loader's data set. InvalidInput (`bad_loader`) where it does not know them."""
    try:
        return len(loader.dataset)
    except TypeError as error:
        raise InvalidInput(
            "bad_loader",
            "the data set does not say how many examples it has, which an update is weighed by",
            fix="Give it a __len__, or make it a map-style data set.",
            where={"client": context.client},
        ) from error


def _onto(batch: Any, device: torch.device) -> Any:
    """The tensors of a batch (in tuples, lists and mappings) on that device."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {name: _onto(value, device) for name, value in batch.items()}
    if isinstance(batch, list | tuple):
        return [_onto(value, device) for value in batch]
    return batch
