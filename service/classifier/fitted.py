"""A set of classes made ready: what each part makes of a text, and what each part is worth.

Parts are scored on one scale. `similarity` and `ngrams` are kernel scores (`kernels`), `likelihood` is nats
of the model (`likelihood`), brought to the spread of the similarity. From both kernel scores a label's
average over left-out examples is subtracted: nothing is gained by being close to everything.

The likelihood costs thousands of times as much as the other two, so it has to earn its place: on a sample of
left-out examples it must lower the log-loss by more than one standard error, else it is left aside.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ingest.embed import Embedder
from service.classifier import mixture
from service.classifier.examples import Classes, shortened
from service.classifier.kernels import Floats, Grams, Integers, Similarity
from service.classifier.likelihood import Likelihood

Use = Literal["auto", "on", "off"]
#: Most examples that are left out in turn, those of them that the model is asked about, those of it first.
LEFT_OUT, ASKED, FIRST_ASKED = 512, 16, 6
#: More labels than these are not scored by the model unless asked for.
MOST_SCORED = 100


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What the mixture makes of examples that it was not given."""

    examples: int
    accuracy: float
    log_loss: float


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the likelihood takes part, and why."""

    used: bool
    reason: str
    weights: Floats  #: (2,) or, with the likelihood, (3,)
    spread: float = 1.0  #: by which the likelihood's nats are divided
    gain: float = 0.0  #: nats a left-out example, by the likelihood


class Vectors:
    """The examples' vectors: what both kernel parts and the choice of examples work with."""

    def __init__(self, classes: Classes, embedder: Embedder) -> None:
        self.classes, self._embedder, self.embedder_id = classes, embedder, embedder.id
        flat = classes.flat
        self.texts = [text for text, _ in flat] + classes.names
        self.right: Integers = np.array([at for _, at in flat], dtype=np.int64)
        belongs = np.concatenate([self.right, np.arange(len(classes.labels))])
        self.similarity = Similarity(self.encoded(self.texts), belongs, len(classes.labels))
        self.grams = Grams(self.texts, belongs, len(classes.labels))
        step = max(1, -(-len(flat) // LEFT_OUT))
        self.rows = list(range(0, len(flat), step))
        left_out = [self.similarity.left_out(self.rows), self.grams.left_out(self.rows)]
        self.averages = [self._average(part) for part in left_out]
        self.parts = np.stack([part - mean for part, mean in zip(left_out, self.averages, strict=True)])
        self.weights = self._fitted()

    def encoded(self, texts: Sequence[str]) -> Floats:
        """(n, d) vectors; a text that is longer than the embedder reads gives its head and tail."""
        return self._embedder.encode_queries([self._short(text) for text in texts]).astype(np.float64)

    def shortens(self, text: str) -> bool:
        """Whether the embedder does not read all of a text."""
        return self._short(text) != text

    def _short(self, text: str) -> str:
        most = self._embedder.max_tokens - 8  # a query's prompt may be longer than a passage's
        return shortened(text, most, lambda t: self._embedder.count_tokens([t])[0])

    def kernels(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """Both kernel parts, (2, n, labels), and the cosines to the examples, (n, examples)."""
        vectors = self.encoded(texts)
        found = [self.similarity.scores(vectors), self.grams.scores(texts)]
        parts = np.stack([part - mean for part, mean in zip(found, self.averages, strict=True)])
        return parts, self.similarity.cosines(vectors)[:, : len(self.right)]

    def order(self, cosines: Floats) -> list[int]:
        """Examples by nearness, the nearest first."""
        return [int(row) for row in np.argsort(-cosines, kind="stable")]

    def left_out_order(self, row: int) -> list[int]:
        """The other examples by nearness to this one."""
        units = self.similarity.units[: len(self.right)]
        return [other for other in self.order(units @ units[row]) if other != row]

    def _average(self, scores: Floats) -> Floats:
        """A label's score, averaged over labels and then over texts: many texts of one label count once."""
        right = self.right[self.rows]
        if not len(right):
            return np.zeros(len(self.classes.labels))
        means: Floats = np.stack([scores[right == at].mean(axis=0) for at in np.unique(right)]).mean(axis=0)
        return means

    def _fitted(self) -> Floats:
        return mixture.fit(self.parts, self.right[self.rows])


def measured(parts: Floats, weights: Floats, right: Integers) -> LeftOut | None:
    """Accuracy and log-loss of the mixture on left-out examples; None where there are none."""
    if not len(right):
        return None
    logs = mixture.log_probabilities(parts, weights)
    losses = mixture.log_losses(parts, weights, right)
    return LeftOut(len(right), float((logs.argmax(axis=1) == right).mean()), float(losses.mean()))


def settled(vectors: Vectors, use: Use) -> Decision | None:
    """The decision, where it needs no model."""
    if use == "off":
        return Decision(False, "not asked for", vectors.weights)
    if use == "on":
        return None
    labels = len(vectors.classes.labels)
    if labels > MOST_SCORED:
        return Decision(False, f"left aside: more than {MOST_SCORED} labels", vectors.weights)
    before = measured(vectors.parts, vectors.weights, vectors.right[vectors.rows])
    if before is not None and before.accuracy == 1.0 and before.examples >= 4 * labels:
        why = "left aside: without it every left-out example is right"
        return Decision(False, why, vectors.weights)
    return None


def decide(vectors: Vectors, likelihood: Likelihood | None, use: Use, cancel: threading.Event) -> Decision:
    """Whether the likelihood takes part, and the weights of all that do.

    Raises:
        Cancelled: the event was set while the model was at work.
    """
    right = vectors.right[vectors.rows]
    if (found := settled(vectors, use)) is not None:
        return found
    if likelihood is None:
        return Decision(False, "not asked for", vectors.weights)
    if not likelihood.fits:
        return Decision(
            False, "left aside: the labels and a text do not fit the model's window", vectors.weights
        )
    sample = _sample(len(vectors.rows))
    if not sample:
        weights = np.append(vectors.weights, vectors.weights.mean())
        return Decision(True, "used: no example is there that could tell", weights, 5.0)
    nats: list[Floats] = []
    found = Decision(False, "not asked for", vectors.weights)
    for enough in (min(FIRST_ASKED, len(sample)), len(sample)):
        for at in sample[len(nats) : enough]:
            row = vectors.rows[at]
            shown = likelihood.shown(vectors.left_out_order(row), without=row)
            nats.append(likelihood.scores(vectors.texts[row], shown, cancel))
        some = sample[:enough]
        found = weigh(vectors.parts[:, some], vectors.weights, np.array(nats), right[some], use)
        if use == "auto" and found.gain <= 0:
            break  # it began badly, and every further example costs seconds
    return found


def weigh(parts: Floats, weights: Floats, nats: Floats, right: Integers, use: Use) -> Decision:
    """Compare the mixture with and without the likelihood on the same left-out examples.

    Args:
        parts: (2, n, labels) of the sample.
        weights: (2,) fitted on all left-out examples.
        nats: (n, labels) of the model.
        right: (n,) labels.
        use: "on" takes it even if it does not help.
    """
    spread = _spread(nats) / max(_spread(parts[0]), 1e-9)
    spread = spread if spread > 1e-9 else 1.0
    three = np.concatenate([parts, (nats / spread)[None]])
    towards = np.append(weights, weights.mean())
    fitted = mixture.fit(three, right, towards)
    gains = np.empty(len(right))
    for at in range(len(right)):
        others = np.arange(len(right)) != at
        tried = mixture.fit(three[:, others], right[others], towards)
        one = slice(at, at + 1)
        refitted = mixture.fit(parts[:, others], right[others], weights)  # or the fit alone would be a gain
        without = mixture.log_losses(parts[:, one], refitted, right[one])[0]
        gains[at] = without - mixture.log_losses(three[:, one], tried, right[one])[0]
    error = float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else np.inf
    figures = (
        f"it changes the log-loss by {-gains.mean():+.3f} (standard error {error:.3f}) on {len(gains)} "
        "left-out examples"
    )
    if use == "on" or gains.mean() > error:
        return Decision(True, f"used: {figures}", fitted, spread, float(gains.mean()))
    return Decision(False, f"left aside, it only costs time: {figures}", weights, gain=float(gains.mean()))


def _sample(count: int) -> list[int]:
    """At most ASKED of so many, evenly spread."""
    step = max(1.0, count / ASKED)
    return [int(at * step) for at in range(min(count, ASKED))]


def _spread(scores: Floats) -> float:
    """How far labels lie apart within a text."""
    return float(np.sqrt(((scores - scores.mean(axis=-1, keepdims=True)) ** 2).mean()))
