"""SCAFFOLD with PyTorch: corrections lie beside the gradients they are added to."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedn import Scaffold, TaskContext

pytestmark = pytest.mark.frameworks


def test_corrections_are_added_to_the_gradients_of_parameters(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    server = {name: np.full(one.shape, 0.5, np.float32) for name, one in model.named_parameters()}
    context = TaskContext(
        session="s", round=0, client="a", kind="train", work_dir=tmp_path, extra={"control_variate": server}
    )
    before = [parameter.detach().clone() for parameter in model.parameters()]
    scaffold = Scaffold.of(context, dict(model.named_parameters()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.ones(4, 3)).sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    for parameter, correction in zip(model.parameters(), scaffold.gradients(), strict=True):
        parameter.grad += correction
    optimizer.step()
    for parameter, start, gradient in zip(model.parameters(), before, gradients, strict=True):
        torch.testing.assert_close(parameter.detach(), start - 0.1 * (gradient + 0.5))
    extra = scaffold.finish(dict(model.named_parameters()), num_steps=1, learning_rate=0.1)
    # (x − y)/η − c is the gradient itself after one step: cᵢ⁺ is what option I of the paper would say.
    for (name, _), gradient in zip(model.named_parameters(), gradients, strict=True):
        np.testing.assert_allclose(extra["control_variate"][name], gradient.numpy(), atol=1e-5)
