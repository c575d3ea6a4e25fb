"""Approximate nearest neighbours for a large collection: FAISS inverted lists of one byte a dimension.

Exact search reads every vector; at a million passages that is 1.5 GB in memory and a second of work. Here the
vectors are sorted into about 2 * sqrt(n) lists around k-means centroids (IVF: Sivic & Zisserman 2003), one
byte a dimension, and a question reads the nearest lists only. FAISS merely proposes candidates: their true
cosines come from the stored vectors, so scores and order are those of exact search and only a passage that
stands in an unread list can be missed.

How many lists are read is measured, never assumed: `build` compares with exact search over the whole
collection and reads as many lists as reach `AIM` of the true ten nearest; an index below `LEAST_RECALL` is
never used. Its questions are harder than most: beside stored vectors, some lie half-way between two, where
lists border on each other, and some are half noise, as a question can be unlike any passage.

The ids in the FAISS index are chunk ids; deleted ones are masked while it searches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]

#: An index that finds less of the true ten nearest is not used.
LEAST_RECALL = 0.98
#: What `build` aims at: the sample's own error must not bring a served index below `LEAST_RECALL`.
AIM = 0.99
_NEIGHBOURS = 10
_QUESTIONS = 256
_SAME_SCORE = 1e-6
_TRAINING_A_LIST = 64  # FAISS warns below 39; more costs time and moves recall little


@dataclass(frozen=True)
class Approximate:
    """A trained index and which of its rows are gone; shared by threads, never changed."""

    name: str  #: of the snapshot it belongs to
    generation: int  #: of that snapshot
    index: Any  #: faiss.IndexIVFScalarQuantizer over chunk ids
    highest_id: int
    probes: int  #: lists that a search reads
    gone: Ids  #: ascending

    @property
    def rows(self) -> int:
        """How many rows the index was built with."""
        return int(self.index.ntotal)

    @property
    def living(self) -> int:
        """How many of them are still there."""
        return self.rows - len(self.gone)

    @cached_property
    def _selector(self) -> Any:
        import faiss

        return faiss.IDSelectorNot(faiss.IDSelectorBatch(self.gone)) if len(self.gone) else None

    def without(self, gone: Ids) -> Approximate:
        """The same index with these rows masked as well; ids that it does not hold are above `highest_id`."""
        gone = gone[gone <= self.highest_id]
        return replace(self, gone=np.union1d(self.gone, gone)) if len(gone) else self

    def ids(self) -> Ids:
        """All living chunk ids, ascending."""
        living: Ids = np.setdiff1d(stored_ids(self.index), self.gone, assume_unique=True)
        return living

    def candidates(self, vector: Vectors, k: int, only: Ids | None = None) -> Ids:
        """Chunk ids among which the k nearest to `vector` ((d,), unit) very probably are.

        Of few rows that may be found, as many are looked at as of many: more lists are read then.
        """
        import faiss

        selector, living = self._selector, self.living
        if only is not None:
            only = np.setdiff1d(only[only <= self.highest_id], self.gone, assume_unique=True)
            selector, living = faiss.IDSelectorBatch(only), len(only)
        if not living:
            return np.empty(0, np.int64)
        ask = min(depth(k), living)
        lists = int(self.index.nlist)
        probes = min(lists, math.ceil(self.probes * self.rows / living))
        while True:
            found: Ids = propose(self.index, vector.reshape(1, -1), ask, probes, selector)[0]
            if len(proposed := found[found >= 0]) == ask or probes == lists:
                return proposed
            probes = min(2 * probes, lists)  # the lists that were read hold fewer


def depth(k: int) -> int:
    """Candidates for k hits: rounding to bytes moves rows past each other by a few places."""
    return k + k // 2 + 16


def stored_ids(index: Any) -> Ids:
    """All ids in an inverted-file index, ascending."""
    import faiss

    lists = index.invlists
    parts = [
        faiss.rev_swig_ptr(lists.get_ids(n), lists.list_size(n)).copy()
        for n in range(lists.nlist)
        if lists.list_size(n)
    ]
    return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)


def propose(index: Any, vectors: Vectors, ask: int, probes: int, selector: Any = None) -> Ids:
    """(n, ask) chunk ids, -1 where the lists read hold no more."""
    import faiss

    parameters = faiss.SearchParametersIVF(nprobe=probes, sel=selector)  # type: ignore[call-arg, unused-ignore]
    found: Ids = index.search(np.ascontiguousarray(vectors), ask, params=parameters)[1]
    return found


@dataclass(frozen=True, slots=True)
class Built:
    """A new index and what was measured of it."""

    index: Any
    probes: int
    recall: float


def build(
    ids: Ids,
    dimension: int,
    blocks: Callable[[], Iterable[tuple[Ids, Vectors]]],
    fetch: Callable[[Sequence[int]], Vectors],
    seed: int,
) -> Built:
    """Train, fill and measure an index; whether its recall is enough is for the caller to look at.

    Args:
        ids: all chunk ids, ascending, at least 39.
        dimension: of the vectors.
        blocks: all ids and vectors once more, in blocks.
        fetch: the vectors of these ids.
        seed: of the samples; the same gives the same index.
    """
    import faiss

    random = np.random.default_rng(seed)
    lists = max(1, min(int(2 * math.sqrt(len(ids))), len(ids) // 39))
    quantizer = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, dimension, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.seed = seed & 0x7FFFFFFF
    index.cp.max_points_per_centroid = _TRAINING_A_LIST
    training = random.choice(ids, min(len(ids), _TRAINING_A_LIST * lists), replace=False)
    index.train(fetch(np.sort(training).tolist()))

    questions = _questions(random, ids, fetch)
    best = _Best(questions)
    for some, matrix in blocks():
        index.add_with_ids(np.ascontiguousarray(matrix), np.ascontiguousarray(some))
        best.see(matrix)

    probes = 1
    while True:
        found = propose(index, questions, min(depth(_NEIGHBOURS), len(ids)), probes)
        recall = best.recall(found, fetch)
        if recall >= AIM or probes == lists:
            return Built(index, probes, recall)
        probes = min(2 * probes, lists)


def _questions(random: np.random.Generator, ids: Ids, fetch: Callable[[Sequence[int]], Vectors]) -> Vectors:
    """A third of them stored vectors, a third half-way between two, a third half noise; (n, d), unit."""
    ones, others = (fetch(random.choice(ids, _QUESTIONS).tolist()) for _ in range(2))
    ones[::3] += others[::3]
    noise = random.standard_normal(ones[1::3].shape)
    ones[1::3] += noise / np.linalg.norm(noise, axis=1, keepdims=True)
    length = np.linalg.norm(ones, axis=1, keepdims=True)
    return np.where(length > 1e-3, ones / np.maximum(length, 1e-3), others).astype(np.float32)


class _Best:
    """The true ten best scores of each question, collected block by block."""

    def __init__(self, questions: Vectors) -> None:
        self._questions = questions
        self._scores = np.full((len(questions), 0), -np.inf, np.float32)

    def see(self, matrix: Vectors) -> None:
        scores = np.concatenate([self._scores, self._questions @ matrix.T], axis=1)
        keep = min(_NEIGHBOURS, scores.shape[1])
        self._scores = np.partition(scores, scores.shape[1] - keep, axis=1)[:, -keep:]

    def recall(self, found: Ids, fetch: Callable[[Sequence[int]], Vectors]) -> float:
        """Share of the true ten (any rows as near as the tenth) among `found`, -1 for none."""
        needed = np.unique(found[found >= 0])
        vectors = fetch(needed.tolist())
        tenth = self._scores.min(axis=1) - _SAME_SCORE
        rows = np.searchsorted(needed, found.clip(min=0)).clip(max=len(needed) - 1)
        scores = np.einsum("qd,qnd->qn", self._questions, vectors[rows])
        good = ((scores >= tenth[:, None]) & (found >= 0)).sum(axis=1)
        return float(np.minimum(good, self._scores.shape[1]).mean() / self._scores.shape[1])
