"""SCAFFOLD with PyTorch and Keras: corrections lie beside the gradients they are added to."""

from pathlib import Path

import keras
import numpy as np
import pytest
import torch

from fedn import Scaffold, TaskContext
from fedn.learners.keras import KerasLearner
from fedn.learners.torch import TorchLearner
from fedn.protocol.errors import InvalidInput

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # of Keras itself
]


def test_corrections_are_added_to_the_gradients_of_parameters(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    server = {name: np.full(one.shape, 0.5, np.float32) for name, one in model.named_parameters()}
    context = TaskContext(
        session="s", round=0, client="a", kind="train", work_dir=tmp_path, extra={"control_variate": server}
    )
    before = [parameter.detach().clone() for parameter in model.parameters()]
    scaffold = Scaffold.of(context, dict(model.named_parameters()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.ones(4, 3)).sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    for parameter, correction in zip(model.parameters(), scaffold.gradients(), strict=True):
        parameter.grad += correction
    optimizer.step()
    for parameter, start, gradient in zip(model.parameters(), before, gradients, strict=True):
        torch.testing.assert_close(parameter.detach(), start - 0.1 * (gradient + 0.5))
    extra = scaffold.finish(dict(model.named_parameters()), num_steps=1, learning_rate=0.1)
    # (x − y)/η − c is the gradient itself after one step: cᵢ⁺ is what option I of the paper would say.
    for (name, _), gradient in zip(model.named_parameters(), gradients, strict=True):
        np.testing.assert_allclose(extra["control_variate"][name], gradient.numpy(), atol=1e-5)


def learner_of(momentum: float = 0.0) -> TorchLearner:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2))
    data = torch.utils.data.TensorDataset(torch.arange(24.0).reshape(8, 3) / 24, torch.arange(8) % 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum)
    return TorchLearner(model, torch.utils.data.DataLoader(data, 4), torch.nn.CrossEntropyLoss(), optimizer)


def server_of(learner: TorchLearner, value: float) -> dict[str, np.ndarray]:
    return {name: np.full(one.shape, value, np.float32) for name, one in learner.model.named_parameters()}


def test_the_ready_made_learner_corrects_its_steps_and_returns_the_change(tmp_path: Path) -> None:
    learner = learner_of()
    start = {name: array.copy() for name, array in learner.get_weights().items()}
    task = {"session": "s", "round": 0, "client": "a", "kind": "train", "work_dir": tmp_path, "step_budget": 1}
    free, _, metadata = learner.train({name: array.copy() for name, array in start.items()}, TaskContext(**task))
    assert "extra" not in metadata
    free = {name: array.copy() for name, array in free.items()}
    context = TaskContext(**task, extra={"control_variate": server_of(learner, 0.5)})
    corrected, _, metadata = learner.train({name: array.copy() for name, array in start.items()}, context)
    for name in server_of(learner, 0.0):
        np.testing.assert_allclose(corrected[name], free[name] - 0.1 * 0.5, atol=1e-6, err_msg=name)
        gradient = (start[name] - free[name]) / 0.1
        np.testing.assert_allclose(metadata["extra"]["control_variate"][name], gradient, atol=1e-4, err_msg=name)


def test_an_optimizer_whose_steps_say_nothing_of_the_gradient_is_refused(tmp_path: Path) -> None:
    learner = learner_of(momentum=0.9)
    context = TaskContext(
        session="s",
        round=0,
        client="a",
        kind="train",
        work_dir=tmp_path,
        extra={"control_variate": server_of(learner, 0.5)},
    )
    with pytest.raises(InvalidInput, match="without momentum"):
        learner.train(learner.get_weights(), context)


def keras_learner(optimizer: keras.optimizers.Optimizer | None = None, **dense: object) -> KerasLearner:
    keras.utils.set_random_seed(0)
    frozen = keras.layers.Dense(3, name="frozen", trainable=False)
    model = keras.Sequential(
        [keras.Input((3,)), frozen, keras.layers.Dense(2, **dense), keras.layers.BatchNormalization()]
    )
    model.compile(optimizer or keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return KerasLearner(model, (np.arange(24.0).reshape(8, 3) / 24, np.arange(8) % 2), batch_size=4)


def keras_server(learner: KerasLearner, value: float) -> dict[str, np.ndarray]:
    """As the rule makes it: of all tensors but running statistics."""
    return {
        name: np.full(one.shape, 0.0 if name.startswith("frozen") else value, np.float32)
        for name, one in learner.get_weights().items()
        if "moving" not in name
    }


def keras_task(tmp_path: Path, **changes: object) -> TaskContext:
    given = {"session": "s", "round": 0, "client": "a", "kind": "train", "work_dir": tmp_path, "step_budget": 1}
    return TaskContext(**(given | changes))


def test_the_keras_learner_corrects_its_steps_and_returns_the_change(tmp_path: Path) -> None:
    learner = keras_learner()
    start = learner.get_weights()
    free, metrics, metadata = learner.train(start, keras_task(tmp_path))
    assert "extra" not in metadata
    server = keras_server(learner, 0.5)
    context = keras_task(tmp_path, extra={"control_variate": server})
    corrected, corrected_metrics, metadata = learner.train(start, context)
    assert corrected_metrics == metrics  # of the same batch before the step: the correction is not in the loss
    assert any(np.abs(start[name] - free[name]).max() > 1e-3 for name in server)
    for name, value in server.items():
        np.testing.assert_allclose(corrected[name], free[name] - 0.1 * value, atol=1e-6, err_msg=name)
        gradient = (start[name] - free[name]) / 0.1
        np.testing.assert_allclose(metadata["extra"]["control_variate"][name], gradient, atol=1e-4, err_msg=name)


def test_a_learning_rate_that_changes_counts_as_its_mean_over_the_steps(tmp_path: Path) -> None:
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.1, 0.3])  # 0.1 in the first step, then 0.3
    learner = keras_learner(keras.optimizers.SGD(rate))
    start = learner.get_weights()
    server = keras_server(learner, 0.5)
    context = keras_task(tmp_path, step_budget=2, extra={"control_variate": server})
    end, _, metadata = learner.train(start, context)
    for name, value in server.items():
        change = (start[name] - end[name]) / (2 * 0.2) - value
        np.testing.assert_allclose(metadata["extra"]["control_variate"][name], change, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("optimizer", "dense"),
    [
        (lambda: keras.optimizers.SGD(0.1, momentum=0.9), {}),
        (lambda: keras.optimizers.SGD(0.1, clipnorm=1.0), {}),
        (lambda: keras.optimizers.Adam(0.1), {}),
        (lambda: keras.optimizers.SGD(0.1), {"kernel_constraint": "non_neg"}),
    ],
    ids=["momentum", "clipping", "adam", "constraint"],
)
def test_keras_steps_that_say_nothing_of_the_gradient_are_refused(tmp_path: Path, optimizer, dense) -> None:
    learner = keras_learner(optimizer(), **dense)
    context = keras_task(tmp_path, extra={"control_variate": keras_server(learner, 0.5)})
    with pytest.raises(InvalidInput, match="mean gradient") as error:
        learner.train(learner.get_weights(), context)
    assert error.value.code == "optimizer_not_supported"
