"""One question on its way: what was asked, from where it is answered, and how a reply ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from ingest.filters import Filter
from ingest.rerank import Reranker
from ingest.types import Hit, SearchMode, SearchResult
from ingest.widening import Parsed
from model.config import Sampling
from model.errors import Cancelled
from service import refusal, render
from service.citations import Citer, Statement
from service.events import AskMode, Checked, Context, Event, Final, ReadingWay, Refusal, Token
from service.followup import Said
from service.generators import Generator
from service.quoting import Quote, Similarity
from service.reading import orders
from service.refusal import Rarity
from service.spans.quoter import Quoter

#: A passage, the stretch of it that is cited, and the words of it that are said.
Quoted = tuple[Hit, int, int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question with everything that decides how it is answered."""

    question: str
    history: tuple[Said, ...] = ()  #: what was said before, oldest first
    collection: str = "default"
    mode: AskMode = "rag"
    reading: ReadingWay = "each"  #: each passage apart, where there is a reader; or all in one prompt
    k: int = 5
    search_mode: SearchMode = "hybrid"
    where: Filter | None = None  #: only documents that pass
    reranker: Reranker | None = None  #: who orders the first passages anew
    context: Context = "passage"  #: what is read of the documents: passages, or their sections
    on_no_answer: Literal["refuse", "answer"] = "refuse"
    acceptable_error: float | None = None  #: share of wrong answers; None: as the calibrator says
    sampling: Sampling = field(default_factory=Sampling)


class Search(Protocol):
    """The search of one collection, as `ingest.search.Searcher` offers it."""

    def search(self, query: str, k: int, mode: SearchMode, where: Filter | None = None) -> SearchResult:
        """The best `k` passages, all from one generation of the index, of documents that pass `where`."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where an answer's passages come from; `search` is None where nothing has been ingested yet."""

    search: Search | None
    similarity: Similarity | None = None
    rarity: Rarity | None = None  #: how rare each term is in the collection
    unrelated_cosine: float = 0.0  #: what the embedder gives texts that have nothing to do with each other
    quoter: Quoter | None = None  #: reads passages for spans, in any language
    embedder: str | None = None  #: which one searched, where a collection did
    parsed: Parsed | None = None  #: a document with its sections, by id


@dataclass(slots=True)
class Turn:
    """One question on its way. `reply` is filled as it goes and becomes the `Final`."""

    ask: Ask
    source: Source
    generator: Generator
    cancel: threading.Event
    clock: Callable[[], float]
    started: float
    reply: Final
    relevance: float = 0.0  #: probability that the passages are about the question
    doubted: bool = False  #: so low that only what answers for itself is said, and no best sentence
    quotes: list[Quote] = field(default_factory=list)  #: the best sentences, where somebody ranked them

    @property
    def heard(self) -> orders.Heard:
        """What is read of the passages that were found: they speak to people, not to the model."""
        return orders.heard(self.ask.question, self.reply.sources)

    def check_cancel(self) -> None:
        """Raises Cancelled where the question was withdrawn."""
        if self.cancel.is_set():
            raise Cancelled("the question was withdrawn")

    def since_ms(self) -> float:
        """Milliseconds since it began."""
        return round(1000 * (self.clock() - self.started), 2)

    def why_not(self, confidence: float, usual: float) -> Refusal:
        """Why an answer of this confidence is not given, where it usually is from `usual` on."""
        strict = self.ask.acceptable_error is not None and confidence >= usual
        return "not_sure_enough" if strict else "not_in_passages"

    def refuse(self, reason: Refusal, missing: Sequence[str] = ()) -> Final:
        """The reply that says why there is no answer; `missing`: names that the documents never mention."""
        told = Statement(refusal.explain(reason, self.ask.collection, self.ask.question, missing))
        return self.final((told,), answered=False, refusal_reason=reason)

    def final(self, statements: tuple[Statement, ...], **changes: object) -> Final:
        """The reply with these sentences, rendered, and with these fields."""
        checked = bool(changes.get("llm_generated")) and self.ask.mode != "closed_book"
        timings = replace(self.reply.timings, total_ms=self.since_ms())
        final = replace(
            self.reply,
            answer=render.plain(statements),
            answer_html=render.html(statements, flag_unsupported=checked),
            statements=statements,
            timings=timings,
        )
        return replace(final, **changes)  # type: ignore[arg-type]


def say(told: list[Statement], citer: Citer, quoted: Iterable[Quoted]) -> Iterator[Event]:
    """Say what is quoted, each with its citation, behind what has been put into `told` before."""
    for ours in told:
        yield Checked(ours, ())
    for hit, start, end, words in quoted:
        known = len(citer.citations)
        marker = citer.add(hit, start, end, 1.0)
        told.append(Statement(("\n\n" if told else "") + words, (marker,)))
        yield Token(told[-1].text)
        yield Checked(told[-1], tuple(citer.citations[known:]))
