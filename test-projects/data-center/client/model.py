"""A network in plain NumPy: 6 features, 16 hidden units of tanh, one output. Weights are named arrays."""

import numpy as np
from data import FEATURES

HIDDEN = 16

Weights = dict[str, np.ndarray]


def new_weights(seed: int) -> Weights:
    """Glorot's uniform weights; equal seeds give equal ones, to the bit."""
    draw = np.random.default_rng(seed)

    def layer(inputs: int, outputs: int) -> np.ndarray:
        return (draw.uniform(-1, 1, (inputs, outputs)) * np.sqrt(6 / (inputs + outputs))).astype(np.float32)

    return {
        "hidden/weights": layer(len(FEATURES), HIDDEN),
        "hidden/bias": np.zeros(HIDDEN, np.float32),
        "out/weights": layer(HIDDEN, 1),
        "out/bias": np.zeros(1, np.float32),
    }


def predict(weights: Weights, features: np.ndarray) -> np.ndarray:
    """Features (n, 6) to scaled powers (n,)."""
    return _forward(weights, features)[1]


def gradients(weights: Weights, features: np.ndarray, power: np.ndarray) -> tuple[float, Weights]:
    """Half the mean squared error over a batch, and its gradients."""
    hidden, predicted = _forward(weights, features)
    error = predicted - power
    out = (error / len(power))[:, np.newaxis]
    back = out @ weights["out/weights"].T * (1 - hidden**2)
    return float(np.mean(error**2) / 2), {
        "hidden/weights": features.T @ back,
        "hidden/bias": back.sum(axis=0),
        "out/weights": hidden.T @ out,
        "out/bias": out.sum(axis=0),
    }


def _forward(weights: Weights, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hidden = np.tanh(features @ weights["hidden/weights"] + weights["hidden/bias"])
    return hidden, (hidden @ weights["out/weights"] + weights["out/bias"])[:, 0]
