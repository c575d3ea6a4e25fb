"""From the model's name in another API's request to a job in the right slot; no check costs anything."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from fastapi.concurrency import run_in_threadpool

from ingest.errors import EmbedderError
from model.config import Sampling
from model.errors import UnknownModel
from service import errors
from service.answer import Ask
from service.conversation import OWN_REPLY_TOKENS, Heard, Limit, look_up, speak
from service.deps import Parts
from service.embedding import Embedded, embed
from service.followup import Said
from service.generators import Message
from service.models import OLLAMA, OPENAI
from service.reranking import until
from service.runner import Ticket
from service.schemas.retrieving import Retrieving
from service.schemas.wire import composed

#: `lorebase` or `lorebase:COLLECTION` in place of a model's name: answered from documents.
LOREBASE = "lorebase"
LATEST = ":latest"
#: Most of an upstream's reply that is not streamed.
MOST_BYTES = 64_000_000


def collection_of(parts: Parts, model: str) -> str | None:
    """The collection that a model's name stands for; None where it is a model's."""
    name, colon, collection = model.partition(":")
    if name != LOREBASE:
        return None
    return composed(collection) if colon and collection != "latest" else parts.settings.collection


def own_name(parts: Parts, model: str) -> str | None:
    """The name of our own model, or of an OpenAI-style server's; Ollama's clients add `:latest`."""
    for name in (model, model.removesuffix(LATEST)):
        if parts.models.has(name) or (parts.models.openai and name.startswith(OPENAI)):
            return name
    return None


@dataclass(frozen=True, slots=True)
class Talk:
    """What another API's request asks for."""

    model: str
    said: Sequence[Message] | str
    sampling: Sampling
    reply_tokens: int | None = None
    clipped: bool = False  #: a reply length past the window is cut to it
    retrieving: Retrieving = field(default_factory=lambda: Retrieving.model_validate({}))  #: how to search


def submit(parts: Parts, talk: Talk) -> Ticket[Heard]:
    """Queue a conversation.

    Raises:
        UnknownModel, NotReady, WeightsMissing, QuestionTooLong, Busy: nothing was done for it.
    """
    collection = collection_of(parts, talk.model)
    if collection is not None:
        return _submit_question(parts, talk, collection)
    talk.retrieving.refuse_without_documents()
    choice = parts.models.choose(talk.model)
    if choice.own and choice.default:
        parts.readiness.require("generator")
    limit = Limit(talk.reply_tokens, OWN_REPLY_TOKENS if choice.own else None, talk.clipped)

    def job(cancel: threading.Event) -> Iterator[Heard]:
        return speak(choice.get, talk.said, talk.sampling, limit, cancel)

    runner = parts.runner if choice.own else parts.upstream_runner
    return runner.submit(job, parts.settings.deadline_s)


def _submit_question(parts: Parts, talk: Talk, collection: str) -> Ticket[Heard]:
    settings, wanted = parts.settings, talk.retrieving
    question, history = (talk.said, ()) if isinstance(talk.said, str) else _asked(talk.said)
    if not question.strip() and not talk.said and talk.clipped:  # Ollama's way to load a model
        choice = parts.models.choose(None)
        limit = Limit(talk.reply_tokens, OWN_REPLY_TOKENS, talk.clipped)
        return parts.runner.submit(
            lambda cancel: speak(choice.get, (), talk.sampling, limit, cancel), settings.deadline_s
        )
    if not question.strip():
        raise errors.UnsupportedField(
            "messages", f"{talk.model} answers the last user turn, and there is none"
        )
    if len(question) > settings.max_question_chars:
        raise errors.QuestionTooLong(
            f"the question has {len(question):,} characters; at most {settings.max_question_chars:,} "
            "are accepted (setting max_question_chars)."
        )
    choice = parts.models.choose(None)
    if choice.own:
        parts.readiness.require("generator")
    parts.require_index(collection)
    sampling = replace(talk.sampling, max_tokens=talk.reply_tokens or settings.longest(own=choice.own))
    ask = Ask(
        question=question.strip(),
        history=history,
        collection=collection,
        k=wanted.k or settings.k,
        search_mode=wanted.search_mode or settings.search_mode,
        where=wanted.filters,
        reranker=parts.reranking.wanted(wanted.rerank),
        acceptable_error=settings.acceptable_error,
        sampling=sampling,
    )

    def job(cancel: threading.Event) -> Iterator[Heard]:
        ending = replace(ask, reranker=until(ask.reranker, cancel))
        return look_up(choice.get, parts.answerer, ending, lambda: parts.library.source(collection), cancel)

    runner = parts.runner if choice.own else parts.upstream_runner
    return runner.submit(job, settings.deadline_s)


def submit_texts(
    parts: Parts,
    model: str | None,
    texts: Sequence[str],
    kind: Literal["query", "passage"],
    *,
    truncate: bool,
    dimensions: int | None = None,
) -> Ticket[Embedded]:
    """Queue texts for the embedder. Raises NotReady, EmbedderError, Busy: nothing was done for them."""
    parts.readiness.settled("index")  # the embedder is loaded with it, or says itself what is wrong

    def job(cancel: threading.Event) -> Iterator[Embedded]:
        return embed(
            parts.library.embedder,
            model,
            texts,
            kind,
            truncate=truncate,
            cancel=cancel,
            dimensions=dimensions,
        )

    return parts.embed_runner.submit(job, parts.settings.deadline_s)


async def embeds(parts: Parts, model: str) -> bool:
    """Whether our embedder has that name."""
    return model.removesuffix(LATEST) in await run_in_threadpool(embedders, parts)


def embedders(parts: Parts) -> list[str]:
    """The name of the embedder, once it is loaded."""
    with contextlib.suppress(EmbedderError):
        if parts.readiness.parts().get("index") == "ready":
            return [parts.library.embedder().name]
    return []


def relayed(parts: Parts, path: str, body: dict[str, object], *, stream: bool) -> Ticket[bytes]:
    """Queue a request for Ollama as it is, but for the model's name there. Not streamed, it is one piece.

    Raises:
        UnknownModel: there is no upstream.
        InvalidRequest: it holds what JSON has no word for.
        Busy: nothing was done for it.
    """
    upstream = parts.models.ollama
    model = str(body.get("model") or body.get("name")).removeprefix(OLLAMA)
    if upstream is None:
        raise UnknownModel(f"no model {model!r} is installed. Fetch one: python -m model pull NAME")
    try:  # now: once it is on its way a failure would be taken for the upstream's
        json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise errors.InvalidRequest(
            "the body holds NaN, a number without end, half of a surrogate pair, or is nested too deep"
        ) from error

    def job(cancel: threading.Event) -> Iterator[bytes]:
        with contextlib.closing(upstream.relay(path, {**body, "model": model}, cancel)) as relay:
            chunks = _begun(relay, upstream.address)
            yield from chunks if stream else _whole(chunks, upstream.address)

    return parts.upstream_runner.submit(job, parts.settings.deadline_s)


def _begun(chunks: Iterator[bytes], address: str) -> Iterator[bytes]:
    """The same, if it begins as JSON does. Raises UpstreamError."""
    first = next((chunk for chunk in chunks if chunk.strip()), b"")
    if not first.lstrip().startswith(b"{"):
        raise errors.UpstreamError(f"Ollama at {address} sent something that cannot be read")
    yield first
    yield from chunks


def _whole(chunks: Iterator[bytes], address: str) -> Iterator[bytes]:
    """All of it in one piece, checked to be one JSON document. Raises UpstreamError."""
    whole = bytearray()
    for chunk in chunks:
        whole += chunk
        if len(whole) > MOST_BYTES:
            raise errors.UpstreamError(f"the reply of Ollama at {address} is past {MOST_BYTES:,} bytes")
    try:
        json.loads(whole)
    except ValueError as error:
        raise errors.UpstreamError(
            f"Ollama at {address} sent something that cannot be read: {error}"
        ) from error
    yield bytes(whole)


def _asked(turns: Sequence[Message]) -> tuple[str, tuple[Said, ...]]:
    """The last user turn, and what was said before it; system turns are not for an answer from documents."""
    asked = [at for at, turn in enumerate(turns) if turn["role"] == "user"]
    if not asked:
        return "", ()
    before = turns[: asked[-1]]
    history = tuple(
        Said("user" if turn["role"] == "user" else "assistant", turn["content"])
        for turn in before
        if turn["role"] != "system"
    )
    return turns[asked[-1]]["content"], history
