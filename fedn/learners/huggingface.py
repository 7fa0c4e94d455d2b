"""Learners for models that make their own loss, as those of Hugging Face's transformers do.

    learner = HuggingFaceLearner(model, train_loader, torch.optim.AdamW(model.parameters(), lr=5e-5))

Nothing of transformers is imported: a model is called as `model(**batch)`, and answers with an object or a mapping that
has `loss`, and perhaps `logits`.
"""

from collections.abc import Mapping
from typing import Any

import torch

from fedn.client.learner import Metrics
from fedn.learners.torch import ModuleLearner, accuracy
from fedn.protocol.errors import InvalidInput


class HuggingFaceLearner(ModuleLearner):
    """A model that is called with the batch's names, and whose answer has its loss.

    Batches are mappings of tensors with the same first dimension, `labels` among them. Validation gives `loss` and,
    where labels (n,) and logits (n, classes) are those of a classifier, `accuracy`.

    Args: as of `ModuleLearner`.
    """

    def batch_loss(self, batch: Any) -> torch.Tensor:
        loss: torch.Tensor = self._answer(batch)["loss"]
        return loss

    def batch_metrics(self, batch: Any) -> tuple[Metrics, int]:
        answer = self._answer(batch)
        metrics = {"loss": float(answer["loss"])}
        labels, logits = batch.get("labels"), answer.get("logits")
        if labels is not None and logits is not None and labels.dim() == 1 and logits.dim() == 2:
            metrics["accuracy"] = accuracy(logits, labels)
        return metrics, len(next(iter(batch.values())))

    def _answer(self, batch: Any) -> Mapping[str, Any]:
        """What the model says. InvalidInput (`bad_loader`, `no_loss`)."""
        if not isinstance(batch, Mapping):
            raise InvalidInput(
                "bad_loader",
                f"a batch is {type(batch).__name__}, and the model is called with named tensors",
                fix="Let the data set give mappings, such as {'input_ids': …, 'labels': …}.",
            )
        found = self.model(**batch)
        answer = found if isinstance(found, Mapping) else vars(found)
        if answer.get("loss") is None:
            raise InvalidInput(
                "no_loss",
                f"the model's answer has no loss; the batch has {', '.join(map(str, batch))}",
                fix="Give `labels` in each batch, and a model with a head for the task.",
            )
        return answer
