"""A conversation as programs of OpenAI's and Ollama's families hold it: one reply, in pieces, and its end.

Two ways lead to a reply. `speak` gives the turns to a generator as they are, or lets it go on with a text.
`look_up` answers the last question from a collection, through the one conductor; its draft may be replaced
until it has been checked, and a piece that was sent cannot be taken back, so what is checked is sent, at the
end.

Both block and run in a slot's thread. The last event is `Ended`, always.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ingest.types import Hit
from model.config import Sampling
from model.errors import ContextOverflow, UnsupportedModel
from service import events, tracing
from service.answer import Answerer, Ask, Source
from service.generators import Continues, Generator, Message, Piece
from service.reasoning import Splitter

#: Longest reply of our own engine to a caller who sets no limit, in tokens.
OWN_REPLY_TOKENS = 1024

_clock = time.perf_counter_ns


@dataclass(frozen=True, slots=True)
class Found:
    """What the search found, before anything is written."""

    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of the reply, or of the reasoning before it."""

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The whole reply, and what it took; durations in nanoseconds."""

    text: str = ""
    reasoning: str = ""
    reason: Literal["stop", "length", "load"] = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_ns: int = 0
    load_ns: int = 0
    prompt_ns: int = 0
    reply_ns: int = 0
    final: events.Final | None = None  #: where it was answered from documents


Heard = Found | Said | Ended


@dataclass(frozen=True, slots=True)
class Limit:
    """How long a reply may get."""

    tokens: int | None = None  #: None: as fits, up to `otherwise`
    otherwise: int | None = None  #: None: the rest of the window
    clipped: bool = False  #: to the window, where `tokens` exceed it; else that is an error


def speak(
    get: Callable[[], Generator],
    said: Sequence[Message] | str,
    sampling: Sampling,
    limit: Limit,
    cancel: threading.Event,
) -> Iterator[Heard]:
    """The generator's reply to these turns, or what follows this text.

    Args:
        get: gives the generator; may load it.
        said: turns, or a text to go on with. No turns: the model is loaded, and nothing is said.
        sampling: how to decode; its `max_tokens` does not count.
        limit: how long the reply may get.
        cancel: ends it.

    Raises:
        ContextOverflow: no room for the reply.
        UnsupportedModel: it has no chat template, or cannot go on with a text.
        Cancelled: `cancel` was set.
        ModelError, ServiceError: what the generator raises.
    """
    started = _clock()
    generator = get()
    loaded = _clock()
    if not said:
        yield Ended(reason="load", total_ns=loaded - started, load_ns=loaded - started)
        return
    splitter = Splitter()
    text = ""
    first: int | None = None
    last: Piece | None = None
    for piece in _traced(generator, _pieces(generator, said, sampling, limit, cancel)):
        first = _clock() if first is None else first
        if isinstance(said, str):  # a text that goes on is not looked into
            spoken = Said(piece.text)
            text += piece.text
        else:
            spoken = Said(*splitter.feed(piece.text, piece.reasoning))
        if spoken.text or spoken.reasoning:
            yield spoken
        last = piece if piece.finish_reason or last is None else last
    if not isinstance(said, str):
        held = Said(*splitter.finish())
        if held.text or held.reasoning:
            yield held
        text = splitter.answer
    ended = _clock()
    yield Ended(
        text=text,
        reasoning=splitter.reasoning,
        reason=(last.finish_reason if last else None) or "stop",
        prompt_tokens=last.prompt_tokens if last else 0,
        completion_tokens=last.completion_tokens if last else 0,
        total_ns=ended - started,
        load_ns=loaded - started,
        prompt_ns=(first or ended) - loaded,
        reply_ns=ended - (first or ended),
    )


def look_up(
    get: Callable[[], Generator],
    answerer: Answerer,
    ask: Ask,
    source: Callable[[], Source],
    cancel: threading.Event,
) -> Iterator[Heard]:
    """The answer to a question from a collection: `Found`, reasoning, then the checked answer.

    Raises:
        Cancelled: `cancel` was set.
        IngestError, ModelError, ServiceError: what search and generator raise.
    """
    started = _clock()
    generator = get()
    loaded = _clock()
    most = max(1, generator.context_tokens // 2)
    ask = replace(ask, sampling=replace(ask.sampling, max_tokens=min(ask.sampling.max_tokens, most)))
    for event in answerer.answer(ask, source(), generator, cancel):
        match event:
            case events.Sources(hits, _):
                yield Found(hits)
            case events.Reasoning(text):
                yield Said(reasoning=text)
            case events.Final():
                if event.answer:
                    yield Said(event.answer)
                ended = _clock()
                first_ms = event.timings.first_token_ms or event.timings.total_ms
                prompt_ns = min(round(first_ms * 1e6), ended - loaded)
                yield Ended(
                    text=event.answer,
                    reasoning=event.reasoning,
                    prompt_tokens=event.usage.prompt_tokens,
                    completion_tokens=event.usage.completion_tokens,
                    total_ns=ended - started,
                    load_ns=loaded - started,
                    prompt_ns=prompt_ns,
                    reply_ns=ended - loaded - prompt_ns,
                    final=event,
                )
            case _:  # a draft
                pass


def _traced(generator: Generator, pieces: Iterator[Piece]) -> Iterator[Piece]:
    with tracing.span("generation", gen_ai__request__model=generator.name) as span:
        for piece in pieces:
            if piece.finish_reason:
                span.set(
                    gen_ai__usage__input_tokens=piece.prompt_tokens,
                    gen_ai__usage__output_tokens=piece.completion_tokens,
                )
            yield piece


def _pieces(
    generator: Generator,
    said: Sequence[Message] | str,
    sampling: Sampling,
    limit: Limit,
    cancel: threading.Event,
) -> Iterator[Piece]:
    if not isinstance(said, str):
        fitted = _fitted(generator, generator.count_tokens(said), sampling, limit)
        return generator.stream(said, fitted, cancel)
    if not isinstance(generator, Continues):
        raise UnsupportedModel(
            f"{generator.name} cannot go on with a text as it stands; ask it as a chat instead"
        )
    return generator.go_on(said, _fitted(generator, generator.count_text(said), sampling, limit), cancel)


def _fitted(generator: Generator, prompt_tokens: int, sampling: Sampling, limit: Limit) -> Sampling:
    """The sampling with a reply length that the window has room for.

    Raises:
        ContextOverflow: there is no room, or not for what was asked for.
    """
    room = generator.context_tokens - prompt_tokens
    wanted = 1 if limit.tokens is None or limit.clipped else limit.tokens
    if room < wanted:
        reply = "" if limit.tokens is None else f" and {limit.tokens} of reply"
        raise ContextOverflow(
            f"{prompt_tokens} tokens of prompt{reply} exceed {generator.name}'s window of "
            f"{generator.context_tokens}: shorten either"
        )
    longest = limit.tokens or limit.otherwise or room
    return replace(sampling, max_tokens=min(longest, room))
