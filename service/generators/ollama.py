"""Models of an Ollama server, through its official client: the one module here that opens connections.

- `num_ctx` is always sent: Ollama's own default may be far smaller than the prompt, and it cuts silently.
- Cancelling closes the connection, which makes Ollama stop; so it works while a model is still being loaded.
- Ollama counts tokens only after the fact. Before, a cautious estimate by bytes decides what is packed.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import httpx
import ollama

from model.config import Sampling
from model.errors import Cancelled
from service.errors import ModelNotPulled, UpstreamError, UpstreamUnreachable
from service.generators import Capability, Message, Piece

CONNECT_TIMEOUT_S = 5.0
LIST_TIMEOUT_S = 2.0
POLL_S = 0.05
#: Bytes of text that make one token, taken low, and what a chat template adds to a turn.
BYTES_PER_TOKEN, TOKENS_PER_TURN = 2.5, 8


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


class OllamaGenerator:
    """One model of an Ollama server."""

    def __init__(self, address: str, model: str, context_tokens: int) -> None:
        self._address = address
        self._model = model
        self._context_tokens = context_tokens

    @property
    def name(self) -> str:
        """`ollama/` and the model's name there."""
        return f"ollama/{self._model}"

    @property
    def context_tokens(self) -> int:
        """The `num_ctx` that is sent."""
        return self._context_tokens

    @property
    def capabilities(self) -> frozenset[Capability]:
        """It streams; it cannot score a given text."""
        return frozenset({"stream"})

    @property
    def writes_cjk(self) -> bool:
        """Taken for granted: what is pulled there is not known before it is asked."""
        return True

    @property
    def focus_sentences(self) -> int:
        """It reads whole passages."""
        return 0

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """A cautious estimate: the tokenizer is on the other side."""
        return sum(
            int(len(m["content"].encode("utf-8")) / BYTES_PER_TOKEN) + TOKENS_PER_TURN for m in messages
        )

    def stream(
        self, messages: Sequence[Message], sampling: Sampling, cancel: threading.Event
    ) -> Iterator[Piece]:
        """The reply, piece by piece, with its reasoning apart.

        Raises:
            UpstreamUnreachable: no answer at the address.
            ModelNotPulled: it lacks the model.
            UpstreamError: it failed, or broke off.
            Cancelled: `cancel` was set.
        """
        with asyncio.Runner() as loop:  # its end closes what is still open
            pieces = self._pieces(messages, sampling)
            try:
                while True:
                    piece = loop.run(_next_unless(cancel, pieces))
                    if piece is None:
                        return
                    yield piece
            except (Cancelled, GeneratorExit):
                raise
            except Exception as error:
                raise translated(error, self._address, self._model) from error

    def structured(self, messages: Sequence[Message], schema: dict[str, Any], cancel: threading.Event) -> str:
        """The whole reply, decoded greedily and held to a JSON schema by the server.

        Raises:
            UpstreamError, Cancelled: as `stream` does.
        """
        with asyncio.Runner() as loop:
            pieces = self._pieces(messages, Sampling(), schema)
            said: list[str] = []
            try:
                while (piece := loop.run(_next_unless(cancel, pieces))) is not None:
                    said.append(piece.text)
            except Cancelled:
                raise
            except Exception as error:
                raise translated(error, self._address, self._model) from error
        return "".join(said)

    async def _pieces(
        self, messages: Sequence[Message], sampling: Sampling, schema: dict[str, Any] | None = None
    ) -> AsyncIterator[Piece]:
        client = ollama.AsyncClient(self._address, timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S))
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


async def _next_unless(cancel: threading.Event, pieces: AsyncIterator[Piece]) -> Piece | None:
    """The next piece, None at the end.

    Raises:
        Cancelled: the event was set while waiting.
    """
    coming = asyncio.ensure_future(anext(pieces, None))
    while not coming.done():
        await asyncio.wait({coming}, timeout=POLL_S)
        if cancel.is_set() and not coming.done():
            coming.cancel()
            await asyncio.wait({coming})
            raise Cancelled("the question was withdrawn")
    return coming.result()


def translated(error: Exception, address: str, model: str) -> Exception:
    """The client's and the transport's errors as ours."""
    if isinstance(error, UpstreamError):
        return error
    if isinstance(error, ollama.ResponseError):
        if error.status_code == 404:
            return ModelNotPulled(
                f"Ollama at {address} has no model {model!r}. Pull it there: ollama pull {model}"
            )
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
