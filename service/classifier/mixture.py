"""How much each part is worth: a multinomial logistic over the parts' scores, fitted on left-out examples.

    log P(label) = sum over parts of weight * score(part, label)  - log of the sum over labels

The weights carry the temperature too: they are maximum likelihood on examples that were left out, so the
probabilities mean what they say. A penalty pulls them towards the same weight for every part, which few
examples cannot move and many can. Weights are never negative: a part may be worth nothing, not less.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from service.classifier.kernels import Floats, Integers

#: How hard the penalty pulls, in nats for weights that are off by 100%.
PULL = 1.0
#: What the parts' weights come to together where there are examples enough: 2.5 to 8 on three data sets.
USUAL = 4.0


def log_probabilities(parts: Floats, weights: Floats) -> Floats:
    """(parts, n, labels) scores to (n, labels) log-probabilities."""
    found: Floats = log_softmax(np.tensordot(weights, parts, axes=1), axis=-1)
    return found


def log_losses(parts: Floats, weights: Floats, right: Integers) -> Floats:
    """Minus the log-probability of the right label, (n,)."""
    found: Floats = -log_probabilities(parts, weights)[np.arange(len(right)), right]
    return found


def fit(parts: Floats, right: Integers, towards: Floats | None = None) -> Floats:
    """Weights of the parts.

    Args:
        parts: (parts, n, labels) scores of examples that were left out.
        right: (n,) their labels.
        towards: what few examples leave the weights at; by default the one weight for all parts that fits.

    Returns:
        (parts,) weights, none negative.
    """
    count = len(parts)
    if towards is None:
        towards = np.full(count, _one_scale(parts.mean(axis=0), right) / count)
    if not len(right):
        return towards
    from scipy.optimize import minimize  # here: 20 MB that a service which classifies nothing need not hold

    unit = np.maximum(towards, 1e-3)

    def objective(relative: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = relative * unit
        logs = log_probabilities(parts, weights)
        rows = np.arange(len(right))
        expected = (np.exp(logs)[None] * parts).sum(axis=-1)
        slope = (expected - parts[:, rows, right]).sum(axis=1) * unit
        loss = -logs[rows, right].sum() + PULL * ((relative - 1) ** 2).sum()
        return float(loss), slope + 2 * PULL * (relative - 1)

    found = minimize(objective, np.ones(count), jac=True, method="L-BFGS-B", bounds=[(0, 20)] * count)
    weights: Floats = found.x * unit
    return weights


def _one_scale(scores: Floats, right: Integers) -> float:
    """One factor for all scores, with a weak pull towards USUAL that keeps it finite when all are right."""
    if not len(right):
        return USUAL
    from scipy.optimize import minimize

    def objective(log_scale: NDArray[np.float64]) -> float:
        logs = log_softmax(np.exp(log_scale[0]) * scores, axis=-1)
        return float(-logs[np.arange(len(right)), right].sum() + 0.5 * (log_scale[0] - np.log(USUAL)) ** 2)

    return float(
        np.exp(minimize(objective, np.full(1, np.log(USUAL)), bounds=[(-4, 4)], method="L-BFGS-B").x[0])
    )
