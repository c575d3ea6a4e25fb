"""Stand-ins that obey the same protocols as the real things and need no weights."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class HashEmbedder:
    """An `ingest.embed.Embedder` whose vectors are sums of pseudo-random directions, one a word.

    Texts that share words are close; equal texts are equal; nothing is learned, nothing is loaded. `encoded`
    counts the texts that went through it.
    """

    def __init__(self, dimension: int = 32, max_tokens: int = 256, name: str = "hash") -> None:
        self.name = name
        self.dimension = dimension
        self.max_tokens = max_tokens
        self.id = f"hash:{name}:{dimension}"
        self.encoded = 0

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [2 + len(re.findall(r"\w{1,6}|[^\w\s]", text)) for text in texts]

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.encoded += len(texts)
        return self._encode(texts)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encode(texts)

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self.dimension))
        for row, text in enumerate(texts):
            vectors[row] = 1e-3  # a text without words has a direction too
            for word in re.findall(r"\w+", text.lower()):
                vectors[row] += self._direction(word)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def _direction(self, word: str) -> NDArray[np.float64]:
        seed = int.from_bytes(
            hashlib.blake2b(f"{self.name}:{word}".encode("utf-8", "replace"), digest_size=8).digest()
        )
        return np.random.default_rng(seed).standard_normal(self.dimension)
