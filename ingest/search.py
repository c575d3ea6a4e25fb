"""A question to ranked passages: dense arm, keyword arm, and the fusion of both.

Everything of one search is read inside one `Store.reading()`: hits, deletions and texts are of one
generation, and the next search sees what another process has committed meanwhile.

The scores of a hit, all of them higher-is-better:

- `dense_score`: the cosine of question and passage, as the embedder sees them;
- `keyword_score`: BM25 (k1 = 1.2, b = 0.75, as SQLite computes it);
- `score`: in [0, 1], what the list is ordered by. It does not depend on the other hits, so that a threshold
  means the same for every question:

      closeness = (cosine - floor) / (1 - floor), at least 0; floor: cosine of unrelated texts
      coverage  = BM25 / (2.2 * sum of the words' weights)     the most that BM25 can reach with these words
      score     = closeness in dense mode, coverage in keyword mode,
                  DENSE_SHARE * closeness + (1 - DENSE_SHARE) * coverage in hybrid mode

  (a convex combination with fixed bounds: Bruch et al., arXiv 2210.11934).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ingest import words
from ingest.embed import Embedder
from ingest.errors import IndexMismatch
from ingest.filters import Filter
from ingest.store import Reader, Store, Vectors
from ingest.types import Hit, SearchMode, SearchResult

#: Weight of the dense arm in hybrid mode; chosen by measurement, see `benchmarks/log.md`.
DENSE_SHARE = 0.5
#: BM25's k1 + 1: the most that one word can contribute is this times its weight.
_MOST_A_WORD = 2.2
#: How deep each arm looks for k hits: a passage that is only fair in both arms can win.
_DEPTH, _DEPTH_A_HIT = 100, 5

# Questions and passages of which none belongs to another one's subject. What cosine an embedder gives such
# pairs differs widely (multilingual-e5: above 0.7, MiniLM: about 0), and without it a cosine says nothing.
_UNRELATED = (
    (
        "How long does a tortoise live?",
        "Preheat the oven and knead the dough with flour, butter and two eggs.",
    ),
    ("Which bolt fits the rear axle?", "The treaty was signed by both ministers after eleven years of war."),
    (
        "What did the court decide about the rent?",
        "Glaciers carve wide valleys as they move slowly downhill.",
    ),
    ("How do I reset my password?", "The violin concerto opens with a slow melody in a minor key."),
)


class Searcher:
    """Searches one collection with one embedder. Thread-safe where both are."""

    def __init__(self, store: Store, embedder: Embedder) -> None:
        self._store = store
        self._embedder = embedder
        self._floor: float | None = None

    def search(
        self, query: str, k: int = 5, mode: SearchMode = "hybrid", where: Filter | None = None
    ) -> SearchResult:
        """The k best passages, best first; equal scores are ordered by chunk id.

        Words in quotes are looked up in a row, and `wor*` by its beginning: in keyword mode a passage has to
        have them, in hybrid mode they weigh like one more word. With `where`, the k best of the documents
        that pass it: the arms look at no others, so k are found where there are k, and no score depends on
        the filter.

        Raises:
            ValueError: `k` is below 1.
            IndexMismatch: the collection was made with another embedder.
            IndexDamaged: what was found is not what was stored.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        start = time.perf_counter()
        query = query.encode("utf-8", "replace").decode()  # half a surrogate pair is in no text
        asked = words.read_query(query) if mode != "dense" else words.Query(())
        vector = self._vector(query) if mode != "keyword" and query.strip() else None
        with self._store.reading() as reader:
            if vector is not None:
                self._check(reader)  # a rebuild may have come between the question's vector and this moment
            share = {"dense": 1.0, "keyword": 0.0, "hybrid": DENSE_SHARE}[mode]
            hits = self._hits(reader, asked, vector, k, share=share, where=where)
            if where is not None:
                reader.confirm(where, (hit.document_id for hit in hits))
            return SearchResult(tuple(hits), reader.generation, (time.perf_counter() - start) * 1000)

    def _vector(self, query: str) -> Vectors | None:
        """The question's vector; None where the collection is empty, so that nothing is loaded for it."""
        with self._store.reading() as reader:
            if not reader.chunk_count:
                return None
            self._check(reader)
        if self._floor is None:
            self._floor = unrelated_cosine(self._embedder)
        vector: Vectors = self._embedder.encode_queries([query])[0]
        return vector

    def _check(self, reader: Reader) -> None:
        if reader.embedder_id not in (None, self._embedder.id):
            raise IndexMismatch(
                f"Collection {self._store.collection!r} was made with embedder {reader.embedder_id}, "
                f"this is {self._embedder.id} ({self._embedder.name!r}). Search with the one it was made "
                f"with, or run `python -m ingest rebuild --embedder {self._embedder.name} "
                f"--collection {self._store.collection}`."
            )

    def _hits(
        self,
        reader: Reader,
        asked: words.Query,
        vector: Vectors | None,
        k: int,
        *,
        share: float,
        where: Filter | None,
    ) -> list[Hit]:
        depth = max(_DEPTH, _DEPTH_A_HIT * k)
        required = vector is None  # beside meaning, a quotation is a strong word, not a condition
        matches = reader.matching(asked.terms, depth, where, asked.exact, required=required)
        keyword = {match.chunk_id: match.score for match in matches}
        dense = {}
        if vector is not None:
            dense = {m.chunk_id: m.score for m in reader.nearest(vector, depth, where)}
            others = [chunk_id for chunk_id in keyword if chunk_id not in dense]
            dense |= zip(others, reader.cosines(vector, others), strict=True)
        most = _MOST_A_WORD * sum(reader.information((*asked.terms, *asked.exact))) if keyword else 0.0
        scores = fuse(dense, keyword, share=share, floor=self._floor or 0.0, most=most)
        best = sorted(scores, key=lambda c: (-scores[c], -dense.get(c, 0.0), -keyword.get(c, 0.0), c))[:k]
        found = reader.hits(best)
        return [
            replace(found[c], score=scores[c], dense_score=dense.get(c), keyword_score=keyword.get(c))
            for c in best
        ]


def fuse(
    dense: Mapping[int, float],
    keyword: Mapping[int, float],
    *,
    share: float,
    floor: float = 0.0,
    most: float = 0.0,
) -> dict[int, float]:
    """One score in [0, 1] for each passage that an arm found; see the head of this module.

    Args:
        dense: cosines by chunk id; a passage that is missing counts as unrelated.
        keyword: BM25 by chunk id; a passage that is missing has none of the words.
        share: weight of the dense arm, 0 to 1.
        floor: the cosine that counts as none, below 1.
        most: the highest BM25 that the question's words allow.
    """
    span = max(1.0 - floor, 1e-6)
    scores = {}
    for chunk_id in dict.fromkeys((*dense, *keyword)):
        closeness = (dense.get(chunk_id, floor) - floor) / span
        coverage = keyword.get(chunk_id, 0.0) / most if most > 0 else 0.0
        scores[chunk_id] = share * _clip(closeness) + (1.0 - share) * _clip(coverage)
    return scores


def _clip(value: float) -> float:
    return min(1.0, max(0.0, value))


def unrelated_cosine(embedder: Embedder) -> float:
    """Mean cosine that the embedder gives questions and passages that have nothing to do with each other."""
    questions = embedder.encode_queries([question for question, _ in _UNRELATED])
    passages = embedder.encode_passages([passage for _, passage in _UNRELATED])
    return float(np.clip((questions @ passages.T).mean(), -1.0, 0.99))
