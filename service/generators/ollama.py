"""Models of an Ollama server, through its official client: one of two modules here that open connections.

- `num_ctx` is always sent: Ollama's own default may be far smaller than the prompt, and it cuts silently.
- Cancelling closes the connection, which makes Ollama stop; so it works while a model is still being loaded.
- Ollama counts tokens only after the fact. Before, a cautious estimate by bytes decides what is packed.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from collections.abc import Generator as GeneratorOf
from typing import Any
from urllib.parse import urlsplit

import httpx
import ollama

from model.config import Sampling
from service.errors import ModelNotPulled, UpstreamError, UpstreamRefused, UpstreamUnreachable
from service.generators import Message, Piece
from service.generators.upstream import UpstreamGenerator, drawn

CONNECT_TIMEOUT_S = 5.0
LIST_TIMEOUT_S = 2.0
#: Most of an error's body that is read.
ERROR_BYTES = 64_000
#: Longest line or event of a streamed reply; one holds a piece of a text.
LINE_BYTES = 4_000_000


class OllamaServer:
    """One server and the models it has."""

    def __init__(self, address: str, context_tokens: int) -> None:
        self.address = address
        self._context_tokens = context_tokens

    def models(self) -> list[str]:
        """Names of the models that were pulled there.

        Raises:
            UpstreamError: it does not answer, or not as Ollama does.
        """

        async def listed() -> list[str]:
            client = ollama.AsyncClient(self.address, timeout=httpx.Timeout(LIST_TIMEOUT_S))
            try:
                return sorted(m.model for m in (await client.list()).models if m.model)
            finally:
                await client.close()  # type: ignore[no-untyped-call]

        try:
            return asyncio.run(listed())
        except Exception as error:
            raise translated(error, self.address, "") from error

    def generator(self, name: str) -> OllamaGenerator:
        """One of its models."""
        return OllamaGenerator(self.address, name, self._context_tokens)

    def catalogue(self, path: str) -> list[dict[str, Any]]:
        """Its `models` as it tells them itself at `/api/tags` or `/api/ps`.

        Raises:
            UpstreamError: it does not answer, or not as Ollama does.
        """

        async def told() -> list[dict[str, Any]]:
            async with httpx.AsyncClient(base_url=_base_url(self.address), timeout=LIST_TIMEOUT_S) as client:
                models = (await client.get(path)).raise_for_status().json()["models"]
                return [dict(model) for model in models or ()]

        try:
            return asyncio.run(told())
        except (KeyError, TypeError) as error:
            raise translated(ValueError(f"no list of models: {error}"), self.address, "") from error
        except Exception as error:
            raise translated(error, self.address, "") from error

    def relay(
        self, path: str, body: Mapping[str, Any], cancel: threading.Event
    ) -> GeneratorOf[bytes, None, None]:
        """Its reply to this request, as it comes, byte for byte. Close it in the thread that reads it.

        Raises:
            UpstreamUnreachable: no answer at the address.
            ModelNotPulled: it lacks the model.
            UpstreamRefused: it finds fault with the request.
            UpstreamError: it failed, or broke off.
            Cancelled: `cancel` was set; the connection is closed, which makes it stop.
        """
        model = str(body.get("model"))
        return drawn(self._chunks(path, body), cancel, lambda error: translated(error, self.address, model))

    async def _chunks(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[bytes]:
        timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT_S)
        async with (
            httpx.AsyncClient(base_url=_base_url(self.address), timeout=timeout) as client,
            client.stream("POST", path, json=dict(body)) as reply,
        ):
            if reply.status_code != 200:
                said = b""
                async for chunk in reply.aiter_bytes():
                    said += chunk
                    if len(said) > ERROR_BYTES:
                        break
                raise ollama.ResponseError(said[:ERROR_BYTES].decode("utf-8", "replace"), reply.status_code)
            if "json" not in reply.headers.get("Content-Type", ""):
                raise UpstreamError(
                    f"what answers at {self.address} is not Ollama: it sent "
                    f"{reply.headers.get('Content-Type', 'no type')[:80]!r}. Set OLLAMA_HOST."
                )
            async for chunk in reply.aiter_bytes():
                yield chunk


class OllamaGenerator(UpstreamGenerator):
    """One model of an Ollama server; its context is the `num_ctx` that is sent."""

    def __init__(self, address: str, model: str, context_tokens: int) -> None:
        super().__init__(f"ollama/{model}", context_tokens)
        self._address, self._model = address, model

    def structured(self, messages: Sequence[Message], schema: dict[str, Any], cancel: threading.Event) -> str:
        """The whole reply, decoded greedily and held to a JSON schema by the server.

        Raises:
            UpstreamError, Cancelled: as `stream` does.
        """
        pieces = self._pieces(messages, Sampling(), schema)
        return "".join(piece.text for piece in drawn(pieces, cancel, self._translated))

    def _translated(self, error: Exception) -> Exception:
        return translated(error, self._address, self._model)

    async def _pieces(
        self, messages: Sequence[Message], sampling: Sampling, schema: dict[str, Any] | None = None
    ) -> AsyncIterator[Piece]:
        client = ollama.AsyncClient(
            self._address,
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            transport=Bounded(f"Ollama at {self._address}", (b"\n",)),
        )
        try:
            parts = await client.chat(
                self._model,
                [dict(m) for m in messages],
                stream=True,
                options=self._options(sampling),
                format=schema,
            )
            ended = False
            async for part in parts:
                reason = None
                if part.done:
                    ended, reason = True, ("length" if part.done_reason == "length" else "stop")
                yield Piece(
                    part.message.content or "",
                    "length" if reason == "length" else "stop" if reason else None,
                    part.prompt_eval_count or 0,
                    part.eval_count or 0,
                    part.message.thinking or "",
                )
            if not ended:
                raise UpstreamError(
                    f"Ollama at {self._address} broke off in the middle of its reply; ask again"
                )
        finally:
            await client.close()  # type: ignore[no-untyped-call]

    def _options(self, sampling: Sampling) -> dict[str, object]:
        options: dict[str, object] = {
            "num_ctx": self._context_tokens,
            "num_predict": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "repeat_penalty": sampling.repetition_penalty,
        }
        if sampling.top_k:
            options["top_k"] = sampling.top_k
        if sampling.stop:
            options["stop"] = list(sampling.stop)
        if sampling.seed is not None:
            options["seed"] = sampling.seed
        return options


class Bounded(httpx.AsyncHTTPTransport):
    """Gives up a line or event that does not end: the client would hold all of it."""

    def __init__(self, who: str, ends: Sequence[bytes]) -> None:
        """Name the server for its error, and what may end a line or event."""
        super().__init__()
        self._who, self._ends = who, ends

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The reply, its lines or events bounded."""
        reply = await super().handle_async_request(request)
        assert isinstance(reply.stream, httpx.AsyncByteStream)
        reply.stream = _Ended(reply.stream, self._who, self._ends)
        return reply


class _Ended(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, who: str, ends: Sequence[bytes]) -> None:
        self._inner, self._who, self._ends = inner, who, ends

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pending, tail, most = 0, b"", max(map(len, self._ends)) - 1
        async for chunk in self._inner:
            seen = tail + chunk  # an end may be cut by the packets
            ended = max(seen.rfind(end) + len(end) if end in seen else 0 for end in self._ends)
            pending = len(seen) - ended if ended else pending + len(chunk)
            tail = seen[-most:] if most else b""
            if pending > LINE_BYTES:
                raise UpstreamError(
                    f"{self._who} sent something that cannot be read: more than {LINE_BYTES:,} bytes "
                    "without an end"
                )
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


def _base_url(address: str) -> str:
    """The address with scheme and port, as Ollama's own client completes it."""
    scheme, found, rest = address.partition("://")
    scheme, rest = (scheme, rest) if found else ("http", address)
    port = {"http": 80, "https": 443}.get(scheme, 11434) if found else 11434
    split = urlsplit(f"{scheme}://{rest}")
    host = split.hostname or "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{split.port or port}{split.path.rstrip('/')}"


def translated(error: Exception, address: str, model: str) -> Exception:
    """The client's and the transport's errors as ours."""
    if isinstance(error, UpstreamError):
        return error
    if isinstance(error, ollama.ResponseError):
        if error.status_code == 404:
            return ModelNotPulled(
                f"Ollama at {address} has no model {model!r}. Pull it there: ollama pull {model}"
            )
        if 400 <= error.status_code < 500:
            return UpstreamRefused(f"Ollama at {address} refused: {error.error}")
        return UpstreamError(f"Ollama at {address} failed: {error.error}")
    if isinstance(error, (ConnectionError, httpx.ConnectError, httpx.ConnectTimeout)):
        return UpstreamUnreachable(
            f"Ollama does not answer at {address}. Start it (ollama serve), or set OLLAMA_HOST."
        )
    if isinstance(error, httpx.TimeoutException):
        return UpstreamUnreachable(f"Ollama at {address} took too long to answer.")
    if isinstance(error, (httpx.HTTPError, json.JSONDecodeError, ValueError)):
        return UpstreamError(f"Ollama at {address} sent something that cannot be read: {error}")
    return error
