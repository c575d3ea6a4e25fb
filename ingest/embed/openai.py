"""Embedders of servers that speak OpenAI's API (vLLM, llama.cpp, TEI, LM Studio, OpenAI): `openai/NAME`.

Through the official client, to the addresses that the settings name, only. Of several servers the first one
that serves the model is asked. The API tells no digest of a model, so the fingerprint has its name, the
length of its vectors and what is put before texts: another model under the same name and of the same length
is not noticed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, TypeVar

import openai

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

PREFIX = "openai/"
#: Fields in which servers say how much a model reads: vLLM, TEI; llama.cpp has it below `meta`.
_WINDOWS = ("max_model_len", "max_input_length", "n_ctx_train")

Reply = TypeVar("Reply")


class OpenAIEmbedder(ServerEmbedder):
    """One embedding model of such a server."""

    def __init__(
        self, model: str, addresses: Sequence[str], key: str | None = None, prefixes: Prefixes | None = None
    ) -> None:
        """Name the model and where it may be; nothing is asked yet.

        Args:
            model: as the server calls it.
            addresses: such as `http://127.0.0.1:8080/v1`; at least one.
            key: sent as bearer, where the servers want one.
            prefixes: what stands before texts; by default what is known of the model's family.
        """
        super().__init__(PREFIX + model, prefixes_of(model) if prefixes is None else prefixes)
        self._model, self._addresses, self._key = model, tuple(addresses), key

    @cached_property
    def id(self) -> str:
        """Fingerprint: name, length of the vectors, and what is put before texts."""
        told = "\0".join((self._model, str(self.dimension), self.prefixes.query, self.prefixes.passage))
        return "openai:" + hashlib.sha256(told.encode()).hexdigest()[:32]

    @cached_property
    def max_tokens(self) -> int:
        """The window, where the server names one."""
        _, told = self._place
        said = [told.get(name) for name in _WINDOWS] + [(told.get("meta") or {}).get("n_ctx_train")]
        windows = [n for n in said if isinstance(n, int) and n > 0]
        return min(windows[0] if windows else USUAL_WINDOW, LONGEST_WINDOW)

    @cached_property
    def _place(self) -> tuple[openai.OpenAI, dict[str, Any]]:
        """The server that has the model, and what it says of it."""
        away: list[EmbedderError] = []
        for address in self._addresses:
            client = self._client(address)
            try:
                models = self._tried(partial(_listed, client), address)
            except EmbedderError as error:
                away.append(error)
                continue
            for model in models:
                if model.id == self._model:
                    return client, {**(model.model_extra or {})}
        if away:
            raise away[0]
        raise EmbedderError(
            f"No server at {', '.join(self._addresses)} serves {self._model!r}. Start it with that model, or "
            "name another one."
        )

    def _client(self, address: str) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=address,
            api_key=self._key or "none",
            organization="",  # else the client would send those of the environment to whatever stands there
            project="",
            timeout=openai.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            max_retries=0,  # `tried` counts for all servers alike
        )

    def _vectors(self, texts: list[str]) -> Sequence[Sequence[float]]:
        client, _ = self._place
        reply = self._tried(
            lambda: client.embeddings.create(model=self._model, input=texts, encoding_format="float"),
            str(client.base_url),
        )
        return [row.embedding for row in sorted(reply.data, key=lambda row: row.index)]

    def _tried(self, request: Callable[[], Reply], address: str) -> Reply:
        return tried(request, lambda error: self._translated(error, address))

    def _translated(self, error: Exception, address: str) -> EmbedderError:
        if isinstance(error, EmbedderError):
            return error
        if isinstance(error, openai.APIStatusError):
            said = _said(error)
            if error.status_code in (401, 403):
                return EmbedderError(
                    f"The server at {address} wants another key: name a file that holds it in "
                    "LOREBASE_INGEST_OPENAI_KEY_FILE, or with LOREBASE_SERVICE_OPENAI_KEY_FILE."
                )
            if error.status_code >= 500 or error.status_code in (408, 429):
                return EmbedderAway(f"The server at {address} failed: {said}.")
            return EmbedderError(f"The server at {address} refused to embed with {self._model!r}: {said}.")
        if isinstance(error, openai.APITimeoutError):
            return EmbedderAway(f"The server at {address} took too long over {self._model!r}.", passing=False)
        if isinstance(error, openai.APIConnectionError):
            return EmbedderAway(
                f"Nothing answers at {address}, which should embed with {self._model!r}. Start the server, "
                "or mend the setting openai_upstreams."
            )
        return EmbedderError(f"The server at {address} sent something that cannot be read: {error}.")


def _listed(client: openai.OpenAI) -> list[openai.types.Model]:
    return list(client.models.list())


def _said(error: openai.APIStatusError) -> str:
    told: Any = error.body or error.message
    return str(told.get("message") if isinstance(told, dict) else told)[:300].rstrip(".")
