"""How near a text is to each label's examples: one kernel rule over two kinds of vectors.

A label's score is the log of the mean of exp(SHARPNESS * cosine) over its examples, so all of them speak and
the nearest speak loudest. The mean keeps a label with many examples from winning by number. A label's name
stands among its examples, so a label without examples has one thing to be near to.

Vectors are the embedder's, moved so that the mean of the labels' means is the origin (a multilingual
embedder puts every text into one narrow cone), or character 1- to 4-grams within words, weighted by tf-idf.

`left_out` is exact: the example is gone from its label, from the origin and from the document frequencies.
N-grams that no example has still count in a text's length: were they dropped, as a vocabulary drops them, an
unseen text would score higher than a left-out example, and weights fitted on one would not fit the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Flat between 5 and 12 on headlines, bank requests and short messages; see benchmarks/log.md.
SHARPNESS = 8.0
GRAMS, HASHES = (1, 4), 2**18


def label_scores(cosines: Floats, belongs: Integers, labels: int, left_out: int | None = None) -> Floats:
    """Log mean exp(SHARPNESS * cosine) over each label's examples.

    Args:
        cosines: (texts, examples).
        belongs: (examples,) the label of each; every label has at least one.
        labels: how many labels there are.
        left_out: an example that is not there.

    Returns:
        (texts, labels).
    """
    weights = np.exp(SHARPNESS * (cosines - 1.0))
    members = np.zeros((len(belongs), labels))
    members[np.arange(len(belongs)), belongs] = 1.0
    if left_out is not None:
        members[left_out] = 0.0
    scores: Floats = np.log(weights @ members / members.sum(axis=0)) + SHARPNESS
    return scores


def origin(vectors: Floats, belongs: Integers, labels: int, left_out: int | None = None) -> Floats:
    """The mean of the labels' means, (d,)."""
    members = np.zeros((labels, len(belongs)))
    members[belongs, np.arange(len(belongs))] = 1.0
    if left_out is not None:
        members[:, left_out] = 0.0
    means: Floats = members @ vectors / members.sum(axis=1, keepdims=True)
    middle: Floats = means.mean(axis=0)
    return middle


def directions(vectors: Floats, middle: Floats) -> Floats:
    """Unit vectors as seen from `middle`; one that lies there has no direction and stays 0."""
    moved = vectors - middle
    lengths = np.linalg.norm(moved, axis=-1, keepdims=True)
    units: Floats = np.divide(moved, lengths, out=np.zeros_like(moved), where=lengths > 1e-9)
    return units


class Similarity:
    """The embedder's vectors of all examples, and what a text scores against them."""

    def __init__(self, vectors: Floats, belongs: Integers, labels: int) -> None:
        self._vectors, self._belongs, self._labels = vectors, belongs, labels
        self._middle = origin(vectors, belongs, labels)
        self.units = directions(vectors, self._middle)

    def scores(self, texts: Floats) -> Floats:
        """(n, d) vectors to (n, labels)."""
        return label_scores(self.cosines(texts), self._belongs, self._labels)

    def cosines(self, texts: Floats) -> Floats:
        """(n, d) vectors to (n, examples)."""
        found: Floats = directions(texts, self._middle) @ self.units.T
        return found

    def left_out(self, rows: Sequence[int]) -> Floats:
        """What each of these examples would score if it were not one: (rows, labels)."""
        found = np.empty((len(rows), self._labels))
        for at, row in enumerate(rows):
            middle = origin(self._vectors, self._belongs, self._labels, row)
            cosines = directions(self._vectors[row : row + 1], middle) @ directions(self._vectors, middle).T
            found[at] = label_scores(cosines, self._belongs, self._labels, row)[0]
        return found


class Grams:
    """Character n-grams of all examples, and what a text scores against them."""

    def __init__(self, texts: Sequence[str], belongs: Integers, labels: int) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer  # a second of imports

        self._belongs, self._labels = belongs, labels
        self._hash = HashingVectorizer(
            analyzer="char_wb", ngram_range=GRAMS, n_features=HASHES, norm=None, alternate_sign=False
        )
        self._counts = self._counted(texts)
        self._documents = np.bincount(self._counts.indices, minlength=HASHES).astype(np.float64)
        self._examples = self._weighted(self._counts, self._documents, len(belongs))

    def scores(self, texts: Sequence[str]) -> Floats:
        """(n,) texts to (n, labels)."""
        asked = self._weighted(self._counted(texts), self._documents, len(self._belongs))
        return label_scores((asked @ self._examples.T).toarray(), self._belongs, self._labels)

    def left_out(self, rows: Sequence[int]) -> Floats:
        """What each of these examples would score if it were not one: (rows, labels)."""
        found = np.empty((len(rows), self._labels))
        for at, row in enumerate(rows):
            documents = self._documents.copy()
            documents[self._counts[row].indices] -= 1
            units = self._weighted(self._counts, documents, len(self._belongs) - 1)
            cosines = (units[row] @ units.T).toarray()
            found[at] = label_scores(cosines, self._belongs, self._labels, row)[0]
        return found

    def _counted(self, texts: Sequence[str]) -> Any:
        """(n, HASHES) sparse, 1 + log of how often each n-gram stands in each text."""
        counts = self._hash.transform(texts)
        counts.data = 1.0 + np.log(counts.data)
        return counts

    @staticmethod
    def _weighted(counts: Any, documents: Floats, total: int) -> Any:
        """Times inverse document frequency, to unit length; an n-gram that no example has counts, too."""
        units = counts.copy()
        units.data *= np.log((1.0 + total) / (1.0 + documents[units.indices])) + 1.0
        lengths = np.sqrt(np.asarray(units.multiply(units).sum(axis=1)).ravel())
        units.data /= np.repeat(np.maximum(lengths, 1e-9), np.diff(units.indptr))
        return units
