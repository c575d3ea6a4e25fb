"""Stand-ins that obey the same protocols as the real things and need no weights."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.loopback import LoopbackHandler, serving


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
        self._directions: dict[str, NDArray[np.float64]] = {}

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
            text.encode()  # half a character is no text: tokenizers raise as well
            vectors[row] = 1e-3  # a text without words has a direction too
            for word in re.findall(r"\w+", text.lower()):
                vectors[row] += self._direction(word)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def _direction(self, word: str) -> NDArray[np.float64]:
        if word not in self._directions:
            name = f"{self.name}:{word}".encode("utf-8", "replace")
            seed = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest())
            self._directions[word] = np.random.default_rng(seed).standard_normal(self.dimension)
        return self._directions[word]


class OllamaRegistry:
    """What Ollama keeps of models that are sent to it: blobs by digest, and what `/api/create` was asked."""

    def __init__(self) -> None:
        self.address = ""
        self.blobs: dict[str, bytes] = {}
        self.created: list[dict[str, Any]] = []
        self.refuses_blobs = False
        self.ending = "success"  #: the last status of a creation; empty: it breaks off


@contextmanager
def ollama_registry() -> Iterator[OllamaRegistry]:
    """`POST /api/blobs/DIGEST` and `POST /api/create` on loopback, as Ollama's API documentation has them."""
    registry = OllamaRegistry()

    class Handler(LoopbackHandler):
        def do_POST(self) -> None:
            sent = self._body()
            if self.path.startswith("/api/blobs/"):
                digest = self.path.removeprefix("/api/blobs/")
                if registry.refuses_blobs:
                    self.reply(500, b'{"error": "no space left on device"}')
                elif digest != "sha256:" + hashlib.sha256(sent).hexdigest():
                    self.reply(400, b'{"error": "digest mismatch"}')
                else:
                    registry.blobs[digest] = sent
                    self.reply(201, b"")
            elif self.path == "/api/create":
                asked = json.loads(sent)
                missing = [d for d in asked.get("files", {}).values() if d not in registry.blobs]
                if missing or not asked.get("files"):
                    self.reply(400, b"{\"error\": \"neither 'from' or 'files' was specified\"}")
                    return
                registry.created.append(asked)
                statuses = ["parsing GGUF", "using existing layer", "writing manifest", registry.ending]
                lines = [json.dumps({"status": status}).encode() + b"\n" for status in statuses if status]
                self.reply(200, b"".join(lines), "application/x-ndjson")
            else:
                self.reply(404, b"404 page not found", "text/plain")

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

    with serving(Handler) as address:
        registry.address = address
        yield registry
