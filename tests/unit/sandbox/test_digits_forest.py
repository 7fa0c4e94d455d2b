"""The digits-forest project by itself: what sites with other digits grow reads all of them together."""

from pathlib import Path

import numpy as np

from fedn import TaskContext
from fedn.sandbox.project import DEFAULT_PROJECT, open_project
from tests.support.learning import project_learners, write_partitions

PROJECT = DEFAULT_PROJECT.parent / "digits-forest"


def test_trees_of_all_sites_read_digits_that_none_of_them_trained_on(tmp_path: Path) -> None:
    plan = open_project(PROJECT).plan
    paths = write_partitions(tmp_path, 5, 0)
    with project_learners(PROJECT / "client", "DigitsForest", 5) as learners:
        trees, contexts = [], []
        for number, (learner, path) in enumerate(zip(learners, paths, strict=True)):
            context = TaskContext(
                session="s",
                round=0,
                client=path.name,
                kind="train",
                parameters=plan["parameters"],
                seed=number,
                data_path=path,
            )
            contexts.append(context)
            for seed in range(plan["rounds"]):
                learner.model.grow(*_data(learner, context), num_trees=plan["parameters"]["trees"], seed=seed)
                trees += learner.model.trees
        learners[0].model.trees = trees
        union = learners[0].get_weights()
        found = [learner.evaluate(union, context) for learner, context in zip(learners, contexts, strict=True)]
        accuracy = sum(metrics["accuracy"] * count for metrics, count in found) / sum(count for _, count in found)
        assert len(trees) == 100 and accuracy >= 0.93
        shares = learners[1].predict(union, contexts[1])["shares"]
        assert shares.shape == (found[1][1], 10)
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)


def _data(learner, context):
    data = learner._load(context)
    return data.train_images, data.train_labels
