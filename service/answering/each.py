"""Every passage is read apart; the likeliest answer is given, or none, or both of two that disagree.

An answer is the model's short one where the sentences that it quotes bear it out, and those sentences
themselves where they do not. So every word is either in a cited sentence or the document's own.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from itertools import takewhile

from ingest.types import Hit
from service import evidence
from service.answering.tabled import with_cells
from service.answering.turn import Turn
from service.choosing.stretches import is_called, stretches
from service.citations import Citation, Citer, Statement, without_forged_markers
from service.events import Checked, Event, Token, Usage
from service.generators import PassageReader
from service.questions import compared, definitions
from service.quoting import announced
from service.reading import select
from service.reading.calibrators import Speaking
from service.reading.form import MOST_SENTENCES
from service.reading.readings import PassageReading, Readings, Span
from service.sentences import ITEM_SIGNS, is_item, split
from service.sentences import Span as SentenceSpan

DISAGREE = "The documents give different answers."
DISAGREE_CJK = "各文档的说法不一致。"
UNSURE = "I am not sure that this answers the question."
UNSURE_CJK = "不确定下面的内容是否回答了问题。"
#: A single answer less likely than this is given with a warning in front, which every program shows.
UNSURE_BELOW = 0.15


#: What is said of a check that was made, and of one that the documents' own words do not need.
DONE, NOT_NEEDED = "done", "not needed: the words are the documents' own"


def answer(turn: Turn, reader: PassageReader, speaking: Speaking) -> Iterator[Event]:
    """Read each passage and answer from the best; ends without `Final` where the caller has to find a way.

    That is where nothing qualifies and the user wants an answer all the same.

    Args:
        turn: the question.
        reader: reads.
        speaking: judges what it read.

    Raises:
        Cancelled: the question was withdrawn.
    """
    ask = turn.ask
    heard = turn.heard
    readings = yield from _read(turn, reader, heard.hits)
    point = speaking.calibrator.operating_point(ask.acceptable_error)

    def weigh(hits: Sequence[Hit]) -> list[select.Candidate]:
        some = [reading for reading in readings.passages if reading.hit in hits]
        weighed = select.weigh(ask.question, some, turn.relevance, speaking.calibrator)
        return with_cells(turn, hits, weighed, select.Candidate)

    verdict = select.decide(ask.question, heard.trusted(weigh, point.threshold), point.threshold)
    turn.reply = replace(
        turn.reply,
        reading="each",
        confidence=round(verdict.confidence, 4),
        calibrator=speaking.calibrator.name,
        calibrator_note=speaking.note,
        operating_point=point,
    )
    if verdict.best is None or (verdict.kind == "refuse" and ask.on_no_answer == "refuse"):
        if ask.on_no_answer == "refuse":
            yield turn.refuse(turn.why_not(verdict.confidence, speaking.calibrator.threshold))
        return
    chosen = [verdict.best.reading]
    if verdict.other is not None:
        chosen.append(verdict.other.reading)
    citer = Citer(ask.question, ())
    statements = remarks(ask.question, verdict.confidence, conflict=verdict.kind == "conflict")
    for ours in statements:
        yield Checked(ours, ())
    generated = False
    for reading in chosen:
        said, written = _statements(ask.question, reading, citer)
        generated |= written
        for statement, citations in said:
            whole = replace(statement, text="\n\n" + statement.text) if statements else statement
            statements.append(whole)
            yield Checked(whole, citations)
    yield turn.final(
        tuple(statements),
        answered=True,
        llm_generated=generated,
        citations=tuple(citer.citations),
        conflict=verdict.kind == "conflict",
        checks={
            "quotation": DONE,
            "overlap": DONE if generated else NOT_NEEDED,
            "evidence_gain": DONE if generated else NOT_NEEDED,
        },
    )


def remarks(question: str, confidence: float, *, conflict: bool) -> list[Statement]:
    """What is said in front of an answer: that the documents differ, or that it may well be wrong."""
    if conflict:
        return [Statement(DISAGREE_CJK if evidence.in_chinese(question) else DISAGREE, ours=True)]
    return [unsure(question)] if confidence < UNSURE_BELOW else []


def unsure(question: str) -> Statement:
    """That what follows may well be no answer."""
    return Statement(UNSURE_CJK if evidence.in_chinese(question) else UNSURE, ours=True)


def _read(turn: Turn, reader: PassageReader, hits: Sequence[Hit]) -> Generator[Event, None, Readings]:
    """The reader's draft as events; returns its readings."""
    going = reader.read(turn.ask.question, hits, turn.cancel)
    first_token_ms: float | None = None
    while True:
        try:
            piece = next(going)
        except StopIteration as ended:
            readings: Readings = ended.value
            break
        turn.check_cancel()
        first_token_ms = turn.since_ms() if first_token_ms is None else first_token_ms
        yield Token(piece)
    turn.check_cancel()
    turn.reply = replace(
        turn.reply,
        model=reader.name,
        usage=Usage(
            prompt_tokens=readings.prompt_tokens,
            completion_tokens=readings.completion_tokens,
            context_tokens=reader.context_tokens,
            dropped_chunks=readings.dropped,
            cached_tokens=readings.cached_tokens,
        ),
        timings=replace(turn.reply.timings, first_token_ms=first_token_ms),
    )
    return readings


def _statements(
    question: str, reading: PassageReading, citer: Citer
) -> tuple[list[tuple[Statement, tuple[Citation, ...]]], bool]:
    """What one passage says, with the citations that each sentence is the first to use.

    The second value is whether it says it in the generator's words.
    """
    hit = reading.hit
    answer = (reading.answer or "").strip()
    if reading.by == "generator" and answer not in hit.text:
        answer = without_forged_markers(answer).strip()
    few = reading.by == "cells" or not definitions.takes_sentences(question, answer)
    if answer and select.supported(question, reading) and few:
        known = len(citer.citations)
        wanted = evidence.weights(question if reading.polar else answer)
        markers = []
        for start, end in reading.sentences:
            having = frozenset(evidence.terms(hit.text[start:end]))
            markers.append(citer.add(hit, start, end, evidence.share(wanted, having) if wanted else 1.0))
        made = Statement(answer, tuple(dict.fromkeys(markers)))
        return [(made, tuple(citer.citations[known:]))], reading.by == "generator"
    found = []
    for start, end in _stretches(question, reading):
        known = len(citer.citations)
        marker = citer.add(hit, start, end, 1.0)
        found.append((Statement(hit.text[start:end], (marker,)), tuple(citer.citations[known:])))
    return found, False


def _stretches(question: str, reading: PassageReading) -> list[Span]:
    """The quoted sentences in the document's order; one that announces something comes with it.

    Of a comparison, the first sentences that speak of either thing, where the passage has both. Of a list,
    those that speak as much of what is asked as the quoted one does, too: each may have an item.
    """
    text = reading.hit.text
    spans = split(text)
    if (things := compared.weighed(question)) is not None:
        having = [(s, {*evidence.terms(text[s.start : s.end])}) for s in spans if s.kind != "heading"]
        firsts = [
            next((s for s, terms in having if wanted and wanted <= terms), None)
            for wanted in ({*evidence.terms(thing)} for thing in things)
        ]
        if None not in firsts:
            return sorted({(s.start, s.end) for s in firsts if s is not None})
    quoted = set(reading.sentences)
    if definitions.lists(question):
        whole = next((s for s in stretches([reading.hit]) if is_called(s, question)), None)
        if whole is not None:  # Ingredients: is all of it, and nothing else is
            return [(whole.start, whole.end)]
        quoted |= _alike(question, text, spans, reading)
    quoted |= _named(question, text, spans, reading)
    ends = {span.start: announced(text, spans, index) for index, span in enumerate(spans)}
    found: list[Span] = []
    for start, end in sorted(quoted)[:MOST_SENTENCES]:
        if not found or start >= found[-1][1]:
            found.append((start, max(end, ends.get(start, end))))
    return found


def _named(question: str, text: str, spans: Sequence[SentenceSpan], reading: PassageReading) -> set[Span]:
    """What names the things, behind a quoted sentence that says only how many there are."""
    number = definitions.how_many_named(question)
    for at, span in enumerate(spans if number else ()):
        said = (span.start, span.end) in reading.sentences
        if number and said and definitions.announces(text[span.start : span.end], number):
            after = takewhile(lambda s: s.kind != "heading", spans[at + 1 : at + 1 + number])
            behind = [(s.start, s.end) for s in after]
            return {*behind[: definitions.naming([text[a:b] for a, b in behind], number)]}
    return set()


def _alike(question: str, text: str, spans: Sequence[SentenceSpan], reading: PassageReading) -> set[Span]:
    """The sentences that have as much of the question's content as the quoted one."""
    wanted = evidence.weights(question)

    def share(start: int, end: int) -> float:
        return evidence.share(wanted, frozenset(evidence.terms(text[start:end])))

    least = share(*min(reading.sentences))
    told = [(s.start, s.end) for s in spans if s.kind != "heading"]
    return {span for span in told if share(*span) >= least} if least else _run(text, told, reading)


def _run(text: str, told: Sequence[Span], reading: PassageReading) -> set[Span]:
    """The items of the list that a quoted one stands in, where it has nothing of the question by itself."""
    items = [span for span in told if is_item(text, span[0])]
    runs: list[list[Span]] = []
    for span in items:
        if runs and not text[runs[-1][-1][1] : span[0]].strip(ITEM_SIGNS):
            runs[-1].append(span)
        else:
            runs.append([span])
    quoted = next((run for run in runs if min(reading.sentences) in run), [])
    return set(quoted)
