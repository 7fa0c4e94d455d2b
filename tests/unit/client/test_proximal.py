"""FedProx: the penalty of its paper, and what it does to sites that differ."""

from typing import Any

import numpy as np
import pytest

from fedn import Learner, Proximal, TaskContext
from fedn.aggregation.combine import combine
from fedn.aggregation.fedavg import FedAvg
from fedn.client.coding import CodingRequest, TaskCoding
from fedn.client.execution import execute
from fedn.models.wire import decode, encode, read_spec
from fedn.protocol.errors import InvalidInput
from tests.support.sums import whole_result


def test_penalty_and_gradients_are_those_of_the_paper() -> None:
    start = [np.array([1.0, 2.0]), np.array([[3.0]])]
    near = Proximal(start, 0.5)
    start[0][:] = 100.0  # it has a copy
    weights = [np.array([2.0, 4.0]), np.array([[0.0]])]
    assert near.penalty(weights) == pytest.approx(0.25 * (1 + 4 + 9))
    np.testing.assert_allclose(near.gradients(weights)[0], [0.5, 1.0])
    np.testing.assert_allclose(near.gradients(weights)[1], [[-1.5]])
    with pytest.raises(ValueError, match="zip"):
        near.penalty(weights[:1])


@pytest.mark.parametrize("mu", [-1, float("nan"), float("inf"), "0.1", True, None])
def test_a_mu_that_cannot_be_is_refused_by_name(mu: Any) -> None:
    with pytest.raises(InvalidInput, match="proximal_mu"):
        Proximal([], mu)


class Quadratic(Learner):
    """Minimizes a/2·(w − c)² plus the penalty, by many steps of gradient descent."""

    def __init__(self, curvature: float, minimum: float) -> None:
        self.curvature, self.minimum = curvature, minimum

    def train(self, weights: Any, context: TaskContext) -> Any:
        w = weights["w"]
        near = Proximal.of(context, [w])
        rate = 1 / (self.curvature + near.mu)
        for _ in range(context["steps"]):
            w = w - rate * 0.5 * (self.curvature * (w - self.minimum) + near.gradients([w])[0])
        return {"w": w}, {}, {"num_examples": 1}

    def evaluate(self, weights: Any, context: TaskContext) -> Any:
        return {}, 1


SITES = [Quadratic(10.0, 1.0), Quadratic(1.0, -5.0)]
OPTIMUM = (10.0 * 1.0 - 1.0 * 5.0) / 11.0
"""Of the sum of both losses."""


def federated(rounds: int, **parameters: Any) -> float:
    """The global weight after so many rounds of FedAvg over the sites, each run as a client runs it."""
    model = bytes(encode({"w": np.zeros(1)}))
    for index in range(rounds):
        total = FedAvg().start(read_spec(model))
        for number, site in enumerate(SITES):
            context = TaskContext(
                session="s", round=index, client=str(number), kind="train", parameters={"steps": 60, **parameters}
            )
            coding = TaskCoding(CodingRequest(session="s", round=index, task_id="t"), bytearray(model))
            update = execute(site, context, coding, validate_incoming=False).tensors
            data = encode(dict(update.items())) if isinstance(update, dict) else update
            total.add(data, read_spec(data), 1.0)
        model = bytes(combine([(whole_result(total), total.weight)], read_spec(model)))
    return float(decode(model)["w"][0])


def test_sites_that_train_long_drift_and_the_penalty_holds_them() -> None:
    # Each site reaches the minimum of its own loss and penalty, so the fixed point has a closed form.
    assert federated(3) == pytest.approx((1.0 - 5.0) / 2)
    mu = 20.0
    weights = np.array([site.curvature / (site.curvature + mu) for site in SITES])
    fixed = float(weights @ [site.minimum for site in SITES] / weights.sum())
    found = federated(120, proximal_mu=mu)
    assert found == pytest.approx(fixed, abs=1e-4)
    assert abs(found - OPTIMUM) < 0.2 * abs(-2.0 - OPTIMUM)


def test_a_bad_parameter_of_the_plan_fails_the_task_with_its_name() -> None:
    with pytest.raises(InvalidInput, match="proximal_mu"):
        federated(1, proximal_mu=-1)
