"""FedProx with PyTorch: the penalty has the gradient that it should have."""

import pytest
import torch

from fedn import Proximal

pytestmark = pytest.mark.frameworks


def test_the_penalty_of_parameters_has_the_gradient_of_the_paper() -> None:
    model = torch.nn.Linear(3, 2)
    near = Proximal.of({"proximal_mu": 0.25}, model.parameters())
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(2.0)
    parameters = list(model.parameters())
    penalty = near.penalty(parameters)
    assert penalty.item() == pytest.approx(0.125 * 4.0 * (6 + 2))
    penalty.backward()
    for parameter, start in zip(parameters, before, strict=True):
        torch.testing.assert_close(parameter.grad, 0.25 * (parameter.detach() - start))
    for gradient in near.gradients(parameters):
        torch.testing.assert_close(gradient.detach(), torch.full_like(gradient, 0.5))
