"""What whole tables say: the most and the least, how many, which, a cell; and nothing where a word is left over."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import UnknownDocument
from ingest.types import Document
from service.answering import tabled
from service.questions import tabular
from service.reading.readings import PassageReading
from service.spans.candidates import Candidate
from service.tables import values
from service.tables.telling import tell_all
from service.tables.whole import MOST_ROWS, Grid, grids
from tests.service.reading_engine import hit
from tests.service.tabling import BOATS, ask, said

SCHOOL = """| Pupil | Marks |  | House |
| --- | --- | --- | --- |
| Pupil | Art | Music | House |
| Ada Lind | 12 | 15 | Oak |
| Bo Ek | 17 | 9 | Elm |
| Cleo Vik | 17 | 14 | Oak |
"""
DAMS = """# 水库情况

| 水库 | 库容（万立方米） | 坝高 | 建成年份 | 管理单位 |
| --- | --- | --- | --- | --- |
| 青山水库 | 2,130 | 46.2米 | 1964年 | 东区水务局 |
| 白云水库 | 860 | 71米 | 1987年 | 西区水务局 |
| 长岭水库 | 12,400 | 38.5米 | 2009年 | 东区水务局 |
"""
ORDER = "| Part | Price | Unit price | Quantity |\n| - | - | - | - |\n| bolt | 3 | 3 | 1,000 |\n| nut | 2 | 2 | 12 |\n"
FOUR = ["Heron", "Little Auk", "Osprey", "Petrel"]
PLANS = "| Plan | Monthly price | Joining fee |\n| - | - | - |\n| Basic | $24 | $10 |\n| Plus | $39 | $0 |"
AGES = "| 姓名 | 年龄 |\n| --- | --- |\n| 张三 | 30 |\n| 李四 | 25 |\n"


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        ("Which boat is the most expensive?", BOATS, ("extreme", ["$1,250.00"], ["Heron"])),
        ("What is the cheapest boat?", BOATS, ("extreme", ["$95.50"], ["Little Auk"])),
        ("Which boat is the longest?", BOATS, ("extreme", ["14.5"], ["Heron", "Osprey"])),  # a tie
        ("Which boat is the oldest?", BOATS, ("extreme", ["1998-05-01"], ["Heron"])),
        ("Which boat was built last?", BOATS, ("extreme", ["2019-07-30"], ["Little Auk"])),
        ("What is the highest fee per day?", BOATS, ("extreme", ["$1,250.00"], ["Heron"])),
        ("Which boat's fee per day is the highest?", BOATS, ("extreme", ["$1,250.00"], ["Heron"])),
        ("What is the fee per day of the cheapest boat?", BOATS, ("extreme", ["$95.50"], ["Little Auk"])),
        ("Which is the largest boat by length?", BOATS, ("extreme", ["14.5"], ["Heron", "Osprey"])),
        ("最低的坝高是多少？", DAMS, ("extreme", ["38.5米"], ["长岭水库"])),
        ("Which boat in Kiel is the cheapest?", BOATS, ("extreme", ["$640.00"], ["Osprey"])),
        ("Which is longer, the Heron or the Petrel?", BOATS, ("extreme", ["14.5"], ["Heron"])),
        ("Which boat has the fewest seats?", BOATS, ("extreme", ["4"], ["Little Auk"])),
        ("How many boats are in Kiel?", BOATS, ("count", ["2"], ["Heron", "Osprey"])),
        ("Which boats are in Kiel?", BOATS, ("rows", ["2"], ["Heron", "Osprey"])),
        ("How much does the Petrel cost?", BOATS, ("cell", ["$310.00"], ["Petrel"])),
        ("How many seats does the Auk have?", BOATS, ("cell", ["4"], ["Little Auk"])),
        ("What is the total fee per day?", BOATS, ("total", ["$2,295.50"], ["Total"])),
        ("What is the total fee per day of all boats?", BOATS, ("total", ["$2,295.50"], ["Total"])),
        ("Who got the best marks in art?", SCHOOL, ("extreme", ["17"], ["Bo Ek", "Cleo Vik"])),
        ("What is Ada Lind's music mark?", SCHOOL, ("cell", ["15"], ["Ada Lind"])),
        ("哪座水库的库容最大？", DAMS, ("extreme", ["12,400"], ["长岭水库"])),
        ("坝高最低的是哪座水库？", DAMS, ("extreme", ["38.5米"], ["长岭水库"])),
        ("哪座水库建成最早？", DAMS, ("extreme", ["1964年"], ["青山水库"])),
        ("青山水库和白云水库哪个坝高更高？", DAMS, ("extreme", ["71米"], ["白云水库"])),
        ("东区水务局管理哪些水库？", DAMS, ("rows", ["2"], ["青山水库", "长岭水库"])),
        ("东区水务局有几座水库？", DAMS, ("count", ["2"], ["青山水库", "长岭水库"])),
        (
            "哪本书最贵？",
            "| 书名 | 售价 |\n| - | - |\n| 甲乙 | 9元 |\n| 丙丁 | 12元 |",
            ("extreme", ["12元"], ["丙丁"]),
        ),
        ("白云水库的管理单位是什么？", DAMS, ("cell", ["西区水务局"], ["白云水库"])),
        ("Which boat is the second cheapest?", BOATS, ("extreme", ["$310.00"], ["Petrel"])),
        ("Which boat has the second most seats?", BOATS, ("extreme", ["6"], ["Petrel"])),
        ("What is the second-highest fee per day?", BOATS, ("extreme", ["$640.00"], ["Osprey"])),
        ("Which boat in Kiel is the 2nd oldest?", BOATS, ("extreme", ["2004-03-12"], ["Osprey"])),
        ("What is the average fee per day?", BOATS, ("mean", ["$573.88"], FOUR)),
        ("What is the average fee per day in Kiel?", BOATS, ("mean", ["$945.00"], ["Heron", "Osprey"])),
        ("How long are the boats on average?", BOATS, ("mean", ["11.03"], FOUR)),
        ("How many seats does a boat have on average?", BOATS, ("mean", ["7.33"], FOUR)),
        ("What is the total fee per day in Kiel?", BOATS, ("sum", ["$1,890.00"], ["Heron", "Osprey"])),
        ("What is the total quantity?", ORDER, ("sum", ["1,012"], ["bolt", "nut"])),
        ("平均年龄是多少？", AGES, ("mean", ["27.5"], ["张三", "李四"])),
        ("水库的平均坝高是多少？", DAMS, ("mean", ["51.9米"], ["青山水库", "白云水库", "长岭水库"])),
        ("东区水务局的水库的总库容是多少？", DAMS, ("sum", ["14,530"], ["青山水库", "长岭水库"])),
        ("哪座水库的库容第二大？", DAMS, ("extreme", ["2,130"], ["青山水库"])),
        ("青山水库和白云水库的库容哪个大？", DAMS, ("extreme", ["2,130"], ["青山水库"])),
        ("青山水库和白云水库哪个建成早？", DAMS, ("extreme", ["1964年"], ["青山水库"])),
        ("张三和李四谁的年龄大？", AGES, ("extreme", ["30"], ["张三"])),
        ("谁年长一些，张三还是李四？", AGES, ("extreme", ["30"], ["张三"])),
        ("张三和李四谁年轻？", AGES, ("extreme", ["25"], ["李四"])),
        ("谁最小？", AGES, ("extreme", ["25"], ["李四"])),
        ("what is the cheapest plan", PLANS, ("extreme", ["$24"], ["Basic"])),
        ("How much does the Plus plan cost?", PLANS, ("cell", ["$39"], ["Plus"])),
        ("total fee per day in Kiel", BOATS, ("sum", ["$1,890.00"], ["Heron", "Osprey"])),
        ("东区水务局的平均库容", DAMS, ("mean", ["7,265"], ["青山水库", "长岭水库"])),
    ],
)
def test_a_table_answers_where_it_accounts_for_every_word(
    question: str, text: str, expected: tuple[str, list[str], list[str]]
) -> None:
    assert said(question, text) == expected


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("Which boat is the fastest?", BOATS),  # no such column
        ("What is the colour of the Heron?", BOATS),
        ("What is the fee per day of the Albatross?", BOATS),  # no such row
        ("Which boat in Oslo is the cheapest?", BOATS),
        ("How many boats are in Oslo?", BOATS),
        ("How many seats does the Osprey have?", BOATS),  # an empty cell
        ("Which boat has the largest engine?", BOATS),
        ("Which boat is the most expensive to repair?", BOATS),
        ("Which boat is the heaviest?", BOATS),
        ("Which boat is not in Kiel?", BOATS),
        ("What is the fee per day of the largest boat?", BOATS),  # of something else of it
        ("What is the largest boat's fee per day?", BOATS),
        ("How many seats does the longest boat have?", BOATS),
        ("How many boats have the highest fee per day?", BOATS),
        ("库容最大的水库的管理单位是什么？", DAMS),
        ("最大的水库的坝高是多少？", DAMS),
        ("Which boat is the second longest?", BOATS),  # two share the first place
        ("Which boat is the fifth cheapest?", BOATS),  # of four
        ("Which is the second largest harbour?", BOATS),
        ("Which boats cost more than $310.00?", BOATS),
        ("What is the average fee per day of the Heron?", BOATS),
        ("What is the average speed?", BOATS),
        ("What is the average harbour?", BOATS),
        ("What is the average day of building?", BOATS),
        ("What is the average fee per day in Oslo?", BOATS),
        ("Which harbour has the highest average fee per day?", BOATS),
        ("What is the total length (m) of the blue boats?", BOATS),
        ("What are the total seats?", BOATS.replace("| Total |", "| Subtotal of Kiel |")),
        ("What is the total price?", ORDER),  # of one of several
        ("What is the total unit price?", ORDER),
        ("Which harbour has the most boats?", BOATS),  # a count by groups, which nobody makes
        ("Which harbour has the highest fee per day?", BOATS),
        ("Is the Heron the longest boat?", BOATS),
        ("Why is the Heron the most expensive boat?", BOATS),
        ("Which is longer, the Heron or the Albatross?", BOATS),
        ("Which is longer, the Osprey or the Petrel or the sea?", BOATS),
        (
            "Which inn has the lowest rate?",
            "| Inn | Rate per night | Rating |\n| - | - | - |\n| A1 | 9 | 4 |\n| B2 | 8 | 5 |",
        ),
        ("Who got the best marks in chemistry?", SCHOOL),
        ("Who got the best marks?", SCHOOL),  # in art, or in music?
        ("哪座水库的水质最好？", DAMS),
        ("坝高倒数第二低的是哪座水库？", DAMS),
        ("张三和王五谁大？", AGES),  # no such row
        ("张三和李四谁高？", AGES),  # no such column
        ("张三和李四谁是队长？", AGES),  # what ends like an adjective
        ("除了长岭水库，哪座水库的库容最大？", DAMS),
        ("库容超过1000的水库有哪些？", DAMS),
        ("红石水库的坝高是多少？", DAMS),
        ("南区水务局有几座水库？", DAMS),
    ],
)
def test_a_word_that_is_left_over_leaves_the_table_silent(question: str, text: str) -> None:
    assert said(question, text) is None


def test_values_of_several_units_or_of_two_meanings_are_not_compared() -> None:
    def fees(*cells: str) -> str:
        lines = [
            "| Boat | Fee |",
            "| --- | --- |",
            *(f"| boat{c} | {cell} |" for c, cell in zip("ABCD", cells, strict=False)),
        ]
        return "\n".join(lines)

    question = "Which boat has the highest fee?"
    assert said(question, fees("$10", "$9", "$1,000")) == ("extreme", ["$1,000"], ["boatC"])
    for cells in (
        ("$10", "€9"),
        ("10 kg", "900 g"),
        ("3,5", "4,25"),
        ("1.200", "950"),
        ("10", "about 20"),
        ("5-6", "7"),
        ("10", "sold out"),
        ("3/4/2021", "5/6/2020"),
        ("2021-03", "2021-03-05"),
    ):
        assert said(question, fees(*cells)) is None, cells
    assert said(question, fees("10", "", "30", "20")) == ("extreme", ["30"], ["boatC"])
    assert said(question, fees("10", "", "", "")) is None  # too little is known
    told = ask(question, fees("10", "", "30", "20"))
    assert told is not None and (told.looked_at, told.empty) == (4, 1)


def test_tables_that_differ_or_are_cut_or_too_large_say_nothing() -> None:
    question = "Which boat is the most expensive?"
    assert said(question, BOATS, BOATS) == said(question, BOATS)
    assert said(question, BOATS, BOATS.replace("$95.50", "$9,999.00")) is None
    assert said(question, BOATS.replace("| Visby |", "|")) is None  # a row of another width
    many = "".join(f"| boat{n} | Kiel | ${n}.00 | 1 | 1998-05-01 | 1 |\n" for n in range(MOST_ROWS))
    assert said(question, BOATS + many) is None


def test_a_passage_from_the_middle_speaks_for_its_whole_table() -> None:
    start = BOATS.index("| Osprey")
    part = replace(hit(BOATS[start : BOATS.index("| Total")].rstrip(), start=start), document_id="x")
    document = Document(BOATS, "", ())
    [grid] = grids([part, part], lambda _: document)
    assert len(grid.rows) == 5 and grid.hit.text == BOATS[grid.hit.char_start : grid.hit.char_end]
    form = tabular.form("Which boat is the most expensive?")
    assert form is not None
    told = tell_all(form, [grid])
    assert told is not None and told.names == ("Heron",)
    cited, first, last = grid.cited(told.rows[0], told.rows[0], told.at)
    assert cited.text[first:last] == "| Heron | Kiel | $1,250.00 | 14.5 | 1998-05-01 | 12 |"
    changed = Document(BOATS.replace("$640.00", "$641.00"), "", ())
    assert not grids([part], lambda _: changed), "it has changed since the search"

    def gone(document_id: str) -> Document:
        raise UnknownDocument(document_id)

    assert not grids([part], gone)


WORD = st.text("bcdfgklmnprtvz", min_size=6, max_size=9)
FORMS = (
    lambda n: f"{n:,}",
    lambda n: f"${n:,}.00",
    lambda n: f"{n}%",
    lambda n: f"{n} km",
    lambda n: f"{n}元",
    lambda n: f"{2000 + n % 50}-{1 + n % 12:02}-{1 + n % 28:02}",
)


@given(
    st.lists(WORD, min_size=7, max_size=14, unique=True),
    st.lists(st.integers(0, 10_000_000), min_size=2, max_size=8),
    st.sampled_from(range(len(FORMS))),
    st.booleans(),
    st.data(),
)
def test_the_superlative_is_the_maximum_of_the_column_and_a_lookup_is_its_cell(
    names: list[str], numbers: list[int], form: int, most: bool, data: st.DataObject
) -> None:
    subject, measure, group, left, right, *keys = names
    rows = len(keys) if len(keys) < len(numbers) else len(numbers)
    if rows < 2:
        return
    keys, numbers = keys[:rows], numbers[:rows]
    cells = [FORMS[form](number) for number in numbers]
    groups = [data.draw(st.sampled_from((left, right))) for _ in keys]
    lines = [(subject, group, measure), ("---",) * 3, *zip(keys, groups, cells, strict=True)]
    text = "Before.\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n\nBehind."
    # What is compared is what was written: of days, the day.
    order = cells if form == 5 else numbers
    best = (max if most else min)(order)
    winners = [key for key, value in zip(keys, order, strict=True) if value == best]
    found = said(f"Which {subject} has the {'highest' if most else 'lowest'} {measure}?", text)
    if len(winners) == rows:
        assert found is None
    else:
        assert found is not None and (found[0], found[2]) == ("extreme", winners)
        assert set(found[1]) == {cells[keys.index(key)] for key in winners}
    places = sorted(zip(order, keys, strict=True), reverse=most)
    first, second = places[0][0], places[1][0]
    found = said(f"Which {subject} has the second {'highest' if most else 'lowest'} {measure}?", text)
    if first == second:
        assert found is None
    else:
        assert found is not None
        assert found[2] == [key for key, one in zip(keys, order, strict=True) if one == second]
    at = data.draw(st.integers(0, rows - 1))
    assert said(f"What is the {measure} of {keys[at]}?", text) == ("cell", [cells[at]], [keys[at]])
    having = [key for key, one in zip(keys, groups, strict=True) if one == left]
    counted = said(f"How many {subject} are in {left}?", text)
    assert counted == (("count", [str(len(having))], having) if having else None)
    unknown = "q" + measure
    assert said(f"Which {subject} has the highest {unknown}?", text) is None
    assert said(f"What is the {measure} of {unknown}?", text) is None


@given(
    st.lists(st.decimals(-(10**7), 10**7, places=2), min_size=1, max_size=9),
    st.sampled_from(["{}", "${}", "{} km", "{}元"]),
)
def test_sums_and_averages_are_those_of_the_numbers(numbers: list[Decimal], form: str) -> None:
    cells = [form.format(f"{number:.2f}") for number in numbers]
    sign = "-" if sum(numbers) < 0 else ""
    assert values.added(cells, mean=False) == sign + form.format(f"{abs(sum(numbers, Decimal(0))):.2f}")
    mean = values.added(cells, mean=True)
    assert mean is not None and abs(
        Decimal(re.sub(r"[^-.\d]", "", mean)) - sum(numbers, Decimal(0)) / len(numbers)
    ) <= Decimal("0.005")


def test_what_is_not_added() -> None:
    for cells in (
        ["10%", "20%"],
        ["1", "2 kg"],
        ["(3)", "4"],
        ["2021-03-04", "2021-03-05"],
        ["", "-"],
        ["3,5", "1"],
    ):
        assert values.added(cells, mean=False) is None, cells
    assert values.added(["10%", "25%"], mean=True) == "17.5%"
    assert values.added(["1", "1", "2"], mean=True) == "1.33" and values.added(["1", "3"], mean=True) == "2"
    assert (
        values.added(["-1.250", "1.250"], mean=True) == "0.000"
        and values.added(["5", "", "7"], mean=False) == "12"
    )


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=9), st.integers(0, 2))
def test_values_are_ordered_as_the_numbers_are(numbers: list[int], decimals: int) -> None:
    column = values.column([f"{number / 10**decimals:,.{decimals}f}" for number in numbers])
    assert column is not None and column.unit == ""
    order = sorted(range(len(numbers)), key=lambda at: column.values[at] or (0.0,))
    assert [numbers[at] for at in order] == sorted(numbers)


@given(st.text("|-: \n\\ab最1#", max_size=80), st.text("ab最高1多少 ?which most how many", max_size=30))
def test_whatever_a_text_holds_its_table_says_nothing_or_its_own_rows(text: str, question: str) -> None:
    told = ask(question, text)
    assert told is None or (told.rows and max(told.rows) < len(told.grid.rows))


def test_a_grid_has_the_header_as_it_is_written() -> None:
    [grid] = grids([replace(hit(SCHOOL), document_id="x")], lambda _: Document(SCHOOL, "", ()))
    assert isinstance(grid, Grid) and grid.headers == ("Pupil", "Art", "Music", "House")


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("Which lamp is the brightest?", ["brightest"]),
        ("Which lamp is the hottest?", ["hottest"]),
        ("Who spent the most?", ["most"]),
        ("哪个城市的房价最高？", ["最高"]),
        ("Which station has the second most passengers?", ["second most"]),
        ("第二高的山是哪座？", ["第二高"]),
        ("第二小学在哪里？", []),
        ("What is the latest version of the test request?", []),
        ("Which is the best guest in the west?", []),
        ("最近的版本是什么？", []),
        ("How tall is the tower?", []),
    ],
)
def test_superlatives_of_any_adjective_are_told(question: str, found: list[str]) -> None:
    assert tabular.superlatives(question) == found


def test_no_row_is_read_as_the_one_with_most_unless_it_says_so() -> None:
    row = "| Heron | Kiel | $1,250.00 |"

    def guesses(question: str, text: str, by: Literal["generator", "cells"] = "generator") -> bool:
        reading = PassageReading(hit(text), 0, 0.1, True, "Heron", sentences=((0, len(text)),), by=by)
        return not tabled.not_guessed(question, [Candidate(reading, (), 0.5)])

    assert guesses("Which boat is the brightest?", row)
    assert not guesses("Where is the Heron?", row)
    assert not guesses("Which boat is the brightest?", "| Heron | the brightest boat | $1,250.00 |")
    assert not guesses("What is the largest upload?", "| upload | 50 MB |")
    assert not guesses("Which boat is the brightest?", "The Heron is bright.")
