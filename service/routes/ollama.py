"""Ollama's API: own models and collections are answered here, every other name goes to `OLLAMA_HOST`.

What manages models (pull, create, push, copy, delete, blobs) is not here: 404, whatever stands behind.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel

from service import catalogue, dialects, errors, problems
from service.catalogue import Offer
from service.conversation import Ended, Heard, Said
from service.deps import Parts, PartsDep
from service.errors import UpstreamError
from service.routes.bodies import JsonByAnyName
from service.routes.conversing import (
    LOREBASE,
    Talk,
    collection_of,
    embedders,
    embeds,
    own_name,
    relayed,
    submit,
    submit_texts,
)
from service.routes.listening import listen
from service.routes.ops import running_version
from service.schemas import ollama as wire

router = APIRouter(prefix="/api", tags=["ollama"], route_class=JsonByAnyName)

NDJSON = "application/x-ndjson"
_STREAM = {
    "description": "The reply; unless `stream` is false, one JSON document a line, the last one `done`.",
    "content": {
        NDJSON: {
            "schema": {"type": "string"},
            "example": '{"model": "lorebase:default", "message": {"role": "assistant", "content": "Run"}, '
            '"done": false}\n',
        }
    },
}
_ERRORS = dialects.declared("ollama", 404, 409, 429, 502, 503, 504)
Item = TypeVar("Item")


@router.post(
    "/chat",
    summary="Chat, as Ollama's clients do",
    response_model=wire.ChatReply,
    responses={200: _STREAM, **_ERRORS},
)
async def chat(body: wire.ChatRequest, request: Request, parts: PartsDep) -> Response:
    """An own model's reply, an answer from documents (`lorebase:COLLECTION`), or Ollama's own."""
    name = _here(parts, body.model)
    if name is None:
        return await _relay(request, parts, "/api/chat", stream=body.stream is not False)
    body.refuse_unsupported()
    talk = Talk(
        name, body.turns(), body.decoding.sampling(), body.reply_tokens, clipped=True, retrieving=body
    )
    return await _spoken(request, parts, talk, body, _chat_line)


@router.post(
    "/generate",
    summary="Reply to a prompt",
    response_model=wire.GenerateReply,
    responses={200: _STREAM, **_ERRORS},
)
async def generate(body: wire.GenerateRequest, request: Request, parts: PartsDep) -> Response:
    """The same with a prompt instead of turns; with `raw`, what follows the prompt."""
    name = _here(parts, body.model)
    if name is None:
        return await _relay(request, parts, "/api/generate", stream=body.stream is not False)
    body.refuse_unsupported()
    talk = Talk(name, body.said(), body.decoding.sampling(), body.reply_tokens, clipped=True, retrieving=body)
    return await _spoken(request, parts, talk, body, _generate_line)


@router.post("/embed", summary="Texts to vectors", response_model=wire.EmbedReply, responses={**_ERRORS})
async def embed(body: wire.EmbedRequest, request: Request, parts: PartsDep) -> Response:
    """By our embedder, or one of Ollama's."""
    if not await embeds(parts, body.model):
        return await _relay(request, parts, "/api/embed", stream=False)
    started = datetime.now(UTC)
    ticket = submit_texts(
        parts,
        body.model,
        body.texts(),
        "passage",
        truncate=body.truncate is not False,
        dimensions=body.dimensions,
    )
    async with contextlib.aclosing(listen(request, ticket)) as events:
        found = await anext(events)
    reply = wire.EmbedReply(
        model=body.model,
        embeddings=found.vectors.tolist(),
        total_duration=int((datetime.now(UTC) - started).total_seconds() * 1e9),
        prompt_eval_count=found.tokens,
    )
    return _json(reply)


@router.post(
    "/embeddings",
    summary="One text to a vector (older form)",
    response_model=wire.EmbeddingsReply,
    responses={**_ERRORS},
)
async def embeddings(body: wire.EmbeddingsRequest, request: Request, parts: PartsDep) -> Response:
    """By our embedder, or one of Ollama's."""
    if not await embeds(parts, body.model):
        return await _relay(request, parts, "/api/embeddings", stream=False)
    ticket = submit_texts(parts, body.model, [body.prompt], "passage", truncate=True)
    async with contextlib.aclosing(listen(request, ticket)) as events:
        found = await anext(events)
    return _json(wire.EmbeddingsReply(embedding=found.vectors[0].tolist()))


@router.get(
    "/tags",
    summary="Models that can be asked",
    response_model_exclude_none=True,
    responses={**dialects.declared("ollama")},
)
def tags(parts: PartsDep) -> wire.ListReply:
    """Own models, adapters, collections, the embedder, and Ollama's models if it answers."""
    return wire.ListReply(models=[*map(_listed, _offers(parts)), *_theirs(parts, "/api/tags")])


@router.get(
    "/ps",
    summary="Models in memory",
    response_model_exclude_none=True,
    responses={**dialects.declared("ollama")},
)
def ps(parts: PartsDep) -> wire.ListReply:
    """Own models that are loaded, and Ollama's if it answers."""
    loaded = [catalogue.of_model(m, parts.home) for m in parts.models.list_own() if m.loaded]
    return wire.ListReply(models=[*map(_listed, loaded), *_theirs(parts, "/api/ps")])


@router.post("/show", summary="One model", response_model=wire.ShowReply, responses={**_ERRORS})
async def show(body: wire.ShowRequest, request: Request, parts: PartsDep) -> Response:
    """What is known of an own model; Ollama's are told by itself."""
    name = body.named()
    if (collection := collection_of(parts, name)) is not None:
        name = f"{LOREBASE}:{collection}"
    offer = next((o for o in _offers(parts) if name.removesuffix(":latest") == o.name), None)
    if offer is None:
        return await _relay(request, parts, "/api/show", stream=False)
    info: dict[str, Any] = {"general.architecture": offer.family, "general.basename": offer.name}
    if offer.context_tokens is not None:
        info[f"{offer.family}.context_length"] = offer.context_tokens
    return _json(
        wire.ShowReply(
            modelfile=f"# {offer.name} is served by Lorebase; there is no Modelfile.",
            parameters="",
            template="",
            details=_details(offer),
            model_info=info,
            capabilities=list(offer.capabilities),
            modified_at=offer.modified.isoformat(),
        )
    )


@router.get("/version", summary="Version", responses={**dialects.declared("ollama")})
async def version() -> wire.VersionReply:
    """Of Lorebase."""
    return wire.VersionReply(version=running_version())


def _here(parts: Parts, model: str) -> str | None:
    """The name by which it is answered here; None where it goes to Ollama."""
    return model if collection_of(parts, model) is not None else own_name(parts, model)


def _offers(parts: Parts) -> list[Offer]:
    models = parts.models.list_own()
    own = {m.name for m in models}
    found = [catalogue.of_model(m, parts.home) for m in models]
    found += [
        catalogue.of_name(f"{a.base}+{a.name}", "lorebase")
        for a in parts.models.list_adapters()
        if a.base in own
    ]
    found += [
        catalogue.of_name(f"{LOREBASE}:{c.name}", "lorebase-collection", c.bytes_on_disk)
        for c in parts.library.collections()
    ]
    return found + [catalogue.of_embedder(name, parts.home) for name in embedders(parts)]


def _listed(offer: Offer) -> wire.Listed:
    return wire.Listed(
        name=offer.name,
        model=offer.name,
        modified_at=offer.modified.isoformat(),
        size=offer.size,
        digest=offer.digest,
        details=_details(offer),
    )


def _details(offer: Offer) -> dict[str, Any]:
    return wire.Details(family=offer.family, families=[offer.family]).model_dump()


def _theirs(parts: Parts, path: str) -> list[wire.Listed]:
    """Ollama's models in its own words; none where it does not answer."""
    if parts.models.ollama is None:
        return []
    with contextlib.suppress(UpstreamError):
        found = parts.models.ollama.catalogue(path)
        return [wire.Listed.model_validate({"name": m.get("model"), **m}) for m in found if m.get("model")]
    return []


Line = Callable[[str, str, str, dict[str, Any]], BaseModel]


def _chat_line(model: str, text: str, thinking: str, more: dict[str, Any]) -> wire.ChatReply:
    said = wire.SaidReply(role="assistant", content=text, thinking=thinking or None)
    return wire.ChatReply(model=model, created_at=_now(), message=said, **more)


def _generate_line(model: str, text: str, thinking: str, more: dict[str, Any]) -> wire.GenerateReply:
    return wire.GenerateReply(
        model=model, created_at=_now(), response=text, thinking=thinking or None, **more
    )


async def _spoken(
    request: Request, parts: Parts, talk: Talk, body: wire.ChatRequest | wire.GenerateRequest, line: Line
) -> Response:
    """A reply of our own, streamed or whole."""
    heard = listen(request, submit(parts, talk))
    if body.stream is not False:
        first = await anext(heard)  # what goes wrong before it still gets its own status
        return StreamingResponse(
            _lines(parts, body.model, line, first, heard),
            media_type=NDJSON,
            headers={"X-Accel-Buffering": "no"},
        )
    async with contextlib.aclosing(heard):
        async for event in heard:
            if isinstance(event, Ended):
                return _json(line(body.model, event.text, event.reasoning, _done(event)))
    raise errors.ServiceError("the reply had no end")


async def _lines(
    parts: Parts, model: str, line: Line, first: Heard, rest: AsyncGenerator[Heard]
) -> AsyncIterator[bytes]:
    """A reply as it goes over the wire; what goes wrong now is a last line that holds the error."""
    try:
        async for event in _chained(first, rest):
            match event:
                case Said(text, reasoning):
                    yield _dumped(line(model, text, reasoning, {"done": False})) + b"\n"
                case Ended():
                    yield _dumped(line(model, "", "", _done(event))) + b"\n"
                case _:  # the sources stand in the last line
                    pass
    except Exception as error:
        yield _dumped(_told(parts, error)) + b"\n"
    finally:
        await rest.aclose()


async def _relay(request: Request, parts: Parts, path: str, *, stream: bool) -> Response:
    """Ollama's own reply, streamed or whole."""
    body = await request.json()
    chunks = listen(request, relayed(parts, path, body, stream=stream))
    if stream:
        first = await anext(chunks)
        return StreamingResponse(
            _passed_on(parts, first, chunks), media_type=NDJSON, headers={"X-Accel-Buffering": "no"}
        )
    async with contextlib.aclosing(chunks):
        return Response(await anext(chunks), media_type="application/json")


async def _passed_on(parts: Parts, first: bytes, rest: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    chunk = b""
    try:
        async for chunk in _chained(first, rest):
            yield chunk
    except Exception as error:
        ended = chunk.endswith(b"\n")
        yield (b"" if ended else b"\n") + _dumped(_told(parts, error)) + b"\n"  # on a line of its own
    finally:
        await rest.aclose()


async def _chained(first: Item, rest: AsyncGenerator[Item]) -> AsyncIterator[Item]:
    yield first
    async for item in rest:
        yield item


def _done(end: Ended) -> dict[str, Any]:
    return {
        "done": True,
        "done_reason": end.reason,
        "total_duration": end.total_ns,
        "load_duration": end.load_ns,
        "prompt_eval_count": end.prompt_tokens,
        "prompt_eval_duration": end.prompt_ns,
        "eval_count": end.completion_tokens,
        "eval_duration": end.reply_ns,
        **({} if end.final is None else wire.ChatReply.grounds(end.final)),
    }


def _told(parts: Parts, error: Exception) -> dialects.OllamaErrorReply:
    status, body, _ = problems.problem(error, parts.home)
    return dialects.OllamaErrorReply.model_validate(dialects.shaped("ollama", status, body)[1])


def _dumped(reply: BaseModel) -> bytes:
    """Without what is not there, as Ollama sends it; a source or citation is whole, as it is declared."""
    told = reply.model_dump(mode="json", exclude_none=True)
    for name in told.keys() & {"sources", "citations"}:
        told[name] = [item.model_dump(mode="json") for item in getattr(reply, name)]
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def _json(reply: BaseModel) -> Response:
    return Response(_dumped(reply), media_type="application/json")


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
