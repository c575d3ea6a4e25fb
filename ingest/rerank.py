"""Reranking: a cross-encoder reads the question together with the first passages and orders them anew.

An embedder reads question and passage apart; a cross-encoder reads both at once, which tells more and costs
one pass through the model for every passage. So it sees only the head of a list that a search has found, and
is used only where it is asked for. It reads what the embedder reads: title, headings, text; what is too long
for it is cut at the end.

The reranked list has hits of the search, none added; `score` is then the cross-encoder's, in [0, 1], and the
other scores stay.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from ingest.embed.cross_encoder import CrossEncoderReranker
from ingest.errors import RerankerError
from ingest.filters import Filter
from ingest.types import Hit, SearchMode, SearchResult, heading_prefix

#: How many passages are read again for k hits: a passage below the k-th can rise.
DEPTH, DEPTH_A_HIT = 20, 2


class Reranker(Protocol):
    """What reads a question together with passages."""

    def scores(self, query: str, passages: Sequence[str]) -> list[float]:
        """How well each passage answers the question, in [0, 1], in the order of the passages."""
        ...


class Search(Protocol):
    """The search of one collection, as `ingest.search.Searcher` offers it."""

    def search(self, query: str, k: int, mode: SearchMode, where: Filter | None = None) -> SearchResult:
        """The best `k` passages, of documents that pass `where`."""
        ...


class Reranked:
    """A search whose list is put in the order of a reranker."""

    def __init__(self, search: Search, reranker: Reranker) -> None:
        self._search = search
        self._reranker = reranker

    def search(
        self, query: str, k: int = 5, mode: SearchMode = "hybrid", where: Filter | None = None
    ) -> SearchResult:
        """The k best of the first passages, by the reranker; equal scores keep the order of the search.

        Raises:
            ValueError: `k` is below 1.
            RerankerError: the reranker cannot be loaded or fails.
            IngestError: as the search underneath.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        return reranked(query, self._search.search(query, depth(k), mode, where), k, self._reranker)


def depth(k: int) -> int:
    """How many passages are read again where `k` are wanted."""
    return max(DEPTH, DEPTH_A_HIT * k)


def reranked(query: str, found: SearchResult, k: int, reranker: Reranker) -> SearchResult:
    """The k best of what was found, by the reranker; equal scores keep their order.

    Raises:
        RerankerError: the reranker cannot be loaded or fails.
    """
    start = time.perf_counter()
    scores = reranker.scores(query, [_read(hit) for hit in found.hits])
    hits = [replace(hit, score=score) for hit, score in zip(found.hits, scores, strict=True)]
    hits.sort(key=lambda hit: -hit.score)
    took_ms = (time.perf_counter() - start) * 1000
    return SearchResult(tuple(hits[:k]), found.generation, found.search_ms + took_ms)


def _read(hit: Hit) -> str:
    prefix = heading_prefix(hit.title, hit.heading_path)
    return f"{prefix}\n{hit.text}" if prefix else hit.text


def find_reranker(name: str, home: Path) -> CrossEncoderReranker:
    """The reranker of a hub id under `home`/models, or in a folder of its own.

    Raises:
        RerankerError: there is none; the message says where it belongs.
    """
    installed = home / "models" / name.rsplit("/", 1)[-1].lower()
    for folder in (installed, Path(name).expanduser()):
        if (folder / "config.json").is_file():
            return CrossEncoderReranker.load(folder, name=name)
    raise RerankerError(
        f"Reranker {name!r} is not installed. Put the cross-encoder's files (config.json, model.safetensors, "
        f"tokenizer.json) into {installed}, or name their folder."
    )
