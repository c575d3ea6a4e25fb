"""Nearest neighbours over the vectors of one generation.

The vectors belong to SQLite; this is a cache of them that can be thrown away at any moment. A `VectorIndex`
never changes once built, so searches in many threads share it while the next generation is made. It consists
of segments: exact ones in memory (each a FAISS `IndexFlatIP`) and, below them in a large collection, one
approximate snapshot (`ingest.store.approximate`). A new generation adds one small exact segment and marks
deleted rows, and neighbouring segments of like size are merged, so a publish costs what was published and
there are never more than about log2(n) small ones.

FAISS finds the candidates; their cosines are then computed again row by row in float64. So equal vectors have
equal scores whatever segment they stand in, and ties break by chunk id, the same way in every process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.store.approximate import Approximate

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]
#: The vectors of these chunk ids as they are stored, (n, d) in their order; a snapshot holds them rounded.
Fetch = Callable[[Sequence[int]], Vectors]

#: Candidates beyond k: rounding in FAISS must not push out a row that belongs into the first k.
_SPARE = 16
#: Segments together larger than this are not merged: copying them would cost more than searching both.
LARGEST_SEGMENT = 131_072


@dataclass(frozen=True, slots=True)
class _Segment:
    ids: Ids  # ascending
    matrix: Vectors  # (n, d), a view into the index's own memory
    index: Any  # faiss.IndexFlatIP
    alive: NDArray[np.bool_]
    living: int


class VectorIndex:
    """The vectors of one generation; ascending chunk ids are the rows."""

    def __init__(
        self,
        generation: int,
        dimension: int,
        segments: tuple[_Segment, ...] = (),
        snapshot: Approximate | None = None,
    ) -> None:
        self.generation = generation
        self.dimension = dimension
        self.snapshot = snapshot
        self._segments = segments

    def __len__(self) -> int:
        """How many rows live."""
        return sum(s.living for s in self._segments) + (self.snapshot.living if self.snapshot else 0)

    @property
    def highest_id(self) -> int:
        """A chunk id that all later chunks are above: the highest of these rows. 0 where there are none."""
        highest = self.snapshot.highest_id if self.snapshot else 0
        return max((int(s.ids[-1]) for s in self._segments), default=highest)

    def ids(self) -> Ids:
        """All living chunk ids, ascending."""
        parts = [s.ids[s.alive] for s in self._segments]
        if self.snapshot is not None:
            parts.append(self.snapshot.ids())
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)

    def advance(self, generation: int, gone: Ids, new: Iterable[tuple[Ids, Vectors]]) -> VectorIndex:
        """The index of a later generation: the rows `gone` go, the new ones (blocks of (n,), (n, d)) come."""
        kept = (s for s in (_without(segment, gone) for segment in self._segments) if s is not None)
        made = (_make(ids, matrix) for ids, matrix in new if len(ids))
        merged: list[_Segment] = []
        for segment in chain(kept, made):
            merged.append(segment)
            while len(merged) > 1 and _shall_merge(*merged[-2:]):
                last, before = merged.pop(), merged.pop()
                merged.append(_merge(before, last))
        # A segment that is mostly dead wastes memory and time.
        merged = [_merge(s) if s.living * 2 < len(s.ids) else s for s in merged]
        snapshot = self.snapshot.without(gone) if self.snapshot is not None else None
        return VectorIndex(generation, self.dimension, tuple(merged), snapshot)

    def nearest(
        self, vector: Vectors, k: int, only: Ids | None = None, fetch: Fetch | None = None
    ) -> list[tuple[int, float]]:
        """(chunk id, cosine) of the k rows nearest to `vector` ((d,), unit), best first, ties by id.

        `only` are the chunk ids that may be found, ascending; None means all. `fetch` is asked for the
        vectors of the candidates that a snapshot proposes.
        """
        found: list[tuple[int, float]] = []
        for segment in self._segments:
            rows = _search(segment, vector, k, only)
            found += zip(
                segment.ids[rows].tolist(), _exact(segment.matrix[rows], vector).tolist(), strict=True
            )
        if self.snapshot is not None and self.snapshot.living:
            assert fetch is not None
            candidates = self.snapshot.candidates(vector, k, only).tolist()
            found += zip(candidates, _exact(fetch(candidates), vector).tolist(), strict=True)
        found.sort(key=lambda pair: (-pair[1], pair[0]))
        return found[:k]

    def cosines(self, vector: Vectors, chunk_ids: Sequence[int], fetch: Fetch | None = None) -> list[float]:
        """Cosine of `vector` to each named row. Raises KeyError for a row that is not there."""
        wanted = np.asarray(chunk_ids, np.int64)
        scores = np.full(len(wanted), np.nan)
        for segment in self._segments:
            rows = np.searchsorted(segment.ids, wanted).clip(max=len(segment.ids) - 1)
            here = (segment.ids[rows] == wanted) & segment.alive[rows]
            scores[here] = _exact(segment.matrix[rows[here]], vector)
        missing = np.isnan(scores)
        if self.snapshot is not None and missing.any():
            assert fetch is not None
            missing &= wanted <= self.snapshot.highest_id
            scores[missing] = _exact(fetch(wanted[missing].tolist()), vector)
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


def _without(segment: _Segment, gone: Ids) -> _Segment | None:
    """The segment with these rows marked; itself where it has none of them, None where no row is left."""
    rows = np.searchsorted(segment.ids, gone).clip(max=len(segment.ids) - 1)
    rows = rows[segment.ids[rows] == gone]
    if not len(rows):
        return segment
    alive = segment.alive.copy()
    alive[rows] = False
    living = int(alive.sum())
    return _Segment(segment.ids, segment.matrix, segment.index, alive, living) if living else None


def _shall_merge(before: _Segment, last: _Segment) -> bool:
    return last.living * 2 >= before.living and before.living + last.living <= LARGEST_SEGMENT


def _merge(*segments: _Segment) -> _Segment:
    ids = np.concatenate([s.ids[s.alive] for s in segments])
    matrix = np.concatenate([s.matrix[s.alive] for s in segments])
    order = np.argsort(ids, kind="stable")
    return _make(ids[order], matrix[order])


def _search(segment: _Segment, vector: Vectors, k: int, only: Ids | None) -> NDArray[np.int64]:
    """Rows that hold the first k of the segment; more where scores at the border are (nearly) equal."""
    import faiss

    parameters = None
    alive, living = segment.alive, segment.living
    if only is not None:
        alive = alive & np.isin(segment.ids, only, assume_unique=True)
        living = int(alive.sum())
    if not living:
        return np.empty(0, np.int64)
    if living < len(segment.ids):
        bits = np.packbits(alive, bitorder="little")
        selector = faiss.IDSelectorBitmap(len(segment.ids), faiss.swig_ptr(bits))
        parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg, unused-ignore]
    ask = min(k + _SPARE, living)
    while True:
        scores, rows = segment.index.search(vector.reshape(1, -1), ask, params=parameters)
        if ask == living or scores[0, -1] < scores[0, k - 1] - 1e-5:
            found: NDArray[np.int64] = rows[0][rows[0] >= 0]
            return found
        ask = min(2 * ask, living)
