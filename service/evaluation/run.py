"""Asking every question in every mode, and keeping each reply as soon as it is there.

Questions are the outer loop: what is there after an interruption is a paired comparison of the first ones. A
question that fails is a reply with an error; a mode that fails several times in a row is given up with its
reason, and the others go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ingest.errors import IngestError
from ingest.types import Hit
from model.errors import Cancelled, ModelError
from service.answer import Answerer
from service.errors import ServiceError
from service.evaluation.modes import Asking, Mode
from service.evaluation.passages import SourceOf, holds_answer, is_evidence
from service.evaluation.questions import Question
from service.evaluation.replies import Answers, Cited, Reply, setup_of
from service.events import Final, Token
from service.generators import Generator
from service.quoting import best_sentences

#: Failures in a row after which a mode is given up.
PATIENCE = 3

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Bench:
    """What a run needs of the service."""

    answerer: Answerer
    generator: Callable[[str], Generator]
    source: SourceOf
    generation: Callable[[Question], int]  #: of the index that the question is put to
    asking: Asking
    decides: Mapping[str, object] = field(default_factory=dict)  #: what else replies depend on, by name
    judges: Mapping[str, object] = field(default_factory=dict)  #: the same of replies from passages only
    clock: Callable[[], float] = time.perf_counter

    def setup(self, question: Question, mode: Mode) -> str:
        """Everything that decides this reply."""
        return setup_of(
            question=question,
            generator=mode.generator,
            ask=mode.ask,
            asking=(self.asking.k, self.asking.search_mode, self.asking.collection)
            if mode.passages
            else None,
            generation=self.generation(question) if mode.passages else None,
            decides=dict(self.decides),
            judges=dict(self.judges) if mode.passages else None,
        )


@dataclass(slots=True)
class Outcome:
    """What a run has come to: replies by mode, in the order of the questions."""

    replies: dict[str, dict[str, Reply]] = field(default_factory=dict)  #: mode -> question -> reply
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False


def run(
    questions: Sequence[Question],
    modes: Sequence[Mode],
    bench: Bench,
    answers: Answers,
    *,
    told: Callable[[Question, Mode, Reply, bool], None] | None = None,
) -> Outcome:
    """Ask what has not been asked yet; Ctrl-C ends it early.

    Args:
        questions: in the order of asking.
        modes: those that can be asked.
        bench: what answers.
        answers: where replies are kept, and found again.
        told: called for every reply; its last argument says whether it was there already.

    Raises:
        AnswersUnwritable: replies cannot be kept.
    """
    outcome = Outcome({mode.name: {} for mode in modes})
    failed = dict.fromkeys(outcome.replies, 0)
    cancel = threading.Event()
    try:
        for question in questions:
            for mode in modes:
                if failed[mode.name] >= PATIENCE:
                    continue
                setup = bench.setup(question, mode)
                known = answers.get((question.id, mode.name, setup))
                reply = known or _ask(question, mode, bench, setup, cancel)
                if known is None:
                    answers.add([reply])
                outcome.replies[mode.name][question.id] = reply
                failed[mode.name] = failed[mode.name] + 1 if reply.error else 0
                if failed[mode.name] == PATIENCE:
                    outcome.notes.append(f"{mode.name} was given up after {PATIENCE} failures: {reply.error}")
                if told is not None:
                    told(question, mode, reply, known is not None)
    except KeyboardInterrupt:
        cancel.set()
        outcome.interrupted = True
    for name, given in [*outcome.replies.items()]:
        if given and all(reply.error for reply in given.values()):
            if failed[name] < PATIENCE:
                outcome.notes.append(f"{name} failed at every question: {next(iter(given.values())).error}")
            del outcome.replies[name]
    return outcome


def _ask(question: Question, mode: Mode, bench: Bench, setup: str, cancel: threading.Event) -> Reply:
    reply = Reply(id=question.id, mode=mode.name, setup=setup)
    try:
        if mode.ask is not None:
            return _answer(question, mode, bench, reply, cancel)
        return (
            _best_sentence(question, bench, reply)
            if mode.passages
            else replace(reply, refusal_reason="always")
        )
    except Cancelled as error:
        raise KeyboardInterrupt from error
    except (ServiceError, ModelError, IngestError) as error:
        return replace(reply, error=f"{type(error).__name__}: {error}")


def _answer(question: Question, mode: Mode, bench: Bench, reply: Reply, cancel: threading.Event) -> Reply:
    """One question through the conductor."""
    assert mode.generator is not None
    generator = bench.generator(mode.generator)  # loading a model is no part of answering
    source = bench.source(question)
    started, first, final = bench.clock(), None, None
    for event in bench.answerer.answer(mode.asks(question), source, generator, cancel):
        if first is None and isinstance(event, Token | Final):
            first = bench.clock()
        if isinstance(event, Final):
            final = event
    if final is None or first is None:
        raise ServiceError("the answer ended without a reply")
    said = [s for s in final.statements if not s.ours]
    return replace(
        reply,
        answer="".join(s.text for s in said).strip(),  # markers are no words of the answer
        answered=final.answered,
        refusal_reason=final.refusal_reason,
        llm_generated=final.llm_generated,
        model=final.model,
        reading=final.reading,
        confidence=final.confidence,
        retrieval_score=_score(final.sources),
        found=any(is_evidence(question, h.path, h.text) for h in final.sources) if mode.passages else None,
        citations=tuple(
            Cited(
                c.marker,
                c.path,
                c.page_first,
                c.char_start,
                c.char_end,
                c.text,
                is_evidence(question, c.path, _passage(final.sources, c.path, c.char_start) or c.text),
                holds_answer(question, c.text),
            )
            for c in final.citations
        ),
        first_token_ms=_ms(started, first),
        total_ms=_ms(started, bench.clock()),
    )


def _best_sentence(question: Question, bench: Bench, reply: Reply) -> Reply:
    """The baseline that quotes: no refusal, no generator."""
    source, asking = bench.source(question), bench.asking
    started = bench.clock()
    hits = (
        source.search.search(question.text, asking.k, asking.search_mode).hits
        if source.search is not None
        else ()
    )
    quotes = best_sentences(question.text, hits, source.similarity, 1)
    took = _ms(started, bench.clock())
    reply = replace(
        reply,
        retrieval_score=_score(hits),
        found=any(is_evidence(question, h.path, h.text) for h in hits),
        first_token_ms=took,
        total_ms=took,
    )
    if not quotes:
        return replace(reply, refusal_reason="nothing_found")
    quote = quotes[0]
    cited = Cited(
        1,
        quote.hit.path,
        quote.hit.page_first,
        quote.hit.char_start + quote.start,
        quote.hit.char_start + quote.end,
        quote.text,
        is_evidence(question, quote.hit.path, quote.hit.text),
        holds_answer(question, quote.text),
    )
    return replace(reply, answer=quote.text, answered=True, citations=(cited,))


def _score(hits: Sequence[Hit]) -> float | None:
    """How the retrieval itself ranks its result: the best cosine where there is one."""
    if not hits:
        return None
    cosines = [h.dense_score for h in hits if h.dense_score is not None]
    return max(cosines) if cosines else hits[0].score


def _passage(hits: Sequence[Hit], path: str, offset: int) -> str | None:
    """The text of the retrieved passage that holds a citation."""
    return next((h.text for h in hits if h.path == path and h.char_start <= offset < h.char_end), None)


def _ms(start: float, end: float) -> float:
    return round(1000 * (end - start), 2)
