"""The digits project by itself: federated averaging of it learns to read."""

from pathlib import Path

import numpy as np
import pytest

from fedn.sandbox.project import DEFAULT_PROJECT, open_project
from tests.support.learning import federated_averaging, project_learners, write_partitions

CLIENT = DEFAULT_PROJECT / "client"


@pytest.mark.parametrize("seed", [0, 1])
def test_federated_averaging_reads_digits_that_no_site_trained_on(seed: int, tmp_path: Path) -> None:
    plan = open_project(None).plan
    with project_learners(CLIENT, "DigitsLearner", 5) as learners:
        paths = write_partitions(tmp_path, 5, seed)
        _, history = federated_averaging(learners, paths, plan["rounds"], plan["parameters"])
    assert history[-1]["accuracy"] >= 0.93


def test_a_repeated_run_gives_equal_weights(tmp_path: Path) -> None:
    results = []
    for run in ("first", "second"):
        with project_learners(CLIENT, "DigitsLearner", 2) as learners:
            weights, _ = federated_averaging(learners, write_partitions(tmp_path / run, 2, 0), 2, {"epochs": 1})
            results.append(weights)
    assert all(np.array_equal(results[0][name], results[1][name]) for name in results[0])
