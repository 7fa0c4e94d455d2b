"""Learns to tell images of 28x28 pixels apart: a small convolutional network in PyTorch."""

from typing import Any

import torch
from data import SiteData, load
from torch import nn

from fedn import Learner, TaskContext


class MnistLearner(Learner):
    """Reads these parameters of the session's plan.

    dataset (fashion-mnist), alpha (0.5), epochs (1), batch_size (32), learning_rate (0.1).
    """

    helper = "pytorch"

    def __init__(self) -> None:
        self.model = new_model(seed=0)
        self._loaded: tuple[tuple[str, float | str], SiteData] | None = None

    def train(self, weights: Any, context: TaskContext) -> tuple[Any, dict[str, float], dict[str, Any]]:
        examples = self._load(context).train
        epochs, batch_size = int(context.get("epochs", 1)), int(context.get("batch_size", 32))
        self.set_weights(weights)
        self.model.train()
        optimizer = torch.optim.SGD(self.model.parameters(), lr=float(context.get("learning_rate", 0.1)))
        # Their order comes from the task's own seed: a repeated task gives the same update.
        batches = context.batches(len(examples), batch_size, epochs)
        total = 0.0
        for batch in batches:
            loss = nn.functional.cross_entropy(self.model(examples.images[batch]), examples.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
            if batches.steps % 100 == 99:
                context.report(batches.steps / len(batches), {"loss": total / (batches.steps + 1)})
                if context.is_cancelled():
                    break
        return self.get_weights(), {"train_loss": total / max(batches.steps, 1)}, batches.metadata()

    def evaluate(self, weights: Any, context: TaskContext) -> tuple[dict[str, float], int]:
        """Accuracy and loss on this site's share of the held-out images; their mean over the sites is that of all."""
        examples = self._load(context).held_out
        self.set_weights(weights)
        self.model.eval()
        with torch.no_grad():
            scores = torch.cat([self.model(images) for images in examples.images.split(1000)])
        metrics = {
            "accuracy": (scores.argmax(dim=1) == examples.labels).float().mean().item(),
            "loss": nn.functional.cross_entropy(scores, examples.labels).item(),
        }
        return metrics, len(examples)

    def _load(self, context: TaskContext) -> SiteData:
        wanted = (context.get("dataset", "fashion-mnist"), context.get("alpha", 0.5))
        if self._loaded is None or self._loaded[0] != wanted:
            self._loaded = wanted, load(context, *wanted)
        return self._loaded[1]


def new_model(seed: int) -> nn.Module:
    """Two convolutions and a linear layer, 20,490 parameters; equal seeds give equal weights."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 10),
    )
