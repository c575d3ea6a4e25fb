"""Models of servers that speak OpenAI's API (vLLM, llama.cpp, LM Studio), through its official client.

The other module here that opens connections beside `ollama`; to the addresses that the settings name, only.

- Cancelling closes the connection, which makes such servers stop.
- What is left at its default is not sent, because not every server knows every field.
- The tokenizer is on the other side: before the fact, a cautious estimate by bytes decides what is packed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai

from model.config import Sampling
from service.errors import (
    InvalidRequest,
    ModelNotServed,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnreachable,
)
from service.generators import Message, Piece
from service.generators.ollama import Bounded
from service.generators.upstream import UpstreamGenerator

CONNECT_TIMEOUT_S = 5.0
LIST_TIMEOUT_S = 2.0
#: An empty line, however lines end there (WHATWG, server-sent events).
EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


class OpenAIServer:
    """One server and the models it serves."""

    def __init__(self, address: str, context_tokens: int, key: str | None = None) -> None:
        """Name the server.

        Args:
            address: such as `http://127.0.0.1:8080/v1`; without a path, `/v1` is meant.
            context_tokens: window that its models are taken to have.
            key: sent as bearer, where the server wants one.

        Raises:
            InvalidRequest: not an address of http or https.
        """
        split = urlsplit(address)
        if split.scheme not in ("http", "https") or not split.hostname or split.username or split.query:
            raise InvalidRequest(
                f"{address[:100]!r} is no address of an OpenAI-style server; write http://HOST:PORT/v1"
            )
        path = split.path.rstrip("/") or "/v1"
        self.address = f"{split.scheme}://{split.netloc}{path}"
        self._context_tokens, self._key = context_tokens, key

    def models(self) -> list[str]:
        """Names of the models that it serves.

        Raises:
            UpstreamError: it does not answer, or not as such a server does.
        """

        async def listed() -> list[str]:
            async with self._client(openai.Timeout(LIST_TIMEOUT_S)) as client:
                return sorted({model.id async for model in client.models.list() if model.id})

        try:
            return asyncio.run(listed())
        except Exception as error:
            raise translated(error, self.address, "") from error

    def generator(self, name: str) -> OpenAIGenerator:
        """One of its models."""
        return OpenAIGenerator(self, name, self._context_tokens)

    def _client(self, timeout: openai.Timeout) -> openai.AsyncOpenAI:
        bounded: Any = httpx.AsyncClient(  # Any: versions of the client differ in whose class they expect
            transport=Bounded(f"the server at {self.address}", EVENT_ENDS), follow_redirects=True
        )
        return openai.AsyncOpenAI(
            base_url=self.address,
            api_key=self._key or "none",
            organization="",  # else the client would send those of the environment to whatever stands there
            project="",
            timeout=timeout,
            max_retries=0,
            http_client=bounded,
        )

    def client(self) -> openai.AsyncOpenAI:
        """A client that waits as long as the model takes; the runner's deadline ends it."""
        return self._client(openai.Timeout(None, connect=CONNECT_TIMEOUT_S))


class OpenAIGenerator(UpstreamGenerator):
    """One model of such a server; the API does not tell how much it reads."""

    def __init__(self, server: OpenAIServer, model: str, context_tokens: int) -> None:
        super().__init__(f"openai/{model}", context_tokens)
        self._server, self._model = server, model

    def _translated(self, error: Exception) -> Exception:
        return translated(error, self._server.address, self._model)

    async def _pieces(self, messages: Sequence[Message], sampling: Sampling) -> AsyncIterator[Piece]:
        address = self._server.address
        turns: Any = [dict(m) for m in messages]
        async with self._server.client() as client:
            chunks = await client.chat.completions.create(
                model=self._model,
                messages=turns,
                stream=True,
                stream_options={"include_usage": True},
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                extra_body=_beyond(sampling),
            )
            reason: str | None = None
            prompt = completion = 0
            async for chunk in chunks:
                if told := (chunk.model_extra or {}).get("error"):
                    raise UpstreamError(f"the server at {address} failed: {_said(told)}")
                if chunk.usage is not None:  # comes behind the last piece, with no choice beside it
                    prompt, completion = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
                for choice in (chunk.choices or [])[:1]:
                    reason = choice.finish_reason or reason
                    more = choice.delta.model_extra or {}
                    thought = more.get("reasoning_content") or more.get("reasoning") or ""
                    if choice.delta.content or thought:
                        yield Piece(choice.delta.content or "", reasoning=str(thought))
            if reason is None:
                raise UpstreamError(
                    f"the server at {address} broke off in the middle of its reply; ask again"
                )
            yield Piece("", "length" if reason == "length" else "stop", prompt, completion)


def _beyond(sampling: Sampling) -> dict[str, Any]:
    """What not every server knows, where it is wanted. `repeat_penalty` is llama.cpp's word."""
    wanted: dict[str, Any] = {}
    if sampling.top_p < 1:
        wanted["top_p"] = sampling.top_p
    if sampling.top_k:
        wanted["top_k"] = sampling.top_k
    if sampling.min_p:
        wanted["min_p"] = sampling.min_p
    if sampling.repetition_penalty != 1:
        wanted |= {
            "repetition_penalty": sampling.repetition_penalty,
            "repeat_penalty": sampling.repetition_penalty,
        }
    if sampling.stop:
        wanted["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        wanted["seed"] = sampling.seed
    return wanted


def _said(told: Any) -> str:
    message = told.get("message") if isinstance(told, dict) else told
    return str(message)[:500]


def translated(error: Exception, address: str, model: str) -> Exception:
    """The client's and the transport's errors as ours."""
    if isinstance(error, UpstreamError):
        return error
    if isinstance(error, openai.APIStatusError):
        said = _said(error.body if isinstance(error.body, dict) else error.message)
        if error.status_code == 404 and model:
            return ModelNotServed(
                f"the server at {address} does not serve {model!r} ({said}). GET /models lists what it "
                "serves; start it with that model, or ask another."
            )
        if error.status_code in (401, 403):
            return UpstreamError(
                f"the server at {address} wants another key: name a file that holds it in "
                "LOREBASE_SERVICE_OPENAI_KEY_FILE"
            )
        if 400 <= error.status_code < 500:
            return UpstreamRefused(f"the server at {address} refused: {said}")
        return UpstreamError(f"the server at {address} failed: {said}")
    if isinstance(error, openai.APIConnectionError):
        if isinstance(error, openai.APITimeoutError):
            return UpstreamUnreachable(f"the server at {address} took too long to answer.")
        if type(error.__cause__).__name__ in ("ReadError", "RemoteProtocolError"):
            return UpstreamError(f"the server at {address} broke off in the middle of its reply; ask again")
        return UpstreamUnreachable(
            f"nothing answers at {address}. Start the server, or mend LOREBASE_SERVICE_OPENAI_UPSTREAMS."
        )
    if isinstance(error, openai.APIError):
        return UpstreamError(f"the server at {address} failed: {_said(error.body or error.message)}")
    if isinstance(error, (openai.OpenAIError, ValueError, TypeError, AttributeError)):
        return UpstreamError(f"the server at {address} sent something that cannot be read: {error}")
    return error
