"""Readings of rows: which are no answer whoever read them."""

from __future__ import annotations

import pytest

from service.answering.tabled import is_header, names_columns, speaks_of_another
from service.reading.readings import PassageReading
from tests.service.reading_engine import hit

STAFF = "| Name | Salary | Started |\n| --- | --- | --- |\n| Ann Lee | 50.000 EUR | 2019 |\n"


@pytest.mark.parametrize(
    ("answer", "dropped"),
    [("Salary | Started", True), ("Salary", False), ("Ann Lee | 50.000 EUR", False), ("50.000 EUR", False)],
)
def test_names_of_several_columns_are_no_answer(answer: str, dropped: bool) -> None:
    start = STAFF.index(answer)
    line = STAFF.rfind("\n", 0, start) + 1, STAFF.index("\n", start)
    found = PassageReading(
        hit(STAFF), 0, 0.1, True, answer, (start, start + len(answer)), sentences=(line,), by="spans"
    )
    assert names_columns(found) is dropped


def rowed(text: str, row: str, answer: str | None = None, *, polar: bool = False) -> PassageReading:
    start = text.index(row)
    place = None if answer is None else (text.index(answer), text.index(answer) + len(answer))
    line = (text.rfind("\n", 0, start) + 1, text.index("\n", start))
    return PassageReading(hit(text), 0, 0.1, True, answer, place, polar, sentences=(line,), by="generator")


def test_a_whole_header_answers_nothing() -> None:
    assert is_header(rowed(STAFF, "| Name |")) and is_header(rowed(STAFF, "| Name |", polar=True))
    assert not is_header(rowed(STAFF, "| Ann Lee |")) and not is_header(rowed(STAFF, "| Name |", "Salary"))
    form = "| Name | Ann Lee |\n| --- | --- |\n| Born | 1990 |\n"
    assert not is_header(rowed(form, "| Name |"))  # the first entry of a form


def test_the_row_of_another_product_does_not_answer() -> None:
    chairs = (
        "| Product | Price | Ordered |\n| --- | --- | --- |\n"
        "| Office chair Ergo 2 | 90 | 6 |\n| Office chair Ergo 3 | 99 | 2 |\n"
    )
    question = "How many office chairs Ergo 3 were ordered?"
    assert speaks_of_another(question, rowed(chairs, "| Office chair Ergo 2 |", "6"))
    assert not speaks_of_another(question, rowed(chairs, "| Office chair Ergo 3 |", "99"))
    assert not speaks_of_another(
        "How many chairs were ordered?", rowed(chairs, "| Office chair Ergo 2 |", "6")
    )
