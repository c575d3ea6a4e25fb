"""Questions for sentences: the stretches that answer best, word for word (`service.choosing`).

No generator is asked: which sentences answer is a choice, and the encoder that searched helps to make it, in
a fraction of the time. What is said are slices of stored documents, so `llm_generated` is false.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from service.answering.each import unsure
from service.answering.tabled import asks_for_columns, in_header
from service.answering.turn import Turn, say
from service.choosing.features import Known
from service.citations import Citer
from service.events import Event
from service.questions import kinds
from service.spans.quoter import Quoter, read

#: An answer less likely than this is given with a warning in front.
UNSURE_BELOW = 0.35


def chooses(turn: Turn) -> Quoter | None:
    """Who chooses for this question; None where it asks for a few words, or nobody can choose."""
    quoter, question = turn.source.quoter, turn.ask.question
    if quoter is None or quoter.chooser is None or turn.source.similarity is None:
        return None
    return quoter if kinds.chosen(question) and quoter.reads(question) is not None else None


def answer(turn: Turn, quoter: Quoter) -> Iterator[Event]:
    """The stretches that answer, or a refusal.

    Ends without `Final` where nothing qualifies and the user wants an answer all the same, and where all that
    qualifies is the header of a table: the caller has to find a way.

    Raises:
        Cancelled: the question was withdrawn.
    """
    ask, heard = turn.ask, turn.heard
    reader, chooser = quoter.reader, quoter.chooser
    assert reader is not None and chooser is not None
    spans = read(reader, ask.question, heard.hits, turn.cancel)
    turn.check_cancel()
    known = Known(
        ask.question,
        heard.hits,
        turn.relevance,
        turn.source.similarity,
        turn.source.rarity,
        turn.source.unrelated_cosine,
        spans,
    )
    choice = chooser.choose(known, heard.doubtful)
    turn.check_cancel()
    point = chooser.calibrator.operating_point(ask.acceptable_error)
    if choice.probability < point.threshold and ask.on_no_answer == "answer":
        return
    if (
        choice.stretches
        and not asks_for_columns(ask.question)
        and all(in_header(one.hit, one.start, one.end) for one in choice.stretches)
    ):
        return
    turn.reply = replace(
        turn.reply,
        model=reader.name,
        quoted_by="sentences",
        confidence=round(choice.probability, 4),
        calibrator=chooser.calibrator.name,
        operating_point=point,
    )
    if not choice.stretches or choice.probability < point.threshold:
        yield turn.refuse(turn.why_not(choice.probability, chooser.calibrator.threshold))
        return
    citer = Citer(ask.question, ())
    told = [unsure(ask.question)] if choice.probability < UNSURE_BELOW else []
    places = [(one.hit, one.start, one.end, one.text) for one in choice.stretches]
    yield from say(told, citer, places)
    yield turn.final(tuple(told), answered=True, llm_generated=False, citations=tuple(citer.citations))
