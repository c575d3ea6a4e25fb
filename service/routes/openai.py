"""OpenAI's API: chat, completions, embeddings and the list of models, as its clients send and read them."""

from __future__ import annotations

import base64
import contextlib
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from model.errors import UnknownModel
from service import dialects, errors, problems
from service.conversation import Ended, Found, Heard, Said
from service.deps import Parts, PartsDep
from service.routes.bodies import JsonByAnyName
from service.routes.conversing import LOREBASE, Talk, collection_of, embedders, submit, submit_texts
from service.routes.listening import listen
from service.schemas import Passage, Reply
from service.schemas import openai as wire

router = APIRouter(prefix="/v1", tags=["openai"], route_class=JsonByAnyName)

_STREAM = {
    "description": "The reply; with `stream: true`, server-sent events, the last of them `[DONE]`.",
    "content": {
        "text/event-stream": {
            "schema": {  # of each event
                "type": "object",
                "properties": {"data": {"type": "string", "description": "JSON, or [DONE]"}},
                "required": ["data"],
            },
            "example": {
                "data": '{"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": '
                '[{"index": 0, "delta": {"content": "Run"}}]}'
            },
        }
    },
}
_ERRORS = dialects.declared("openai", 404, 409, 429, 502, 503, 504)


@router.post(
    "/chat/completions",
    summary="Chat, as OpenAI's clients do",
    response_model=wire.ChatReply,
    response_model_exclude_unset=True,
    responses={200: _STREAM, **_ERRORS},
)
async def chat(
    body: wire.ChatRequest, request: Request, parts: PartsDep
) -> wire.ChatReply | StreamingResponse:
    """A model's reply to the turns; with `lorebase:COLLECTION`, an answer to the last one from documents."""
    body.refuse_unsupported()
    talk = Talk(body.model, body.turns(), body.sampling(), body.reply_tokens, retrieving=body)
    heard = listen(request, submit(parts, talk))
    form = _Chat(body.model)
    if body.stream:
        return await _streamed(parts, form, heard, body.stream_options)
    return form.whole(await _end(heard))


@router.post(
    "/completions",
    summary="Go on with a text",
    response_model=wire.CompletionReply,
    response_model_exclude_unset=True,
    responses={200: _STREAM, **_ERRORS},
)
async def complete(
    body: wire.CompletionRequest, request: Request, parts: PartsDep
) -> wire.CompletionReply | StreamingResponse:
    """What follows the text, without a chat template."""
    body.refuse_unsupported()
    talk = Talk(body.model, body.text(), body.sampling(), body.reply_tokens, retrieving=body)
    heard = listen(request, submit(parts, talk))
    form = _Text(body.model)
    if body.stream:
        return await _streamed(parts, form, heard, body.stream_options)
    return form.whole(await _end(heard))


@router.post("/embeddings", summary="Texts to vectors", responses={**_ERRORS})
async def embed(body: wire.EmbeddingRequest, request: Request, parts: PartsDep) -> wire.EmbeddingReply:
    """Unit vectors of the installed embedder."""
    ticket = submit_texts(
        parts,
        body.model,
        body.texts(),
        body.input_type or "passage",
        truncate=False,
        dimensions=body.dimensions,
    )
    async with contextlib.aclosing(listen(request, ticket)) as events:
        found = await anext(events)
    coded = body.encoding_format == "base64"
    items = [
        wire.EmbeddingItem(
            index=at,
            embedding=base64.b64encode(v.astype("<f4").tobytes()).decode() if coded else v.tolist(),
        )
        for at, v in enumerate(found.vectors)
    ]
    usage = wire.EmbeddingUsage(prompt_tokens=found.tokens, total_tokens=found.tokens)
    return wire.EmbeddingReply(model=found.model, data=items, usage=usage)


@router.get("/models", summary="What can be named as model", responses={**dialects.declared("openai")})
def list_models(parts: PartsDep) -> wire.ModelList:
    """Own models, adapters, collections, the embedder, and what Ollama offers if it answers."""
    return wire.ModelList(data=_models(parts))


@router.get("/models/{model:path}", summary="One of them", responses={**dialects.declared("openai", 404)})
def get_model(model: str, parts: PartsDep) -> wire.ModelItem:
    """Whether there is one of that name."""
    collection = collection_of(parts, model)
    wanted = model if collection is None else f"{LOREBASE}:{collection}"
    for item in _models(parts):
        if item.id == wanted:
            return item
    raise UnknownModel(f"no model {model!r} is served here; GET /v1/models lists those that are")


def _models(parts: Parts) -> list[wire.ModelItem]:
    own = [m.name for m in parts.models.list_own()]
    own += [f"{a.base}+{a.name}" for a in parts.models.list_adapters() if a.base in own]
    found = [(name, "lorebase") for name in own]
    found += [(f"{LOREBASE}:{c.name}", "lorebase") for c in parts.library.collections()]
    found += [(name, "lorebase") for name in embedders(parts)]
    for upstream, _, names, _ in parts.models.list_upstreams():
        found += [(f"{upstream}/{name}", upstream) for name in names or ()]
    return [wire.ModelItem(id=name, owned_by=owner) for name, owner in found]


class _Form(ABC):
    """One reply on the wire: what its pieces share."""

    def __init__(self, kind: str, model: str) -> None:
        self.shared: dict[str, Any] = {
            "id": f"{kind}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    def first(self) -> Reply | None:
        """What is sent before anything is said."""
        return None

    @abstractmethod
    def piece(self, heard: Heard) -> Reply | None:
        """A piece, if there is something to send."""

    @abstractmethod
    def usage(self, end: Ended) -> Reply:
        """The piece that holds nothing but the usage."""


class _Chat(_Form):
    def __init__(self, model: str) -> None:
        super().__init__("chatcmpl", model)

    def whole(self, end: Ended) -> wire.ChatReply:
        said = {"role": "assistant", "content": end.text}
        said |= {"reasoning_content": end.reasoning} if end.reasoning else {}
        choice = wire.ChatChoice(
            index=0, message=wire.Said.model_validate(said), finish_reason=_finish(end), logprobs=None
        )
        return wire.ChatReply(
            **self.shared, object="chat.completion", choices=[choice], usage=_usage(end), **_grounds(end)
        )

    def first(self) -> Reply:
        return self._chunk({"role": "assistant", "content": ""})

    def piece(self, heard: Heard) -> Reply | None:
        match heard:
            case Found(hits):
                return self._chunk({}, sources=[Passage.of(h) for h in hits])
            case Said(text, reasoning):
                said = {"content": text} if text else {}
                return self._chunk(said | ({"reasoning_content": reasoning} if reasoning else {}))
            case Ended():
                grounds = _grounds(heard)
                grounds.pop("sources", None)  # they have been sent
                return self._chunk({}, _finish(heard), **grounds)

    def usage(self, end: Ended) -> Reply:
        return wire.ChatChunk(**self.shared, object="chat.completion.chunk", choices=[], usage=_usage(end))

    def _chunk(self, said: dict[str, str], finish: wire.Finish | None = None, **more: Any) -> wire.ChatChunk:
        choice = wire.ChunkChoice(index=0, delta=wire.Said.model_validate(said), finish_reason=finish)
        return wire.ChatChunk(**self.shared, object="chat.completion.chunk", choices=[choice], **more)


class _Text(_Form):
    def __init__(self, model: str) -> None:
        super().__init__("cmpl", model)

    def whole(self, end: Ended) -> wire.CompletionReply:
        return self._reply(end.text, _finish(end), usage=_usage(end), **_grounds(end))

    def piece(self, heard: Heard) -> Reply | None:
        match heard:
            case Said(text):
                return self._reply(text) if text else None
            case Ended():
                return self._reply("", _finish(heard), **_grounds(heard))
            case _:
                return None

    def usage(self, end: Ended) -> Reply:
        return wire.CompletionReply(**self.shared, object="text_completion", choices=[], usage=_usage(end))

    def _reply(self, text: str, finish: wire.Finish | None = None, **more: Any) -> wire.CompletionReply:
        choice = wire.TextChoice(index=0, text=text, finish_reason=finish, logprobs=None)
        return wire.CompletionReply(**self.shared, object="text_completion", choices=[choice], **more)


async def _end(heard: AsyncGenerator[Heard]) -> Ended:
    """The end of a reply that is not streamed."""
    async with contextlib.aclosing(heard):
        async for event in heard:
            if isinstance(event, Ended):
                return event
    raise errors.ServiceError("the reply had no end")


async def _streamed(
    parts: Parts, form: _Form, heard: AsyncGenerator[Heard], options: wire.StreamOptions | None
) -> StreamingResponse:
    first = await anext(heard)  # what goes wrong before it still gets its own status
    counted = options is not None and bool(options.include_usage)
    return StreamingResponse(
        _events(parts, form, first, heard, counted=counted),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


async def _events(
    parts: Parts, form: _Form, first: Heard, rest: AsyncGenerator[Heard], *, counted: bool
) -> AsyncIterator[bytes]:
    """A reply as it goes over the wire; what goes wrong now is a last event that holds the error."""
    try:
        if (opening := form.first()) is not None:
            yield _line(opening)
        async for line in _lines(form, first, rest, counted=counted):
            yield line
        yield format_sse_event(data_str="[DONE]")
    except Exception as error:
        status, body, _ = problems.problem(error, parts.home)
        _, shown = dialects.shaped("openai", status, body)
        yield _line(dialects.OpenAIErrorReply.model_validate(shown))
    finally:
        await rest.aclose()


async def _lines(
    form: _Form, first: Heard, rest: AsyncGenerator[Heard], *, counted: bool
) -> AsyncIterator[bytes]:
    async for event in _chained(first, rest):
        if (piece := form.piece(event)) is not None:
            yield _line(piece)
        if counted and isinstance(event, Ended):
            yield _line(form.usage(event))


async def _chained(first: Heard, rest: AsyncGenerator[Heard]) -> AsyncIterator[Heard]:
    yield first
    async for event in rest:
        yield event


def _line(data: Reply | dialects.OpenAIErrorReply) -> bytes:
    return format_sse_event(data_str=data.model_dump_json(exclude_unset=True))


def _finish(end: Ended) -> wire.Finish:
    return "length" if end.reason == "length" else "stop"


def _usage(end: Ended) -> wire.UsageReply:
    return wire.UsageReply.of(end.prompt_tokens, end.completion_tokens)


def _grounds(end: Ended) -> dict[str, Any]:
    return {} if end.final is None else wire.GroundsReply.fields(end.final)
