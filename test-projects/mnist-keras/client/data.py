"""The images of one site as Keras wants them. Where they come from and which are a site's: `fedn.datasets`."""

from dataclasses import dataclass

import numpy as np

from fedn import TaskContext
from fedn.datasets.images import Examples, load_site


@dataclass(frozen=True)
class Batchable:
    """Images float32 (n, 28, 28, 1) in 0..1, labels int64 (n,) in 0..9."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class SiteData:
    train: Batchable
    held_out: Batchable
    """This site's share of the images that no site trains on."""


def load(context: TaskContext, dataset: str, alpha: float | str) -> SiteData:
    """What this site has of a data set, with labels as uneven as `alpha` says."""
    site = load_site(dataset, data_path=context.data_path, client=context.client, alpha=alpha)
    return SiteData(_batchable(site.train), _batchable(site.held_out))


def _batchable(examples: Examples) -> Batchable:
    return Batchable(examples.images[..., np.newaxis].astype(np.float32) / 255, examples.labels.astype(np.int64))
