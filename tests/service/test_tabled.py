"""Readings of rows: which are no answer whoever read them."""

from __future__ import annotations

import pytest

from service.answering.tabled import names_columns
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
