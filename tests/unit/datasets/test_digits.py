"""Handwritten digits: who has which images."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fedn.datasets.digits import load_site
from fedn.datasets.pieces import Draw, Partition


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_every_image_is_at_one_site_or_held_out(count: int) -> None:
    sites = [load_site(Partition(index, count, seed=3)) for index in range(count)]
    assert sum(len(site.train_labels) for site in sites) + sum(len(site.held_out_labels) for site in sites) == 1797
    rows = np.concatenate([images for site in sites for images in (site.train_images, site.held_out_images)])
    everything, _ = load_digits(return_X_y=True)
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, (everything / 16).astype(np.float32).tolist()))
    assert min(len(site.train_labels) for site in sites) >= 10


def test_sites_see_different_digits() -> None:
    sites = [load_site(Partition(index, 5)) for index in range(5)]
    shares = np.array([np.bincount(site.train_labels, minlength=10) / len(site.train_labels) for site in sites])
    assert (shares.max(axis=0) > 3 * shares.min(axis=0)).all()


def test_a_site_with_a_name_only_has_a_part() -> None:
    sites = [load_site(Draw(name)) for name in ("a", "b")]
    assert [len(site.held_out_labels) for site in sites] == [36, 36]
    assert all(0 < len(site.train_labels) <= 144 for site in sites)
    assert not np.array_equal(sites[0].held_out_images, sites[1].held_out_images)
