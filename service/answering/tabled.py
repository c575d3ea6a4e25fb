"""What a table's cell says goes beside what was read: as a candidate with a likelihood of its own.

A cell whose row and column the question names is likelier right than what a small model reads off the rows.
Where that cell is empty, no other cell of a table may stand in for it. Nor may any row for a superlative (the
tallest) that the table could not be asked for (`service.answering.computed`): which row has most of something
is nothing that one can read off a row, unless it says so itself. And a row that has nothing of what the
question names, but for its column, speaks of somebody else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from ingest.scripts import script
from ingest.types import Hit
from ingest.widening import Parsed
from service import cells, evidence
from service.answering.turn import Turn
from service.questions import definitions, tabular
from service.reading import second
from service.reading.readings import PassageReading

#: Who asks for the columns is told the header.
_COLUMNS = re.compile(r"\b(?:columns?|fields?|headers?|headings?)\b|列|字段|欄|栏|表头|表頭", re.IGNORECASE)


class Weighed(Protocol):
    """A reading and how likely it is right."""

    @property
    def reading(self) -> PassageReading:
        """What a passage says."""

    @property
    def probability(self) -> float:
        """That it is right."""


C = TypeVar("C", bound=Weighed)


def with_cells(
    turn: Turn,
    hits: Sequence[Hit],
    weighed: Sequence[C],
    make: Callable[[PassageReading, tuple[float, ...], float], C],
) -> list[C]:
    """The candidates and what tables say, likeliest first.

    Args:
        turn: the question.
        hits: the passages that were read.
        weighed: what was read, likeliest first.
        make: a candidate of a reading, its features (none) and its probability.
    """
    question = turn.ask.question
    weighed = [
        one
        for one in not_guessed(question, weighed)
        if not speaks_of_another(question, one.reading, turn.source.parsed)
        and (asks_for_columns(question) or not (is_header(one.reading) or names_columns(one.reading)))
    ]
    if not second.wants_few_words(question) or definitions.lists(question):
        return list(weighed)
    found = cells.look_up(question, hits, turn.source.similarity, turn.source.parsed)
    found = [one for one in found if one.likely == found[0].likely]
    if not found:
        return list(weighed)
    told = [make(reading(one), (), one.likely) for one in found if one.value is not None]
    others = [c for c in weighed if told or not in_row(c.reading)]
    return sorted([*told, *others], key=lambda c: -c.probability)


def not_guessed(question: str, weighed: Sequence[C]) -> list[C]:
    """The candidates but those that take a row of a table for the one with most of something."""
    return [one for one in weighed if not _guesses(question, one.reading)]


def _guesses(question: str, reading: PassageReading) -> bool:
    """Whether a reading takes a row of a table for the one that has most of something.

    Two columns are a list of terms, one of which may well be the largest upload: such a row may tell.
    """
    said = " ".join(reading.quoted).lower()
    wide = in_row(reading) and said.count("|") > 3 and reading.by != "cells"
    return wide and any(word not in said for word in tabular.superlatives(question))


def speaks_of_another(question: str, reading: PassageReading, parsed: Parsed | None = None) -> bool:
    """Whether a reading takes its answer from a row that is not about what is asked.

    Beside columns and headings the question names something, and nothing of it stands in the row. In one
    script only: another one may write it otherwise.
    """
    if reading.by == "cells" or not in_row(reading) or len(reading.sentences) != 1:
        return False
    (start, end), hit = reading.sentences[0], reading.hit
    row = hit.text[start:end]
    if script(row) not in ("", script(question)):
        return False
    for table in cells.tables(hit, parsed):
        if len(table.rows) > 1 and any(one.start < end and start < one.end for one in table.rows):
            known = evidence.terms(" ".join((hit.title, *hit.heading_path, *table.header)))
            named = {*evidence.terms(question)}.difference(known)
            own = cells.named_row(question, hit, table)
            beside = own is not None and not (own.start < end and start < own.end)
            return bool(named) and (
                named.isdisjoint(evidence.terms(row)) or (beside and _alike(hit.text, own, start))
            )
    return False


def _alike(text: str, row: cells.Row | None, start: int) -> bool:
    """Whether the first cells of a row and of the one at `start` share words: Ergo 2 and Ergo 3."""
    if row is None or not row.cells:
        return False
    other = text[start:].lstrip().lstrip("|").partition("|")[0]
    return not {*evidence.terms(text[slice(*row.cells[0])])}.isdisjoint(evidence.terms(other))


def is_header(reading: PassageReading) -> bool:
    """Whether all that a reading quotes is the header of a wide table, and no few words of it answer.

    Of two columns the first row may be the first entry of a form.
    """
    if reading.by == "cells" or (reading.answer is not None and not reading.polar):
        return False
    return bool(reading.sentences) and all(in_header(reading.hit, *span) for span in reading.sentences)


def in_header(hit: Hit, start: int, end: int) -> bool:
    """Whether a stretch of a passage lies in the header of a table with more than two columns."""
    heads = [table.first for table in cells.tables(hit) if table.first is not None and len(table.header) > 2]
    return any(head.start <= start and end <= head.end + 1 for head in heads)


def asks_for_columns(question: str) -> bool:
    """Whether a header may answer."""
    return _COLUMNS.search(question) is not None


def names_columns(reading: PassageReading) -> bool:
    """Whether the few words of a reading are names of several columns: "Salary | Started" answers nothing."""
    if "|" not in (reading.answer or "") or len(reading.sentences) != 1:
        return False
    start, end = reading.sentences[0]
    heads = (table.first for table in cells.tables(reading.hit))
    return any(head is not None and head.start < end and start < head.end for head in heads)


def reading(found: cells.Found) -> PassageReading:
    """What a table says as a reading of its passage."""
    assert found.value is not None
    start, end = found.value
    return PassageReading(
        found.hit,
        found.rank,
        1.0 - found.likely,
        True,
        found.hit.text[start:end],
        found.value,
        False,
        found.rows,
        by="cells",
    )


def in_row(reading: PassageReading) -> bool:
    """Whether a reading quotes the row of a table."""
    return any(quoted.lstrip().startswith("|") for quoted in reading.quoted)
