"""Embedders of an Ollama server, through its official client: `ollama/NAME`.

Texts that are too long are refused by the server instead of cut (`truncate=False`). The fingerprint has the
digest of the model, so a model that was pulled anew under the same name is noticed, at the latest a minute
later.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Sequence
from functools import cached_property

import httpx
import ollama

from ingest.embed.server import (
    CONNECT_TIMEOUT_S,
    LONGEST_WINDOW,
    READ_TIMEOUT_S,
    USUAL_WINDOW,
    Prefixes,
    ServerEmbedder,
    prefixes_of,
    tried,
)
from ingest.errors import EmbedderAway, EmbedderError

PREFIX = "ollama/"
#: For so long the model's digest is taken to be what it was.
DIGEST_HOLDS_S = 60.0


class OllamaEmbedder(ServerEmbedder):
    """One embedding model of an Ollama server."""

    def __init__(self, model: str, address: str | None = None, prefixes: Prefixes | None = None) -> None:
        """Name the model and its server; nothing is asked yet.

        Args:
            model: as Ollama calls it, such as `nomic-embed-text`; without a tag, `:latest` is meant.
            address: HOST:PORT, or a URL; by default what OLLAMA_HOST says, else Ollama's own.
            prefixes: what stands before texts; by default what is known of the model's family.
        """
        super().__init__(PREFIX + model, prefixes_of(model) if prefixes is None else prefixes)
        self._model = model
        self._address = address or os.environ.get("OLLAMA_HOST", "").strip() or "127.0.0.1:11434"
        self._lock = threading.Lock()
        self._digest = ("", 0.0)
        self._client = ollama.Client(
            self._address, timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        )

    @property
    def id(self) -> str:
        """Fingerprint: the digest of the model, and what is put before texts."""
        with self._lock:
            digest, asked_at = self._digest
            if not digest or time.monotonic() - asked_at > DIGEST_HOLDS_S:
                digest = self._asked_digest()
                self._digest = (digest, time.monotonic())
        told = "\0".join((digest, self.prefixes.query, self.prefixes.passage))
        return "ollama:" + hashlib.sha256(told.encode()).hexdigest()[:32]

    def _asked_digest(self) -> str:
        models = tried(self._client.list, self._translated).models
        wanted = self._model if ":" in self._model else f"{self._model}:latest"
        digest = next((m.digest for m in models if m.model == wanted), None)
        if not digest:
            raise EmbedderError(self._missing())
        return digest

    @cached_property
    def max_tokens(self) -> int:
        """The window that the model's file names."""
        told = tried(lambda: self._client.show(self._model), self._translated).modelinfo or {}
        windows = [n for key, n in told.items() if key.endswith(".context_length") and isinstance(n, int)]
        return min(windows[0] if windows and windows[0] > 0 else USUAL_WINDOW, LONGEST_WINDOW)

    def _vectors(self, texts: list[str]) -> Sequence[Sequence[float]]:
        reply = tried(
            lambda: self._client.embed(model=self._model, input=texts, truncate=False), self._translated
        )
        return reply.embeddings

    def _missing(self) -> str:
        return f"Ollama at {self._address} has no model {self._model!r}: `ollama pull {self._model}` gets it."

    def _translated(self, error: Exception) -> EmbedderError:
        if isinstance(error, EmbedderError):
            return error
        if isinstance(error, ollama.ResponseError):
            if error.status_code == 404:
                return EmbedderError(self._missing())
            if error.status_code >= 500 or error.status_code in (408, 429):
                return EmbedderAway(f"Ollama at {self._address} failed: {error.error[:300]}.")
            said = error.error[:300].rstrip(".")
            if "context length" in said:
                said += "; make passages shorter, with --chunking"
            return EmbedderError(f"Ollama at {self._address} refused to embed with {self._model!r}: {said}.")
        if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
            return EmbedderAway(
                f"Ollama at {self._address} took longer than {READ_TIMEOUT_S:.0f} s over {self._model!r}.",
                passing=False,
            )
        if isinstance(error, (ConnectionError, httpx.TransportError)):
            return EmbedderAway(
                f"Nothing answers at {self._address}, where Ollama should embed with {self._model!r}. "
                "Start it (`ollama serve`) or say with OLLAMA_HOST where it is."
            )
        return EmbedderError(f"Ollama at {self._address} sent something that cannot be read: {error}.")
