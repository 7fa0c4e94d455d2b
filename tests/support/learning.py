"""Federated averaging of a project's Learner in plain Python: no process, no network. What fedn must reproduce."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fedn.client.learner import Learner, TaskContext

_OWN_MODULES = ("learner", "data")


@contextmanager
def project_learners(package: Path, class_name: str, count: int) -> Iterator[list[Learner]]:
    """Learners of a package's class, each as if in a process of its own."""
    sys.path.insert(0, str(package))
    for name in _OWN_MODULES:
        sys.modules.pop(name, None)
    try:
        learner_class = getattr(import_module("learner"), class_name)
        yield [learner_class() for _ in range(count)]
    finally:
        sys.path.remove(str(package))
        for name in _OWN_MODULES:
            sys.modules.pop(name, None)


def write_partitions(folder: Path, count: int, seed: int) -> list[Path]:
    """Data directories as the sandbox makes them."""
    paths = [folder / f"client-{number + 1}" for number in range(count)]
    for index, path in enumerate(paths):
        path.mkdir(parents=True)
        (path / "partition.json").write_text(json.dumps({"index": index, "count": count, "seed": seed}))
    return paths


def federated_averaging(
    learners: list[Learner],
    data_paths: list[Path],
    rounds: int,
    parameters: Mapping[str, Any],
    seed_of: Callable[[str, int], int] = lambda client, index: index,
) -> tuple[Any, list[dict[str, float]]]:
    """The last global weights, and the metrics of each global model, mean over the sites by examples.

    Args:
        seed_of: a task's seed, from its client and its round.
    """
    weights: Any = learners[0].get_weights()
    history = []
    for index in range(rounds):
        contexts = [
            TaskContext(
                session="s",
                round=index,
                client=path.name,
                kind="train",
                parameters=parameters,
                seed=seed_of(path.name, index),
                data_path=path,
            )
            for path in data_paths
        ]
        updates = []
        for learner, context in zip(learners, contexts, strict=True):
            trained, _, metadata = learner.train({name: value.copy() for name, value in weights.items()}, context)
            updates.append((metadata["num_examples"], trained))
        total = sum(examples for examples, _ in updates)
        weights = {
            name: np.asarray(
                sum(examples * update[name].astype(np.float64) for examples, update in updates) / total
            ).astype(value.dtype)
            for name, value in weights.items()
        }
        found = [learner.evaluate(weights, context) for learner, context in zip(learners, contexts, strict=True)]
        held = sum(examples for _, examples in found)
        history.append({name: sum(m[name] * n for m, n in found) / held for name in found[0][0]})
    return weights, history
