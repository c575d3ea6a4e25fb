"""Answering with the documents' own words: the best sentence by words and meaning (`service.quoting`)."""

from __future__ import annotations

from collections.abc import Iterator

from service.answering.turn import Turn
from service.citations import Citer, Statement
from service.events import Checked, Event, Token
from service.quoting import best_sentences

#: Sentences that are ranked, some of them for a small generator to read; and how many make a quoted answer.
QUOTES, QUOTED = 3, 1


def answer(turn: Turn) -> Iterator[Event]:
    """The best sentences of the passages, word for word."""
    sources = turn.reply.sources
    quotes = turn.quotes or best_sentences(turn.ask.question, sources, turn.source.similarity, QUOTES)
    turn.check_cancel()
    if not quotes:
        yield turn.refuse("nothing_relevant")
        return
    citer = Citer(turn.ask.question, ())
    statements: list[Statement] = []
    for quote in quotes[:QUOTED]:
        known = len(citer.citations)
        marker = citer.add(quote.hit, quote.start, quote.end, 1.0)
        statements.append(Statement(("\n\n" if statements else "") + quote.text, (marker,)))
        yield Token(statements[-1].text)
        yield Checked(statements[-1], tuple(citer.citations[known:]))
    yield turn.final(tuple(statements), answered=True, llm_generated=False, citations=tuple(citer.citations))
