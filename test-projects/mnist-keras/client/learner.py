"""Learns to tell images of 28x28 pixels apart: a small convolutional network in Keras 3."""

from typing import Any

import keras
from data import SiteData, load

from fedn import Learner, TaskContext


class MnistLearner(Learner):
    """Reads these parameters of the session's plan.

    dataset (fashion-mnist), alpha (0.5), epochs (1), batch_size (32), learning_rate (0.1).
    """

    helper = "keras"

    def __init__(self) -> None:
        self.model = new_model(seed=0)
        # Once: Keras traces the training step anew after each compile. Plain SGD keeps nothing from task to task.
        self.model.compile(keras.optimizers.SGD(), "sparse_categorical_crossentropy", metrics=["accuracy"])
        self._loaded: tuple[tuple[str, float | str], SiteData] | None = None

    def train(self, weights: Any, context: TaskContext) -> tuple[Any, dict[str, float], dict[str, Any]]:
        examples = self._load(context).train
        epochs, batch_size = int(context.get("epochs", 1)), int(context.get("batch_size", 32))
        self.set_weights(weights)
        self.model.optimizer.learning_rate = float(context.get("learning_rate", 0.1))
        self.model.reset_metrics()
        # Their order comes from the task's own seed: a repeated task gives the same update.
        batches = context.batches(len(examples), batch_size, epochs)
        logs = {"loss": 0.0}
        for batch in batches:
            logs = self.model.train_on_batch(examples.images[batch], examples.labels[batch], return_dict=True)
            if batches.steps % 100 == 99:
                context.report(batches.steps / len(batches), {"loss": float(logs["loss"])})
                if context.is_cancelled():
                    break
        # Keras keeps a mean over the steps since reset_metrics.
        return self.get_weights(), {"train_loss": float(logs["loss"])}, batches.metadata()

    def evaluate(self, weights: Any, context: TaskContext) -> tuple[dict[str, float], int]:
        """Accuracy and loss on this site's share of the held-out images; their mean over the sites is that of all."""
        examples = self._load(context).held_out
        self.set_weights(weights)
        found = self.model.evaluate(examples.images, examples.labels, batch_size=1000, verbose=0, return_dict=True)
        return {"accuracy": float(found["accuracy"]), "loss": float(found["loss"])}, len(examples)

    def _load(self, context: TaskContext) -> SiteData:
        wanted = (context.get("dataset", "fashion-mnist"), context.get("alpha", 0.5))
        if self._loaded is None or self._loaded[0] != wanted:
            self._loaded = wanted, load(context, *wanted)
        return self._loaded[1]


def new_model(seed: int) -> keras.Model:
    """Two convolutions and a dense layer, 20,490 parameters; equal seeds give equal weights."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.Conv2D(16, 3, padding="same", activation="relu", name="first"),
            layers.MaxPooling2D(name="first_pool"),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="second"),
            layers.MaxPooling2D(name="second_pool"),
            layers.Flatten(name="flat"),
            layers.Dense(10, activation="softmax", name="classes"),
        ],
        name="mnist",
    )
