"""An embedder that costs nothing before it is asked for something."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from ingest.embed import Embedder, Vectors


class LazyEmbedder:
    """An embedder that is found (and where need be, fetched) when something first asks for it.

    An ingest in which nothing changed asks for nothing.
    """

    def __init__(self, find: Callable[[], Embedder]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._found: Embedder | None = None

    @property
    def found(self) -> Embedder:
        """The embedder itself."""
        with self._lock:
            if self._found is None:
                self._found = self._find()
            return self._found

    @property
    def id(self) -> str:
        """See `Embedder`."""
        return self.found.id

    @property
    def name(self) -> str:
        """See `Embedder`."""
        return self.found.name

    @property
    def dimension(self) -> int:
        """See `Embedder`."""
        return self.found.dimension

    @property
    def max_tokens(self) -> int:
        """See `Embedder`."""
        return self.found.max_tokens

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See `Embedder`."""
        return self.found.count_tokens(texts)

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`."""
        return self.found.encode_passages(texts)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`."""
        return self.found.encode_queries(texts)
