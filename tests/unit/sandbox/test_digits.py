"""The digits project by itself: its split, and that federated averaging of it learns to read."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.datasets.pieces import Draw, Partition
from fedn.sandbox.project import DEFAULT_PROJECT, open_project
from tests.support.learning import federated_averaging, project_learners, write_partitions

CLIENT = DEFAULT_PROJECT / "client"


@pytest.fixture
def data() -> Iterator[Any]:
    sys.path.insert(0, str(CLIENT))
    try:
        yield import_module("data")
    finally:
        sys.path.remove(str(CLIENT))
        sys.modules.pop("data")


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_every_image_is_at_one_site_or_held_out(data: Any, count: int) -> None:
    sites = [data.load_site(Partition(index, count, seed=3)) for index in range(count)]
    assert sum(len(site.train_labels) for site in sites) + sum(len(site.held_out_labels) for site in sites) == 1797
    rows = np.concatenate([images for site in sites for images in (site.train_images, site.held_out_images)])
    everything, _ = data.load_digits(return_X_y=True)
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, (everything / 16).astype(np.float32).tolist()))
    assert min(len(site.train_labels) for site in sites) >= 10


def test_sites_see_different_digits(data: Any) -> None:
    sites = [data.load_site(Partition(index, 5)) for index in range(5)]
    shares = np.array([np.bincount(site.train_labels, minlength=10) / len(site.train_labels) for site in sites])
    assert (shares.max(axis=0) > 3 * shares.min(axis=0)).all()


def test_a_site_with_a_name_only_has_a_part(data: Any) -> None:
    sites = [data.load_site(Draw(name)) for name in ("a", "b")]
    assert [len(site.held_out_labels) for site in sites] == [36, 36]
    assert all(0 < len(site.train_labels) <= 144 for site in sites)
    assert not np.array_equal(sites[0].held_out_images, sites[1].held_out_images)


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
