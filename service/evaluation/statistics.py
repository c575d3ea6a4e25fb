"""Intervals, risk and calibration, vectorised and seeded.

- Paired bootstrap (Efron 1979; percentile intervals): all modes see the same resamples of the questions, so a
  difference is not blurred by some questions being harder than others.
- Risk-coverage (El-Yaniv and Wiener 2010): answer only the most confident share of questions; which share of
  those is wrong? Questions of equal confidence cannot be ranked, so they share their mean error.
- Expected calibration error (arXiv 1706.04599): ten bins of equal width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 10_000
SEED = 20_261_122
#: Resamples that are drawn at a time: bounds the memory for long question lists.
BLOCK = 500
BINS = 10


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95% interval."""

    mean: float
    low: float
    high: float


def bootstrap_means(values: Floats, resamples: int = RESAMPLES, seed: int = SEED) -> Floats:
    """Means of resampled rows: `values` (n questions, m figures) -> (resamples, m), all columns paired.

    A column's NaN is a question that the figure does not concern: it is left out of that column's means; a
    resample in which none is left has the mean of all.
    """
    n = len(values)
    draw = np.random.default_rng(seed)
    there = ~np.isnan(values)
    filled = np.where(there, values, 0.0)
    counted = there.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = filled.sum(axis=0) / counted.sum(axis=0)
    blocks = []
    for start in range(0, resamples, BLOCK):
        weights = draw.multinomial(n, np.full(n, 1 / n), size=min(BLOCK, resamples - start)).astype(
            np.float64
        )
        totals, counts = weights @ filled, weights @ counted
        blocks.append(np.where(counts > 0, totals / np.maximum(counts, 1.0), whole))
    return np.concatenate(blocks)


def intervals(values: Floats, resamples: int = RESAMPLES, seed: int = SEED) -> list[Interval | None]:
    """Mean and 95% percentile interval of every column of (n, m); None where a column has no value."""
    if len(values) == 0:
        return [None] * values.shape[1]
    means = bootstrap_means(values, resamples, seed)
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    found: list[Interval | None] = []
    for column in range(values.shape[1]):
        own = values[:, column]
        own = own[~np.isnan(own)]
        found.append(
            Interval(float(own.mean()), float(low[column]), float(high[column])) if len(own) else None
        )
    return found


def differences(
    ours: Floats, theirs: Floats, resamples: int = RESAMPLES, seed: int = SEED
) -> list[Interval | None]:
    """`ours` less `theirs`, column by column, both (n, m) over the same questions in the same order."""
    return intervals(ours - theirs, resamples, seed)


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """Points of the curve, from the most confident question on, and the area under it."""

    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    area: float


def risk_coverage(confidence: Floats, wrong: Floats) -> RiskCoverage:
    """The curve over n questions: (n,) confidences, (n,) errors of 0 or 1 (or shares)."""
    n = len(confidence)
    if n == 0:
        return RiskCoverage((), (), float("nan"))
    _, group = np.unique(-confidence, return_inverse=True)
    shared = np.bincount(group, weights=wrong) / np.bincount(group)
    errors = np.sort(group)  # groups in the order of falling confidence
    risk = np.cumsum(shared[errors]) / np.arange(1, n + 1)
    coverage = np.arange(1, n + 1) / n
    return RiskCoverage(tuple(coverage.tolist()), tuple(risk.tolist()), float(risk.mean()))


@dataclass(frozen=True, slots=True)
class Bin:
    """Questions of like confidence."""

    confidence: float  #: their mean confidence
    right: float  #: the share that is right
    count: int


def calibration(confidence: Floats, right: Floats, bins: int = BINS) -> tuple[list[Bin], float]:
    """The bins that are not empty, and the expected calibration error (NaN without questions)."""
    n = len(confidence)
    if n == 0:
        return [], float("nan")
    place = np.clip((confidence * bins).astype(np.int64), 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    filled = counts > 0
    mean = np.bincount(place, weights=confidence, minlength=bins)[filled] / counts[filled]
    share = np.bincount(place, weights=right, minlength=bins)[filled] / counts[filled]
    error = float((counts[filled] / n * np.abs(mean - share)).sum())
    rows = zip(mean.tolist(), share.tolist(), counts[filled].tolist(), strict=True)
    return [Bin(c, r, int(k)) for c, r, k in rows], error
