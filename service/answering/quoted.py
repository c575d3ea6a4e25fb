"""Answering with the documents' own words: what the span reader finds, or the best sentence without it.

A question for a few words gets them, with their sentence as the citation; one for a way, a list, a reason or
yes or no gets sentences. Every word is a slice of a stored document either way, so `llm_generated` is false.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ingest.types import Hit
from service.answering.each import remarks
from service.answering.tabled import with_cells
from service.answering.turn import Quoted, Turn, say
from service.citations import Citer, Statement
from service.events import Event
from service.questions import definitions, kinds, wanted
from service.quoting import CANDIDATES, Quote, best_sentences
from service.reading import select
from service.reading.readings import PassageReading, Span
from service.spans import candidates
from service.spans.quoter import Quoter, read

#: Sentences that are ranked, some of them for a small generator to read; and how many make a quoted answer.
QUOTES, QUOTED = 3, 1
#: Further sentences of a list, a way or a summary must fit at least this well, beside the best one.
ALSO_FITS, MOST_SENTENCES = 0.8, 4
#: The calibrator knows questions for a few words. One for sentences is refused only below this share of its
#: threshold: a sentence that is beside the point shows itself, and is cited.
LENIENT = 0.5


def answer(turn: Turn, quoter: Quoter | None = None) -> Iterator[Event]:
    """The answer of the passages in their own words, or a refusal.

    Raises:
        Cancelled: the question was withdrawn.
    """
    reader = quoter.reads(turn.ask.question) if quoter is not None and turn.reply.sources else None
    if quoter is None or reader is None:
        yield from sentences(turn)
        return
    ask, heard = turn.ask, turn.heard
    hits = heard.hits
    fitting = best_sentences(ask.question, hits, turn.source.similarity, CANDIDATES)
    turn.check_cancel()
    readings = read(reader, ask.question, hits, turn.cancel)
    turn.check_cancel()

    def weigh(some: Sequence[Hit]) -> list[candidates.Candidate]:
        seen = [reading for hit, reading in zip(hits, readings, strict=True) if hit in some]
        found = candidates.gather(ask.question, some, seen, fitting)
        return with_cells(turn, some, candidates.weigh(found, quoter.calibrator), candidates.Candidate)

    weighed = heard.trusted(weigh, quoter.calibrator.threshold)
    confidence = weighed[0].probability if weighed else 0.0
    turn.reply = replace(
        turn.reply,
        model=reader.name,
        quoted_by="spans",
        confidence=round(confidence, 4),
        calibrator=quoter.calibrator.name,
    )
    threshold = quoter.calibrator.threshold * (LENIENT if wanted.sentences(ask.question) else 1.0)
    doubtful = confidence < threshold and ask.on_no_answer == "refuse"
    if not weighed or doubtful:
        yield turn.refuse("not_in_passages")
        return
    yield from reply(turn, weighed, fitting, threshold)


def reply(
    turn: Turn, weighed: list[candidates.Candidate], fitting: list[Quote], threshold: float
) -> Iterator[Event]:
    """The likeliest candidate, and one that contradicts it; as a few words or as sentences."""
    question = turn.ask.question
    likely = [c for c in weighed if c.probability >= threshold] or weighed[:1]
    leading = likely[definitions.first(question, [c.reading.quoted for c in likely])]
    turn.reply = replace(turn.reply, confidence=round(leading.probability, 4))
    best = leading.reading
    short = best.answer or ""
    whole = best.by != "cells" and (
        wanted.sentences(question)
        or wanted.repeats(question, short)
        or definitions.takes_sentences(question, short)
    )
    chosen = [best]
    conflict = None if whole else _contradicting(question, weighed, threshold)
    if conflict is not None:
        chosen.append(conflict)
    citer = Citer(question, ())
    told = remarks(question, leading.probability, conflict=conflict is not None)
    places: list[Quoted] = []
    for one in chosen:
        if whole:
            places += [(one.hit, a, b, one.hit.text[a:b]) for a, b in _stretches(question, one, fitting)]
        else:
            places.append((one.hit, *one.sentences[0], one.answer or ""))
    yield from say(told, citer, places)
    yield turn.final(
        tuple(told),
        answered=True,
        llm_generated=False,
        citations=tuple(citer.citations),
        conflict=conflict is not None,
    )


def _contradicting(
    question: str, weighed: list[candidates.Candidate], threshold: float
) -> PassageReading | None:
    """Another document's answer that is nearly as likely and says something else."""
    best = weighed[0]
    least = max(threshold, select.CONTRADICTS * best.probability)
    for other in weighed[1:]:
        apart = other.reading.hit.document_id != best.reading.hit.document_id
        if other.probability < least:
            return None
        if apart and select.contradict(question, best.reading, other.reading):
            return other.reading
    return None


def _stretches(question: str, reading: PassageReading, fitting: list[Quote]) -> list[Span]:
    """The sentence of the best span, with what it announces, and others that fit nearly as well.

    For questions that nobody chooses sentences for: yes or no in English quotations, sentences of a kind that
    nobody can tell, a short answer that only repeats the question, and what the chooser was not sure of where
    an answer is wanted all the same.
    """
    hit = reading.hit
    here = [quote for quote in fitting if quote.hit is hit]
    start, end = reading.sentences[0]
    around = [quote for quote in here if quote.start < end and start < quote.end]
    found = [(start, max([end, *(quote.end for quote in around if quote.start >= start)]))]
    if kinds.kind(question) in kinds.SEVERAL and fitting:
        least = ALSO_FITS * fitting[0].score
        for quote in here:
            apart = all(quote.end <= a or b <= quote.start for a, b in found)
            if quote.score >= least and apart and len(found) < MOST_SENTENCES:
                found.append((quote.start, quote.end))
    return sorted(found)


def sentences(turn: Turn) -> Iterator[Event]:
    """The best sentences of the passages by words and meaning, word for word."""
    quotes = turn.quotes or ranked(turn)
    turn.reply = replace(turn.reply, quoted_by="sentences")
    if not quotes:
        yield turn.refuse("nothing_relevant")
        return
    # A line that only repeats the question is a heading, whatever it looks like.
    quotes = sorted(quotes, key=lambda quote: wanted.repeats(turn.ask.question, quote.text))
    citer = Citer(turn.ask.question, ())
    statements: list[Statement] = []
    yield from say(statements, citer, [(q.hit, q.start, q.end, q.text) for q in quotes[:QUOTED]])
    yield turn.final(tuple(statements), answered=True, llm_generated=False, citations=tuple(citer.citations))


def ranked(turn: Turn) -> list[Quote]:
    """The best sentences of the passages, best first; all of passages that steer nobody before any other.

    Raises:
        Cancelled: the question was withdrawn.
    """
    heard = turn.heard
    quotes = best_sentences(turn.ask.question, heard.hits, turn.source.similarity, CANDIDATES)
    turn.check_cancel()
    return sorted(quotes, key=lambda quote: heard.steers(quote.hit))[:QUOTES]
