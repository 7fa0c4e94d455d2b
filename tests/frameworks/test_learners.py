"""Learners of PyTorch, Hugging Face-like and Keras models: they learn, keep to steps, repeat, stay near the start."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler

from fedn import Learner, TaskContext
from fedn.client.execution import kinds_of
from fedn.learners.huggingface import HuggingFaceLearner
from fedn.learners.keras import KerasLearner
from fedn.learners.torch import TorchLearner, accuracy
from fedn.protocol.errors import InvalidInput

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Keras itself
]

X, Y = load_digits(return_X_y=True)
X, Y = (X / 16).astype(np.float32), Y.astype(np.int64)
CUT = 1400


class Dicts(torch.utils.data.Dataset):
    """Examples as the data sets of Hugging Face give them."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixels": torch.from_numpy(self.x[index]), "labels": torch.tensor(self.y[index])}


class Classifier(torch.nn.Module):
    """A model that makes its own loss, and a mapping or an object of it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = network()

    def forward(self, pixels: torch.Tensor, labels: torch.Tensor) -> Any:
        logits = self.encoder(pixels)
        return SimpleNamespace(loss=torch.nn.functional.cross_entropy(logits, labels), logits=logits)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(64, 32), torch.nn.BatchNorm1d(32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
    )


def loader(start: int, stop: int, **options: Any) -> DataLoader:
    data = TensorDataset(torch.from_numpy(X[start:stop]), torch.from_numpy(Y[start:stop]))
    return DataLoader(data, **({"batch_size": 50, "shuffle": True} | options))


def pytorch() -> Learner:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loss = torch.nn.CrossEntropyLoss()
    return TorchLearner(model, loader(0, CUT), loss, optimizer, loader(CUT, len(X)), metrics={"accuracy": accuracy})


def huggingface() -> Learner:
    model = Classifier()
    data, test = DataLoader(Dicts(X[:CUT], Y[:CUT]), 50, shuffle=True), DataLoader(Dicts(X[CUT:], Y[CUT:]), 50)
    return HuggingFaceLearner(model, data, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), test)


def keras_model() -> Learner:
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((64,)),
        keras.layers.Dense(32, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return KerasLearner(model, (X[:CUT], Y[:CUT]), (X[CUT:], Y[CUT:]), batch_size=50)


ALL = pytest.mark.parametrize("make", [pytorch, huggingface, keras_model])


def context(**fields: Any) -> TaskContext:
    return TaskContext(**({"session": "s", "round": 0, "client": "me", "kind": "train", "seed": 5} | fields))


def copied(weights: Any) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in weights.items()}


def distance(one: Any, other: Any) -> float:
    floats = [name for name, array in one.items() if array.dtype.kind == "f" and "running" not in name]
    return float(np.sqrt(sum(((one[name] - other[name]) ** 2).sum() for name in floats)))


@ALL
def test_a_model_learns_and_says_what_it_did(make: Callable[[], Learner]) -> None:
    learner = make()
    start = copied(learner.get_weights())
    before, examples = learner.evaluate(start, context(kind="validate"))
    weights, metrics, metadata = learner.train(copied(start), context(parameters={"epochs": 3}))
    after, _ = learner.evaluate(copied(weights), context(kind="validate"))
    assert examples == len(X) - CUT
    assert after["accuracy"] > 0.8 > before["accuracy"] and after["loss"] < before["loss"]
    assert 0 < metrics["train_loss"] < before["loss"]
    assert (metadata["num_examples"], metadata["num_steps"]) == (CUT, 3 * CUT // 50)
    assert metadata["ms_per_epoch"] == pytest.approx(metadata["ms_per_step"] * (CUT // 50))
    assert "validate" in kinds_of(learner)


@ALL
def test_a_repeated_task_gives_the_same_update_whatever_was_between(make: Callable[[], Learner]) -> None:
    learner = make()
    start = copied(learner.get_weights())
    task = context(step_budget=7)
    first, _, _ = learner.train(copied(start), task)
    first = copied(first)
    learner.train(copied(first), context(round=1, seed=6, parameters={"learning_rate": 0.5}))
    second, _, metadata = learner.train(copied(start), task)
    assert metadata["num_steps"] == 7
    for name, array in first.items():
        np.testing.assert_array_equal(second[name], array, err_msg=name)


@ALL
def test_the_plans_batch_size_and_learning_rate_act(make: Callable[[], Learner]) -> None:
    learner = make()
    start = copied(learner.get_weights())
    _, _, metadata = learner.train(copied(start), context(parameters={"batch_size": 100}))
    assert metadata["num_steps"] == CUT // 100
    slow, _, _ = learner.train(copied(start), context(step_budget=5, parameters={"learning_rate": 1e-4}))
    fast, _, _ = learner.train(copied(start), context(step_budget=5, parameters={"learning_rate": 0.2}))
    assert distance(slow, start) < 0.01 * distance(fast, start)


@ALL
def test_fedprox_keeps_the_model_near_its_start(make: Callable[[], Learner]) -> None:
    learner = make()
    start = copied(learner.get_weights())
    task = {"step_budget": 60}
    free, _, _ = learner.train(copied(start), context(**task))
    free = copied(free)
    near, _, _ = learner.train(copied(start), context(**task, parameters={"proximal_mu": 1.0}))
    assert distance(near, start) < 0.6 * distance(free, start)
    # Without it, everything is as before.
    again, _, _ = learner.train(copied(start), context(**task))
    assert distance(again, free) < 1e-4 * distance(free, start)


def test_keras_fedprox_is_the_gradient_of_the_paper() -> None:
    """One example, a linear model, plain SGD: the second step's pull to the start can be worked out."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    learner = KerasLearner(model, (np.ones((1, 1), np.float32), np.full((1, 1), 3.0, np.float32)), batch_size=1)
    (name,) = learner.get_weights()
    task = context(step_budget=2, parameters={"proximal_mu": 0.5})
    weights, _, _ = learner.train({name: np.zeros((1, 1), np.float32)}, task)
    first = 0.1 * 2 * 3.0
    second = first - 0.1 * (2 * (first - 3.0) + 0.5 * first)
    np.testing.assert_allclose(weights[name], second, rtol=1e-6)


def test_a_loader_that_shuffles_not_keeps_its_order_and_a_function_gets_the_task() -> None:
    asked = []

    def ordered(task: TaskContext) -> DataLoader:
        asked.append(task.client)
        return loader(0, 100, shuffle=False)

    model = network()
    learner = TorchLearner(model, ordered, torch.nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1))
    start = copied(learner.get_weights())
    one, _, _ = learner.train(copied(start), context(seed=1))
    one = copied(one)
    two, _, _ = learner.train(copied(start), context(seed=2))
    assert distance(one, two) == 0 and asked == ["me", "me"]
    assert "validate" not in kinds_of(learner)


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        return iter([])


@pytest.mark.parametrize(
    ("data", "parameters", "said"),
    [
        (
            loader(0, 100, shuffle=False, sampler=WeightedRandomSampler([1.0] * 100, 100)),
            {"batch_size": 5},
            "sampler of its own",
        ),
        (DataLoader(Stream(), batch_size=None), {}, "how many examples"),
        ([1, 2], {}, "a DataLoader is needed"),
    ],
)
def test_a_loader_that_cannot_be_used_is_refused(data: Any, parameters: dict[str, Any], said: str) -> None:
    model = network()
    learner = TorchLearner(model, data, torch.nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(InvalidInput, match=said):
        learner.train(learner.get_weights(), context(parameters=parameters))


def test_a_model_without_a_loss_is_told_apart() -> None:
    class Mute(Classifier):
        def forward(self, pixels: torch.Tensor, labels: torch.Tensor) -> Any:
            return {"logits": self.encoder(pixels)}

    model = Mute()
    learner = HuggingFaceLearner(
        model, DataLoader(Dicts(X[:20], Y[:20]), 10), torch.optim.SGD(model.parameters(), lr=0.1)
    )
    with pytest.raises(InvalidInput, match="has no loss; the batch has pixels, labels"):
        learner.train(learner.get_weights(), context())


def test_a_keras_model_that_is_not_compiled_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not compiled"):
        KerasLearner(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]), (X, Y))
