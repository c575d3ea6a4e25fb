"""The one conductor: retrieve, refuse or pack, generate, cite, reply.

`Answerer.answer` is a blocking iterator of events that ends with `Final`; JSON, server-sent events and the
terminal all read this one path. It runs inside a slot of the runner, so a request that finds no slot has cost
nothing.

Invariants:
- `Final.answer` counts; `Token`s are the draft as it is written and may be replaced, by a quote or where
  reasoning turns out to have stood in front;
- every citation's text is cut from the stored document, whatever the generator wrote;
- `llm_generated` is true only if the reply's words are the generator's.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from ingest.types import SearchMode, SearchResult
from model.config import Sampling
from model.errors import Cancelled
from service import prompt, refusal, render
from service.citations import Citer, Statement
from service.events import AskMode, Checked, Event, Final, Refusal, Sources, Timings, Token, Usage
from service.evidence import script
from service.generators import Generator
from service.quoting import Quote, Similarity, best_sentences, focus
from service.writing import Writing

#: How much of a small generator's answer must stand in the passages; below it the documents speak.
MOSTLY_SUPPORTED = 0.5
#: Sentences that are ranked for a small generator to read, and how many make a quoted answer.
QUOTES, QUOTED = 3, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question with everything that decides how it is answered."""

    question: str
    collection: str = "default"
    mode: AskMode = "rag"
    k: int = 5
    search_mode: SearchMode = "hybrid"
    on_no_answer: Literal["refuse", "answer"] = "refuse"
    sampling: Sampling = field(default_factory=Sampling)


class Search(Protocol):
    """The search of one collection, as `ingest.search.Searcher` offers it."""

    def search(self, query: str, k: int, mode: SearchMode) -> SearchResult:
        """The best `k` passages, all from one generation of the index."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where an answer's passages come from; `search` is None where nothing has been ingested yet."""

    search: Search | None
    similarity: Similarity | None = None
    rarity: refusal.Rarity | None = None  #: how rare each term is in the collection
    unrelated_cosine: float = 0.0  #: what the embedder gives texts that have nothing to do with each other


@dataclass(slots=True)
class _Asked:
    """One question on its way."""

    ask: Ask
    source: Source
    generator: Generator
    cancel: threading.Event
    started: float
    reply: Final
    quotes: list[Quote] = field(default_factory=list)

    def check_cancel(self) -> None:
        if self.cancel.is_set():
            raise Cancelled("the question was withdrawn")


class Answerer:
    """Conducts questions; holds no state of its own."""

    def __init__(self, refuse_below: float = 0.5, clock: Callable[[], float] = time.perf_counter) -> None:
        self.refuse_below = refuse_below
        self._clock = clock

    def answer(
        self, ask: Ask, source: Source, generator: Generator, cancel: threading.Event
    ) -> Iterator[Event]:
        """The events of one answer; the last one is `Final`.

        Raises:
            Cancelled: `cancel` was set.
            IngestError, ModelError, ServiceError: what search and generator raise.
        """
        reply = Final(id=f"ask-{uuid.uuid4().hex}", mode=ask.mode)
        asked = _Asked(ask, source, generator, cancel, self._clock(), reply)
        if ask.mode == "closed_book":
            yield from self._closed_book(asked)
        else:
            yield from self._from_documents(asked)

    def _closed_book(self, asked: _Asked) -> Iterator[Event]:
        generator = asked.generator
        room = generator.context_tokens - asked.ask.sampling.max_tokens
        packed = prompt.closed_book(asked.ask.question, generator.count_tokens, room)
        writing = Writing(None)
        yield from self._write(asked, packed, writing, asked.ask.sampling)
        yield self._generated(asked, writing, answered=bool(writing.statements))

    def _from_documents(self, asked: _Asked) -> Iterator[Event]:
        ask = asked.ask
        if asked.source.search is None:
            yield Sources((), 0)
            yield self._refuse(asked, "nothing_ingested")
            return
        found = asked.source.search.search(ask.question, ask.k, ask.search_mode)
        asked.check_cancel()
        judged = refusal.relevance(
            ask.question, found.hits, asked.source.rarity, asked.source.unrelated_cosine
        )
        asked.reply = replace(
            asked.reply,
            sources=found.hits,
            index_generation=found.generation,
            confidence=round(judged.probability, 4),
            timings=Timings(search_ms=round(found.search_ms, 2)),
        )
        yield Sources(found.hits, found.generation)
        if not found.hits:
            asked.reply = replace(asked.reply, confidence=0.0)
            yield self._refuse(asked, "nothing_found" if found.generation else "nothing_ingested")
        elif judged.probability < self.refuse_below and ask.on_no_answer == "refuse":
            yield self._refuse(asked, "nothing_relevant")
        elif ask.mode == "quote" or not writes(asked.generator, ask.question, found.hits[0].text):
            yield from self._quote(asked)
        else:
            yield from self._generate(asked)

    def _generate(self, asked: _Asked) -> Iterator[Event]:
        ask, generator = asked.ask, asked.generator
        hits, sampling = asked.reply.sources, ask.sampling
        if generator.focus_sentences:
            asked.quotes = best_sentences(ask.question, hits, asked.source.similarity, QUOTES)
            asked.check_cancel()
            hits = tuple(focus(asked.quotes[: generator.focus_sentences])) or hits
            sampling = replace(sampling, stop=(*sampling.stop, *prompt.STOP))
        room = generator.context_tokens - sampling.max_tokens
        packed = prompt.pack(ask.question, hits, generator.count_tokens, room)
        read = {hit.chunk_id for hit in packed.hits}
        packed = replace(packed, dropped_chunks=len({h.chunk_id for h in asked.reply.sources} - read))
        if not packed.hits:  # no passage fits beside the question
            asked.reply = replace(asked.reply, usage=Usage(dropped_chunks=packed.dropped_chunks))
            yield from self._quote(asked)
            return
        writing = Writing(Citer(ask.question, packed.hits))
        yield from self._write(asked, packed, writing, sampling)
        if (ask.on_no_answer == "answer" and writing.statements) or _stands(asked, writing):
            yield self._generated(asked, writing, answered=True)
        else:  # what answers does not stand in the passages: their own words do, and they replace the draft
            yield from (e for e in self._quote(asked) if isinstance(e, Final))

    def _write(
        self, asked: _Asked, packed: prompt.Packed, writing: Writing, sampling: Sampling
    ) -> Iterator[Event]:
        generator = asked.generator
        first_token_ms: float | None = None
        for piece in generator.stream(packed.messages, sampling, asked.cancel):
            asked.check_cancel()
            if first_token_ms is None and (piece.text or piece.reasoning):
                first_token_ms = self._since(asked)
            yield from writing.feed(piece)
            if writing.repeats:
                break
        yield from writing.finish()
        last = writing.last
        asked.reply = replace(
            asked.reply,
            model=generator.name,
            reasoning=writing.reasoning,
            usage=Usage(
                prompt_tokens=(last.prompt_tokens if last else 0) or packed.prompt_tokens,
                completion_tokens=last.completion_tokens if last else 0,
                context_tokens=generator.context_tokens,
                dropped_chunks=packed.dropped_chunks,
            ),
            timings=replace(asked.reply.timings, first_token_ms=first_token_ms),
        )

    def _generated(self, asked: _Asked, writing: Writing, *, answered: bool) -> Final:
        confidence = asked.reply.confidence
        if confidence is not None:
            confidence = round(confidence * writing.support, 4)
        return self._final(
            asked,
            tuple(writing.statements),
            answered=answered,
            llm_generated=True,
            citations=tuple(writing.citer.citations) if writing.citer else (),
            confidence=confidence,
        )

    def _quote(self, asked: _Asked) -> Iterator[Event]:
        """The best sentences of the passages, word for word."""
        sources = asked.reply.sources
        quotes = asked.quotes or best_sentences(asked.ask.question, sources, asked.source.similarity, QUOTES)
        asked.check_cancel()
        if not quotes:
            yield self._refuse(asked, "nothing_relevant")
            return
        citer = Citer(asked.ask.question, ())
        statements: list[Statement] = []
        for quote in quotes[:QUOTED]:
            known = len(citer.citations)
            marker = citer.add(quote.hit, quote.start, quote.end, 1.0)
            statements.append(Statement(("\n\n" if statements else "") + quote.text, (marker,)))
            yield Token(statements[-1].text)
            yield Checked(statements[-1], tuple(citer.citations[known:]))
        yield self._final(
            asked, tuple(statements), answered=True, llm_generated=False, citations=tuple(citer.citations)
        )

    def _refuse(self, asked: _Asked, reason: Refusal) -> Final:
        told = Statement(refusal.explain(reason, asked.ask.collection))
        return self._final(asked, (told,), answered=False, refusal_reason=reason)

    def _final(self, asked: _Asked, statements: tuple[Statement, ...], **changes: object) -> Final:
        checked = bool(changes.get("llm_generated")) and asked.ask.mode != "closed_book"
        timings = replace(asked.reply.timings, total_ms=self._since(asked))
        final = replace(
            asked.reply,
            answer=render.plain(statements),
            answer_html=render.html(statements, flag_unsupported=checked),
            statements=statements,
            timings=timings,
        )
        return replace(final, **changes)  # type: ignore[arg-type]

    def _since(self, asked: _Asked) -> float:
        return round(1000 * (self._clock() - asked.started), 2)


def _stands(asked: _Asked, writing: Writing) -> bool:
    """Whether what was written may be the answer: its first sentence has support.

    With a small generator, most of the rest must have support too, and the first sentence must have been
    found where the best quote is: it is then never worse than that quote, which its citation shows.
    """
    if not (writing.citer and writing.statements and writing.statements[0].supported):
        return False
    if not asked.quotes:
        return True
    if writing.support < MOSTLY_SUPPORTED:
        return False
    best = asked.quotes[0]
    first, last = best.hit.char_start + best.start, best.hit.char_start + best.end
    return any(
        c.document_id == best.hit.document_id and c.char_start < last and first < c.char_end
        for c in writing.citer.citations
        if c.marker in writing.statements[0].markers
    )


def writes(generator: Generator, *texts: str) -> bool:
    """Whether the generator can read and write the languages of these texts, judged by script."""
    return generator.writes_cjk or not any(script(text) == "CJK" for text in texts)
