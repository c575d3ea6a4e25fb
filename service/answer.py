"""The one conductor: retrieve, refuse or pack, generate, cite, reply.

`Answerer.answer` is a blocking iterator of events that ends with `Final`; JSON, server-sent events and the
terminal all read this one path. It runs inside a slot of the runner, so a request that finds no slot has cost
nothing. How passages become an answer is in `service.answering`.

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
from dataclasses import replace
from functools import partial

from ingest import rerank
from ingest.scripts import script
from ingest.types import SearchResult
from ingest.widening import widened
from service import followup, refusal, several, tracing
from service.answering import across, chosen, computed, each, joint, quoted
from service.answering.turn import Ask, Search, Source, Turn
from service.events import Event, Final, Sources, Timings
from service.generators import Generator, PassageReader, Reads
from service.questions import wanted, years
from service.reading import orders
from service.reading.calibrators import Calibrators
from service.reading.second import FEW_WORDS, seconded
from service.spans.quoter import Quoter

__all__ = ["Answerer", "Ask", "Search", "Source", "writes"]

#: Relevance from which on a reader is asked, which then judges each passage; below, it would only cost time.
READ_FROM = 0.2


class Answerer:
    """Conducts questions; holds no state of its own."""

    def __init__(
        self,
        refuse_below: float = 0.5,
        clock: Callable[[], float] = time.perf_counter,
        calibrators: Calibrators | None = None,
    ) -> None:
        """Set the thresholds.

        Args:
            refuse_below: relevance of what was found under which nothing is read.
            clock: seconds.
            calibrators: of what readers find; the shipped one alone by default.
        """
        self.refuse_below = refuse_below
        self.calibrators = calibrators or Calibrators()
        self._clock = clock

    def answer(
        self, ask: Ask, source: Source, generator: Generator, cancel: threading.Event
    ) -> Iterator[Event]:
        """The events of one answer; the last one is `Final`.

        Raises:
            Cancelled: `cancel` was set.
            IngestError, ModelError, ServiceError: what search and generator raise.
        """
        questions = wanted.apart(ask.question)
        if questions and _one_by_one(ask, generator):
            one = partial(self._one, source=source, generator=generator, cancel=cancel)
            yield from several.answer(questions, ask, one)
        else:
            yield from self._one(ask, source, generator, cancel)

    def _one(
        self, ask: Ask, source: Source, generator: Generator, cancel: threading.Event
    ) -> Iterator[Event]:
        """The events of one question."""
        asked = followup.standalone(ask.question, ask.history)
        # From here on, nobody has to know the history.
        ask = replace(ask, question=wanted.plain(asked.text))
        reply = Final(
            id=f"ask-{uuid.uuid4().hex}",
            mode=ask.mode,
            standalone_question=asked.text if asked.carried else None,
        )
        turn = Turn(ask, source, generator, cancel, self._clock, self._clock(), reply)
        if ask.mode == "closed_book":
            yield from _traced(turn, joint.closed_book(turn))
        else:
            for event in self._from_documents(turn, asked):
                told: tuple[Event, ...] = ()
                if isinstance(event, Final) and not event.answered and (_quotes(turn) or _reads(turn)):
                    told = tuple(across.answer(turn))
                yield from told or (event,)

    def _from_documents(self, turn: Turn, asked: followup.Standalone) -> Iterator[Event]:
        ask = turn.ask
        if turn.source.search is None:
            yield Sources((), 0)
            yield turn.refuse("nothing_ingested")
            return
        search = partial(turn.source.search.search, where=ask.where)
        with tracing.span("retrieval", lorebase__collection=ask.collection, lorebase__k=ask.k) as span:
            deep = ask.k if ask.reranker is None else rerank.depth(ask.k)
            found = followup.search_all(search, asked, deep, ask.search_mode)
            span.set(
                lorebase__search_mode=ask.search_mode,
                lorebase__hits=len(found.hits),
                lorebase__index_generation=found.generation,
            )
        turn.check_cancel()
        # Whether anything is relevant is judged by the search itself: its scores are what was calibrated.
        heard = orders.heard(ask.question, found.hits[: ask.k])
        judged = refusal.relevance(ask.question, heard.hits, turn.source.rarity, turn.source.unrelated_cosine)
        found = _arranged(turn, found)
        turn.check_cancel()
        turn.relevance, turn.doubted = judged.probability, judged.probability < self.refuse_below
        turn.reply = replace(
            turn.reply,
            sources=found.hits,
            index_generation=found.generation,
            confidence=round(judged.probability, 4),
            timings=Timings(search_ms=round(found.search_ms, 2)),
        )
        yield Sources(found.hits, found.generation)
        if not found.hits:
            turn.reply = replace(turn.reply, confidence=0.0)
            yield turn.refuse("nothing_found" if found.generation else "nothing_ingested")
        elif told := tuple(computed.answer(turn)) if _quotes(turn) or _reads(turn) else ():
            yield from _traced(turn, iter(told))
        elif ask.on_no_answer == "answer":
            yield from _traced(turn, self._answered(turn))
        elif missing := refusal.unmentioned(ask.question, found.hits, turn.source.rarity):
            turn.reply = replace(turn.reply, confidence=0.0)
            yield turn.refuse("not_mentioned", missing)
        elif all(years.of_another(ask.question, hit) for hit in found.hits):
            turn.reply = replace(turn.reply, confidence=0.0)
            yield turn.refuse("not_in_passages")
        elif judged.probability < self._least(turn):
            yield turn.refuse("nothing_relevant")
        else:
            yield from _traced(turn, self._answered(turn))

    def _least(self, turn: Turn) -> float:
        """Relevance under which nothing is read: lower where a reader or a larger model judges for itself.

        What a larger model writes is held against the passages, and they are not quoted in its stead.
        """
        writes_well = turn.ask.mode == "rag" and not turn.generator.focus_sentences and not _quotes(turn)
        judges = _reads(turn) or _chooser(turn) is not None or writes_well
        return min(self.refuse_below, READ_FROM) if judges else self.refuse_below

    def _answered(self, turn: Turn) -> Iterator[Event]:
        """The chosen sentences where these answer; else in the documents' words, or in the generator's."""
        quoter = _chooser(turn)
        if quoter is not None:
            before = turn.reply
            for event in chosen.answer(turn, quoter):
                yield event
                if isinstance(event, Final):
                    return
            turn.reply = before
        if _quotes(turn):
            yield from quoted.answer(turn, turn.source.quoter)
        else:
            yield from self._read(turn)

    def _read(self, turn: Turn) -> Iterator[Event]:
        """Each passage apart where there is a reader, else or failing that all in one prompt."""
        first = reader_of(turn.generator) if turn.ask.reading == "each" else None
        if first is not None:
            reader = seconded(first, turn.source.quoter, turn.ask.question)
            others = {seconded(first, turn.source.quoter, FEW_WORDS).fingerprint, first.fingerprint}
            before = turn.reply
            speaking = self.calibrators.of(
                turn.ask.collection, turn.ask.question, reader.fingerprint, turn.source.embedder, others
            )
            for event in each.answer(turn, reader, speaking):
                yield event
                if isinstance(event, Final):
                    return
            turn.reply = before
        yield from joint.answer(turn)


def _one_by_one(ask: Ask, generator: Generator) -> bool:
    """Whether several questions are answered each by itself: larger models than ours answer them together."""
    reads = ask.mode == "rag" and ask.reading == "each" and reader_of(generator) is not None
    return ask.mode == "quote" or reads


def _quotes(turn: Turn) -> bool:
    """Whether the documents' own words are wanted, or all that the generator cannot spoil."""
    first = (hit.text for hit in turn.heard.hits[:1])
    return turn.ask.mode == "quote" or not writes(turn.generator, turn.ask.question, *first)


def _reads(turn: Turn) -> bool:
    """Whether our reader reads each passage."""
    return turn.ask.mode == "rag" and turn.ask.reading == "each" and reader_of(turn.generator) is not None


def _chooser(turn: Turn) -> Quoter | None:
    """Who chooses sentences for this question: not where a larger model than ours is to write the answer."""
    return chosen.chooses(turn) if _quotes(turn) or _reads(turn) else None


def _arranged(turn: Turn, found: SearchResult) -> SearchResult:
    """What was found in the order of the reranker, and as wide, as the question wants it.

    Hits keep the scores of the search: readers and calibrators were fitted on them.
    """
    ask = turn.ask
    if ask.reranker is not None:
        scores = {hit.chunk_id: hit.score for hit in found.hits}
        found = rerank.reranked(ask.question, found, ask.k, ask.reranker)
        found = replace(found, hits=tuple(replace(h, score=scores[h.chunk_id]) for h in found.hits))
    if ask.context == "section" and turn.source.parsed is not None:
        found = widened(found, turn.source.parsed)
    return found


def _traced(turn: Turn, events: Iterator[Event]) -> Iterator[Event]:
    """The same events, traced as one generation; from documents it includes reading and checking."""
    with tracing.span("generation", gen_ai__request__model=turn.generator.name) as span:
        for event in events:
            if isinstance(event, Final):
                span.set(
                    gen_ai__usage__input_tokens=event.usage.prompt_tokens,
                    gen_ai__usage__output_tokens=event.usage.completion_tokens,
                    lorebase__mode=event.mode,
                    lorebase__answered=event.answered,
                    lorebase__refusal_reason=event.refusal_reason,
                    lorebase__first_token_ms=event.timings.first_token_ms,
                )
            yield event


def reader_of(generator: Generator) -> PassageReader | None:
    """The reader beside a generator, if it has one."""
    return generator.reader if isinstance(generator, Reads) else None


def writes(generator: Generator, *texts: str) -> bool:
    """Whether the generator can read and write the languages of these texts, judged by script."""
    return generator.writes_cjk or not any(script(text) == "CJK" for text in texts)
