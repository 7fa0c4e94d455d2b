"""A site of the study: plain SGD on its own piece of a data set, as slow as the plan says.

`data` is `benchmarks/learning/data.py`, which the study packs beside this file.
"""

import time
from typing import Any

import numpy as np
from data import Examples, load
from network import make_network

from fedn import Learner, Proximal, Scaffold, TaskContext
from fedn.datasets.pieces import Partition, read_piece
from fedn.workers.algorithms.networks import gradient_of_cross_entropy


class StudyLearner(Learner):
    """Parameters of the plan.

    data, examples (how many of its training examples are dealt out), widths, alpha, split_seed (of the deal), epochs,
    batch_size, learning_rate; proximal_mu for FedProx; step_ms (0 where they are missing) and slowness, a factor for
    each site by its number: a step takes at least the product of the two.
    """

    def __init__(self) -> None:
        self._data: tuple[tuple[Any, ...], Examples] | None = None
        self._mine: tuple[tuple[Any, ...], Examples] | None = None

    def get_weights(self) -> Any:
        raise NotImplementedError("the study seeds the model")

    def set_weights(self, weights: Any) -> None:
        raise NotImplementedError("the study trains from what it is given")

    def train(self, weights: Any, context: TaskContext) -> tuple[Any, dict[str, float], dict[str, Any]]:
        examples = self._load(context)
        network = make_network(context["widths"])
        rate = np.float32(context["learning_rate"])
        proximal, scaffold = Proximal.of(context, weights.values()), Scaffold.of(context, weights)
        step_s = _step_s(context)
        batches = context.batches(len(examples), context["batch_size"], context["epochs"])
        loss = 0.0
        for batch in batches:
            ends = time.perf_counter() + step_s
            loss, gradient = gradient_of_cross_entropy(network, weights, examples.inputs[batch], examples.labels[batch])
            pulls = proximal.gradients(list(weights.values()))
            for name, pull, correction in zip(weights, pulls, scaffold.gradients(), strict=True):
                weights[name] -= rate * (gradient[name] + pull + correction)
            # The step of a slow device. `batches` measures it as part of the step, since it is one: it is not a wait
            # for anything. Work instead would take the processors of the other sites, which share this machine.
            time.sleep(max(0.0, ends - time.perf_counter()))
            if context.is_cancelled():
                break
        steps = max(1, batches.steps)
        extra = scaffold.finish(weights, num_steps=steps, learning_rate=float(rate))
        return weights, {"last_loss": loss}, {**batches.metadata(), "extra": extra}

    def _load(self, context: TaskContext) -> Examples:
        wanted = tuple(context[key] for key in ("data", "examples", "alpha", "split_seed"))
        if self._mine is None or self._mine[0] != wanted:
            *which, alpha, seed = wanted
            train = self._load_all(*which)
            place = _place(context)
            mine = Partition(place.index, place.count, seed=seed, alpha=alpha).training(train.labels)
            self._mine = wanted, train.part(mine)
        return self._mine[1]

    def _load_all(self, name: str, count: int) -> Examples:
        """What is dealt out. It is kept, since most sessions deal out the same anew."""
        if self._data is None or self._data[0] != (name, count):
            self._data = (name, count), load(name).train.part(np.arange(count))
        return self._data[1]


def _place(context: TaskContext) -> Partition:
    """Which of the sites this one is."""
    piece = read_piece(context.data_path, context.client)
    if not isinstance(piece, Partition):
        raise ValueError("the study's sites are those of a sandbox, which numbers them")
    return piece


def _step_s(context: TaskContext) -> float:
    """The least that a step takes at this site."""
    if "step_ms" not in context:
        return 0.0
    slowness: float = context["slowness"][_place(context).index]
    return float(context["step_ms"]) / 1e3 * slowness
