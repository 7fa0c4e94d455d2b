"""Learns to read handwritten digits: a small neural network of scikit-learn, trained where the images are."""

from typing import Any

import numpy as np
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier

from fedn import Learner, TaskContext
from fedn.datasets.digits import SiteData, load_site
from fedn.datasets.pieces import Piece, read_piece

DIGITS = np.arange(10)


class DigitsLearner(Learner):
    """Reads these parameters of the session's plan.

    alpha (0.5), classes (labels of a site; none: as alpha says), epochs (5), batch_size (16), learning_rate (0.3).
    """

    helper = "sklearn"

    def __init__(self) -> None:
        self.model = new_model(seed=0)
        self._loaded: tuple[Piece, SiteData] | None = None

    def train(self, weights: Any, context: TaskContext) -> tuple[Any, dict[str, float], dict[str, Any]]:
        data = self._load(context)
        epochs = int(context.get("epochs", 5))
        batch_size = int(context.get("batch_size", 16))
        # A new estimator a task, with the task's own seed: a repeated task gives the same update.
        self.model = new_model(context.seed, float(context.get("learning_rate", 0.3)))
        self.set_weights(weights)
        batches = context.batches(len(data.train_labels), batch_size, epochs)
        total = 0.0
        for batch in batches:
            # scikit-learn makes one step of what it is given, where that is no larger than its own batches.
            self.model.set_params(batch_size=len(batch))
            self.model.partial_fit(data.train_images[batch], data.train_labels[batch])
            total += float(self.model.loss_)
            if batches.steps % 100 == 99:
                context.report(batches.steps / len(batches), {"loss": total / (batches.steps + 1)})
        return self.get_weights(), {"train_loss": total / len(batches)}, batches.metadata()

    def evaluate(self, weights: Any, context: TaskContext) -> tuple[dict[str, float], int]:
        """Accuracy and loss on this site's share of the held-out images; their mean over the sites is that of all."""
        data = self._load(context)
        self.set_weights(weights)
        chances = self.model.predict_proba(data.held_out_images)
        metrics = {
            "accuracy": float(np.mean(chances.argmax(axis=1) == data.held_out_labels)),
            "loss": float(log_loss(data.held_out_labels, chances, labels=DIGITS)),
        }
        return metrics, len(data.held_out_labels)

    def _load(self, context: TaskContext) -> SiteData:
        piece = read_piece(
            context.data_path, context.client, alpha=context.get("alpha", 0.5), classes=context.get("classes")
        )
        if self._loaded is None or self._loaded[0] != piece:
            self._loaded = piece, load_site(piece)
        return self._loaded[1]


def new_model(seed: int, learning_rate: float = 0.3) -> MLPClassifier:
    """A network 64-64-10 of float32 that knows its classes and nothing else; equal seeds give equal weights."""
    model = MLPClassifier(
        hidden_layer_sizes=(64,),
        solver="sgd",
        momentum=0.0,
        learning_rate_init=learning_rate,
        batch_size=10,
        random_state=np.random.RandomState(seed),
    )
    # scikit-learn makes its arrays at the first fit, of ten blank images. What is in them then is replaced by Glorot's
    # uniform weights, drawn by NumPy: a fit's last bit may differ from processor to processor.
    model.partial_fit(np.zeros((10, 64), np.float32), DIGITS, classes=DIGITS)
    draw = np.random.default_rng(seed)
    for weights, biases in zip(model.coefs_, model.intercepts_, strict=True):
        weights[:] = draw.uniform(-1, 1, weights.shape) * np.sqrt(6 / sum(weights.shape))
        biases[:] = 0
    return model
