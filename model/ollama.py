"""Replies of a model that runs in the user's own Ollama, through its official client: teacher or judge."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import ollama

from model.chat import Message
from model.errors import OllamaError

PREFIX = "ollama/"
CONNECT_TIMEOUT_S, REPLY_TIMEOUT_S = 5.0, 600.0


class Ollama:
    """The Ollama at one address."""

    def __init__(self, address: str) -> None:
        """Address: HOST:PORT or a URL, as OLLAMA_HOST has it."""
        self.address = address
        timeout = httpx.Timeout(REPLY_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self._client = ollama.Client(address, timeout=timeout)

    def reply(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        options: Mapping[str, Any] | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> str:
        """The whole reply to a conversation.

        Args:
            model: its name there.
            messages: turns.
            options: decoding, as Ollama names it (temperature, seed, num_predict).
            schema: a JSON schema that the reply is held to.

        Raises:
            OllamaError: it does not answer, refuses, or breaks off.
        """
        try:
            pieces, done = [], False
            for part in self._client.chat(
                model, list(messages), stream=True, format=dict(schema) if schema else None, options=options
            ):
                pieces.append(part.message.content or "")
                done = bool(part.done)
        except ollama.ResponseError as error:
            raise OllamaError(f"Ollama at {self.address} refused {model}: {error.error}") from error
        except (ConnectionError, httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise OllamaError(
                f"Ollama does not answer at {self.address}. Start it (ollama serve), or set OLLAMA_HOST"
            ) from error
        except (httpx.HTTPError, json.JSONDecodeError, ValueError, OSError) as error:
            raise OllamaError(f"Ollama at {self.address} failed while {model} replied: {error}") from error
        if not done:
            raise OllamaError(f"Ollama at {self.address} broke off in the middle of a reply of {model}")
        return "".join(pieces)

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()  # type: ignore[no-untyped-call]
