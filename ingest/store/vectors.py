"""Exact nearest neighbours over the vectors of one generation: FAISS flat indexes in memory.

The vectors belong to SQLite; this is a cache of them that can be thrown away at any moment. A `VectorIndex`
never changes once built, so searches in many threads share it while the next generation is made. It consists
of segments (each an `IndexFlatIP`): a new generation adds one small segment and marks deleted rows, and
neighbouring segments of like size are merged, so a publish costs what was published and there are never more
than about log2(n) of them.

FAISS finds the candidates; their cosines are then computed again row by row in float64. So equal vectors have
equal scores whatever segment they stand in, and ties break by chunk id, the same way in every process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]

#: Candidates beyond k: rounding in FAISS must not push out a row that belongs into the first k.
_SPARE = 16


@dataclass(frozen=True, slots=True)
class _Segment:
    ids: Ids  # ascending
    matrix: Vectors  # (n, d), a view into the index's own memory
    index: Any  # faiss.IndexFlatIP
    alive: NDArray[np.bool_]
    living: int


class VectorIndex:
    """The vectors of one generation; ascending chunk ids are the rows."""

    def __init__(self, generation: int, dimension: int, segments: tuple[_Segment, ...] = ()) -> None:
        self.generation = generation
        self.dimension = dimension
        self._segments = segments

    @property
    def highest_id(self) -> int:
        """The highest chunk id ever seen; later chunks have higher ones. 0 where there was none."""
        return max((int(s.ids[-1]) for s in self._segments), default=0)

    def ids(self) -> Ids:
        """All living chunk ids, ascending."""
        parts = [s.ids[s.alive] for s in self._segments]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)

    def advance(self, generation: int, living: Ids, new_ids: Ids, new_vectors: Vectors) -> VectorIndex:
        """The index of a later generation: rows not among `living` go, the new ones ((n,), (n, d)) come."""
        segments = []
        for segment in self._segments:
            alive = segment.alive & np.isin(segment.ids, living, assume_unique=True)
            count = int(alive.sum())
            if count:
                segments.append(_Segment(segment.ids, segment.matrix, segment.index, alive, count))
        if len(new_ids):
            segments.append(_make(new_ids, new_vectors))
        merged: list[_Segment] = []
        for segment in segments:
            merged.append(segment)
            while len(merged) > 1 and merged[-1].living * 2 >= merged[-2].living:
                last, before = merged.pop(), merged.pop()
                merged.append(_merge(before, last))
        # A segment that is mostly dead wastes memory and time.
        return VectorIndex(
            generation, self.dimension, tuple(_merge(s) if s.living * 2 < len(s.ids) else s for s in merged)
        )

    def nearest(self, vector: Vectors, k: int) -> list[tuple[int, float]]:
        """(chunk id, cosine) of the k rows nearest to `vector` ((d,), unit), best first, ties by id."""
        found: list[tuple[int, float]] = []
        for segment in self._segments:
            rows = _search(segment, vector, k)
            found += zip(
                segment.ids[rows].tolist(), _exact(segment.matrix[rows], vector).tolist(), strict=True
            )
        found.sort(key=lambda pair: (-pair[1], pair[0]))
        return found[:k]

    def cosines(self, vector: Vectors, chunk_ids: Sequence[int]) -> list[float]:
        """Cosine of `vector` to each named row. Raises KeyError for a row that is not there."""
        wanted = np.asarray(chunk_ids, np.int64)
        scores = np.full(len(wanted), np.nan)
        for segment in self._segments:
            rows = np.searchsorted(segment.ids, wanted).clip(max=len(segment.ids) - 1)
            here = (segment.ids[rows] == wanted) & segment.alive[rows]
            scores[here] = _exact(segment.matrix[rows[here]], vector)
        if np.isnan(scores).any():
            raise KeyError(int(wanted[np.isnan(scores)][0]))
        return [float(s) for s in scores]


def _exact(rows: Vectors, vector: Vectors) -> NDArray[np.float64]:
    """Inner products in float64, each summed alone: the same for equal rows wherever they stand."""
    products: NDArray[np.float64] = (rows.astype(np.float64) * vector.astype(np.float64)).sum(axis=1)
    return products


def _make(ids: Ids, matrix: Vectors) -> _Segment:
    import faiss

    index = faiss.IndexFlatIP(matrix.shape[1])
    index.add(np.ascontiguousarray(matrix, np.float32))
    view = faiss.rev_swig_ptr(index.get_xb(), matrix.size).reshape(matrix.shape)
    return _Segment(ids, view, index, np.ones(len(ids), np.bool_), len(ids))


def _merge(*segments: _Segment) -> _Segment:
    ids = np.concatenate([s.ids[s.alive] for s in segments])
    matrix = np.concatenate([s.matrix[s.alive] for s in segments])
    order = np.argsort(ids, kind="stable")
    return _make(ids[order], matrix[order])


def _search(segment: _Segment, vector: Vectors, k: int) -> NDArray[np.int64]:
    """Rows that hold the first k of the segment; more where scores at the border are (nearly) equal."""
    import faiss

    parameters = None
    if segment.living < len(segment.ids):
        bits = np.packbits(segment.alive, bitorder="little")
        selector = faiss.IDSelectorBitmap(len(segment.ids), faiss.swig_ptr(bits))
        parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg, unused-ignore]
    ask = min(k + _SPARE, segment.living)
    while True:
        scores, rows = segment.index.search(vector.reshape(1, -1), ask, params=parameters)
        if ask == segment.living or scores[0, -1] < scores[0, k - 1] - 1e-5:
            found: NDArray[np.int64] = rows[0][rows[0] >= 0]
            return found
        ask = min(2 * ask, segment.living)
