"""Learns to read handwritten digits: extra trees of scikit-learn, grown where the images are."""

from time import perf_counter
from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier

from fedn import Learner, TaskContext
from fedn.datasets.digits import SiteData, load_site
from fedn.datasets.pieces import Piece, read_piece
from fedn.models.helpers.sklearn_forest import FederatedForest


class DigitsForest(Learner):
    """Reads these parameters of the session's plan: alpha (0.5), trees (5, that a site grows in a round)."""

    helper = "sklearn_forest"

    def __init__(self) -> None:
        self.model = FederatedForest(
            ExtraTreesClassifier(max_leaf_nodes=64),
            num_features=64,
            classes=range(10),
            max_trees=100,
            max_nodes=100 * 127,
        )
        self._loaded: tuple[Piece, SiteData] | None = None

    def train(self, weights: Any, context: TaskContext) -> tuple[Any, dict[str, float], dict[str, Any]]:
        data, trees = self._load(context), int(context.get("trees", 5))
        started = perf_counter()
        # What is returned are the new trees alone; the federation keeps those that it has.
        self.model.grow(data.train_images, data.train_labels, num_trees=trees, seed=context.seed)
        milliseconds = (perf_counter() - started) * 1000
        metadata = {"num_examples": len(data.train_labels), "num_steps": trees, "ms_per_step": milliseconds / trees}
        return self.get_weights(), {"nodes": sum(tree.size for tree in self.model.trees)}, metadata

    def evaluate(self, weights: Any, context: TaskContext) -> tuple[dict[str, float], int]:
        """Accuracy on this site's share of the held-out images; the mean over the sites is that of all."""
        data = self._load(context)
        self.set_weights(weights)
        found = self.model.predict(data.held_out_images)
        metrics = {"accuracy": float(np.mean(found == data.held_out_labels)), "trees": len(self.model.trees)}
        return metrics, len(data.held_out_labels)

    def predict(self, weights: Any, context: TaskContext) -> dict[str, np.ndarray]:
        """Shares of the digits for each of this site's held-out images."""
        data = self._load(context)
        self.set_weights(weights)
        return {"shares": self.model.predict_proba(data.held_out_images)}

    def _load(self, context: TaskContext) -> SiteData:
        piece = read_piece(context.data_path, context.client, alpha=context.get("alpha", 0.5))
        if self._loaded is None or self._loaded[0] != piece:
            self._loaded = piece, load_site(piece)
        return self._loaded[1]
