"""From what is known of an answer to the probability that it is right, and back to a threshold.

    z = bias + weights . features            logistic regression over candidates: which of them is right?
    p = 1 / (1 + exp(-(scale z + shift)))    over the chosen ones, since the best of several looks too good
    p = 0                                    where a feature stays under its `least`

A `least` is there for what no other feature may outweigh: a passage that the model says does not tell.

A calibrator is a small JSON file. The shipped one was fitted on articles that the reading adapter was not
trained on (`benchmarks/reading_calibration.py`); a collection may have its own (`reading.calibrators`). It
keeps its risk-coverage curve, so an acceptable rate of wrong answers becomes a threshold.

Where there are few questions, weights are pulled towards those of another calibrator (`fit(prior=...)`): a
ridge penalty around them, which is a normal prior; what few questions do not say stays as it was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from service.errors import ServiceError

SHIPPED = Path(__file__).with_name("calibrator.json")
#: Of the generator without the span reader beside it.
ALONE = Path(__file__).with_name("calibrator_alone.json")
#: Of both readers, for questions as people type them.
TYPED = Path(__file__).with_name("calibrator_typed.json")
#: Steps of Newton's method, and where it has arrived.
STEPS, ARRIVED = 100, 1e-9
#: Share of equal values from which on a feature tells too little to be weighed by its own spread.
NEARLY_CONSTANT = 0.99
#: Penalty around a prior's weights: so much evidence for each of them as some ten questions bring.
PULL = 10.0
BINS = 15

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """From which probability on an answer is given, and what was seen there when the calibrator was made."""

    threshold: float
    expected_error: float | None = None  #: share of the answers that were wrong; None: not known
    coverage: float | None = None  #: share of the questions that were answered; None: not known
    acceptable_error: float | None = None  #: what was asked for; None: the calibrator's own point


@dataclass(frozen=True, slots=True)
class Calibrator:
    """Probabilities of being right, for candidates described by these features."""

    name: str  #: "shipped", or the collection that it was fitted on
    features: tuple[str, ...]
    weights: tuple[float, ...]
    bias: float
    threshold: float  #: the operating point: below it an answer is refused
    scale: float = 1.0
    shift: float = 0.0
    curve: tuple[tuple[float, float, float], ...] = ()  #: threshold, coverage, risk; from strict to lenient
    questions: int = 0  #: that the curve stands on
    least: dict[str, float] = field(default_factory=dict)  #: features that a candidate must have so much of
    made_for: dict[str, str] = field(default_factory=dict)  #: fingerprints of `reader` and `embedder`
    fitted: dict[str, Any] = field(default_factory=dict)  #: on what, and how well; for people

    def probability(self, features: Sequence[float]) -> float:
        """That a candidate with these features is right, 0 to 1."""
        if not self.hears(features):
            return 0.0
        z = self.bias + sum(w * f for w, f in zip(self.weights, features, strict=True))
        return _sigmoid(self.scale * z + self.shift)

    def hears(self, features: Sequence[float]) -> bool:
        """Whether a candidate with these features may be given at all."""
        return all(features[self.features.index(name)] >= least for name, least in self.least.items())

    def threshold_for(self, error_rate: float) -> float:
        """The threshold that answers most while at most this share of the answers was wrong.

        One more wrong answer is counted than was seen (Angelopoulos et al., arXiv 2208.02814), so that a few
        right ones prove nothing. Above every probability, 1.0, where no threshold was as good; the operating
        point where there is no curve.
        """
        if not self.curve:
            return self.threshold
        fitting = [
            (coverage, threshold)
            for threshold, coverage, risk in self.curve
            if self._cautious(coverage, risk) <= error_rate
        ]
        return max(fitting)[1] if fitting else 1.0

    def operating_point(self, acceptable_error: float | None = None) -> OperatingPoint:
        """The threshold for an acceptable share of wrong answers, or the calibrator's own."""
        threshold = self.threshold if acceptable_error is None else self.threshold_for(acceptable_error)
        last = [(coverage, risk) for at, coverage, risk in self.curve if at >= threshold - 1e-9]
        if not last or threshold >= 1.0:
            return OperatingPoint(threshold, None, 0.0 if self.curve else None, acceptable_error)
        return OperatingPoint(threshold, last[-1][1], last[-1][0], acceptable_error)

    def _cautious(self, coverage: float, risk: float) -> float:
        answers = coverage * self.questions
        return (risk * answers + 1) / (answers + 1) if self.questions else risk

    @classmethod
    def load(cls, file: Path = SHIPPED, *, features: Sequence[str] | None = None) -> Self:
        """Read one.

        Raises:
            ServiceError: it cannot be read, or is for other features.
        """
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            made = cls(
                name=str(stored["name"]),
                features=tuple(stored["features"]),
                weights=tuple(float(w) for w in stored["weights"]),
                bias=float(stored["bias"]),
                threshold=float(stored["threshold"]),
                scale=float(stored.get("scale", 1.0)),
                shift=float(stored.get("shift", 0.0)),
                curve=tuple((float(t), float(c), float(r)) for t, c, r in stored.get("curve", ())),
                questions=int(stored.get("questions", 0)),
                least={str(k): float(v) for k, v in stored.get("least", {}).items()},
                made_for={str(k): str(v) for k, v in stored.get("made_for", {}).items()},
                fitted=dict(stored.get("fitted", {})),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServiceError(f"{file}: not a calibrator ({error!r}); make a new one") from error
        fits = len(made.weights) == len(made.features) and made.least.keys() <= set(made.features)
        if not fits or made.features != tuple(features or made.features):
            raise ServiceError(
                f"{file}: made for {', '.join(made.features)}, not for this version's; make a new one"
            )
        return made

    def save(self, file: Path) -> None:
        """Write it."""
        stored = {
            "name": self.name,
            "features": self.features,
            "weights": [round(w, 6) for w in self.weights],
            "bias": round(self.bias, 6),
            "scale": round(self.scale, 6),
            "shift": round(self.shift, 6),
            "threshold": round(self.threshold, 4),
            "questions": self.questions,
            "least": {name: round(least, 4) for name, least in self.least.items()},
            "made_for": self.made_for,
            "curve": [[round(value, 4) for value in point] for point in self.curve],
            "fitted": self.fitted,
        }
        draft = file.with_name(f".{file.name}.new")
        draft.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        draft.replace(file)  # whoever reads it meanwhile gets the old one or the new one, whole


def logistic(
    features: Floats, right: Floats, penalty: float = 1.0, around: tuple[Sequence[float], float] | None = None
) -> tuple[Floats, float]:
    """Weights and bias of a logistic regression with an L2 penalty on standardised features.

    Args:
        features: (n, d).
        right: (n,) 1 or 0.
        penalty: of a weight 1 away for a feature of standard deviation 1, in units of one example's loss.
        around: weights and bias that the penalty pulls to, the bias as well; weights of 0 without it.
    """
    mean, spread = features.mean(0), features.std(0)
    spread = np.where(spread > 1e-9 * (1.0 + np.abs(mean)), spread, 1.0)  # a constant's is rounding noise
    # What next to no example has (18 of 11,705, all of them wrong) would get any weight at no cost.
    rare = (features == np.median(features, axis=0)).mean(0) >= NEARLY_CONSTANT
    spread = np.where(rare, np.maximum(spread, np.ptp(features, axis=0) / 2), spread)
    x = np.hstack([(features - mean) / spread, np.ones((len(features), 1))])
    cost = np.full(x.shape[1], penalty)
    centre = np.zeros(x.shape[1])
    if around is None:
        cost[-1] = 1e-6
    else:
        weights = np.asarray(around[0], dtype=float)
        centre[:-1], centre[-1] = weights * spread, around[1] + weights @ mean
    w = centre.copy()

    def loss(w: Floats) -> float:
        z = x @ w
        return float((np.logaddexp(0, z) - right * z).sum() + (cost * (w - centre) ** 2).sum() / 2)

    for _ in range(STEPS):  # Newton's method; a step that overshoots is halved
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ w, -30, 30)))
        gradient = x.T @ (p - right) + cost * (w - centre)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + np.diag(cost)
        step = np.linalg.solve(hessian, gradient)
        before = loss(w)
        while loss(w - step) > before and np.abs(step).max() >= ARRIVED:
            step /= 2
        w = w - step
        if np.abs(step).max() < ARRIVED:
            break
    weights = w[:-1] / spread
    return weights, float(w[-1] - weights @ mean)


def fit(
    name: str,
    names: Sequence[str],
    questions: Sequence[Sequence[tuple[Sequence[float], bool]]],
    fitted: dict[str, Any] | None = None,
    *,
    prior: Calibrator | None = None,
    least: dict[str, float] | None = None,
) -> Calibrator:
    """A calibrator from questions, each with its candidates' features and whether they were right.

    Candidates that have too little of a feature in `least` teach nothing and are never given.

    A question without candidates is refused whatever the threshold, and counts as not answered. The threshold
    is 0.5; the caller may put another one in. With a `prior` of the same features, weights, scale and shift
    are pulled towards its own.

    Raises:
        ServiceError: all candidates are right, or all are wrong: nothing can be learned from that.
    """
    bare = Calibrator(name, tuple(names), (0.0,) * len(names), 0.0, 0.5, least=least or {})
    questions = [[c for c in candidates if bare.hears(c[0])] for candidates in questions]
    rows = [candidate for candidates in questions for candidate in candidates]
    right = np.array([float(ok) for _, ok in rows])
    if not rows or right.min() == right.max():
        raise ServiceError("a calibrator needs both right and wrong answers to learn from")
    table = np.array([list(f) for f, _ in rows], dtype=float)
    weights, bias = (
        logistic(table, right)
        if prior is None
        else logistic(table, right, PULL, around=(prior.weights, prior.bias))
    )
    first = Calibrator(name, tuple(names), tuple(map(float, weights)), bias, 0.5)
    chosen = [
        max(candidates, key=lambda c: first.probability(c[0])) for candidates in questions if candidates
    ]
    z = np.array([[bias + float(np.dot(weights, f))] for f, _ in chosen])
    ok = np.array([float(right) for _, right in chosen])
    if prior is not None:
        scale, shift = logistic(z, ok, PULL, around=((prior.scale,), prior.shift))
    else:
        scale, shift = logistic(z, ok, penalty=1e-3) if ok.min() < ok.max() else (np.ones(1), 0.0)
    second = Calibrator(
        name,
        first.features,
        first.weights,
        bias,
        threshold=0.5,
        scale=max(float(scale[0]), 1e-3),
        shift=shift,
        least=bare.least,
        fitted=fitted or {},
    )
    p = np.array([second.probability(f) for f, _ in chosen])
    curve = risk_coverage(p, ok, len(questions))
    return replace(second, curve=curve, questions=len(questions))


def risk_coverage(
    probabilities: Floats, right: Floats, questions: int | None = None, points: int = 40
) -> tuple[tuple[float, float, float], ...]:
    """Threshold, share of questions answered, share of the answers wrong; from strict to lenient."""
    if not len(probabilities):
        return ()
    order = np.argsort(-probabilities, kind="stable")
    p, wrong = probabilities[order], np.cumsum(1 - right[order])
    count = np.arange(1, len(p) + 1)
    last = np.flatnonzero(np.append(p[1:] != p[:-1], True))  # equal probabilities stand or fall together
    kept = last[np.unique(np.linspace(0, len(last) - 1, min(points, len(last))).round().astype(int))]
    total = len(p) if questions is None else questions
    return tuple((float(p[i]), float(count[i] / total), float(wrong[i] / count[i])) for i in kept)


def area(probabilities: Floats, right: Floats) -> float:
    """Area under the risk-coverage curve: the mean risk over all coverages; lower is better."""
    order = np.argsort(-probabilities, kind="stable")
    return float(np.mean(np.cumsum(1 - right[order]) / np.arange(1, len(order) + 1)))


def calibration_error(probabilities: Floats, right: Floats, bins: int = BINS) -> float:
    """Expected calibration error: mean distance of probability and share right, over bins of equal width."""
    which = np.minimum((probabilities * bins).astype(int), bins - 1)
    gaps = (abs(float((probabilities - right)[which == b].sum())) for b in range(bins))
    return sum(gaps) / max(1, len(probabilities))


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, x))))
