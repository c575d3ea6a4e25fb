"""Cells of tables: where the row and the column meet that a question names."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import UnknownDocument
from ingest.types import Document, Hit
from service import cells
from tests.service.reading_engine import hit

STOCK = """# Stock

| Product code | Category | Unit cost | Last audit | Notes |
| --- | --- | --- | --- | --- |
| SKU-9201 | Hardware | $32.50 | 2024-10-22 | Verified |
| SKU-4563 | Software | $120.00 |  | Critical |
| SKU-7728 | Accessories | $15.75 | 2024-11-01 | |
"""
PEOPLE = "产品指南\n\n| 姓名 | 年龄 | 电话 |\n| --- | --- | --- |\n| 张三 | 30 | 555 |\n| 李四 | 25 | 556 |\n"
FORM = "| Insured name | Gabriel Diaz | Year | 2022 |\n| --- | --- | --- | --- |\n| Phone | 425 | VIN | 1C4RJ |\n"
ROUTES = (
    "| route | what it does |\n| --- | --- |\n| `GET /keys` | all keys |\n| `GET /keys/NAME` | one key |\n"
)
FLAGS = "| setting | default |\n| --- | --- |\n| `lora_rank`, `lora_alpha` | 8, 16 |\n| `learning_rate` | 0.0002 |\n"


def said(question: str, *texts: str) -> list[tuple[str, str | None]]:
    """The way and the cell's words of whatever is found, likeliest first."""
    hits = [hit(text, number) for number, text in enumerate(texts)]
    found = cells.look_up(question, hits)
    return [(one.way, None if one.value is None else one.hit.text[slice(*one.value)]) for one in found]


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        ("What is the unit cost of SKU-7728?", STOCK, ("cell", "$15.75")),
        ("When was SKU-9201 last audited?", STOCK, ("cell", "2024-10-22")),
        ("When was SKU-4563 last audited?", STOCK, ("cell", None)),  # and not another row's date
        ("what category is sku-4563", STOCK, ("cell", "Software")),
        ("Which product has a unit cost of $120.00?", STOCK, ("named", "SKU-4563")),
        ("张三的年龄是多少？", PEOPLE, ("cell", "30")),
        ("谁25岁？", PEOPLE, ("named", "李四")),
        ("What is the VIN?", FORM, ("beside", "1C4RJ")),
        ("Who is the insured?", FORM, None),  # half of a label
        ("What is the default lora_alpha?", FLAGS, ("cell", "16")),
        ("What is the default learning rate?", FLAGS, None),  # not as it is written
        ("What is the default of learning_rate?", FLAGS, ("cell", "0.0002")),
        ("Who invented the unit cost of SKU-7728 in medieval France?", STOCK, None),
        ("What is the unit cost?", STOCK, None),  # of which row?
        ("How many SKU-1111 are there?", STOCK, None),
        ("Who audited in 2024?", STOCK, None),  # two rows
        ("What does GET /keys/NAME do?", ROUTES, ("beside", "one key")),
        ("What does GET /keys do?", ROUTES, ("beside", "all keys")),
        ("Which city had 425 parks in 1990?", FORM, None),
        (
            "What is the total of Gabriel Diaz's estimate?",
            FORM + "| Order | RO-1 | Estimator | Ellis |\n",
            None,
        ),
    ],
)
def test_the_cell_that_a_question_names(question: str, text: str, expected: tuple[str, str] | None) -> None:
    found = said(question, text)
    assert found[:1] == ([expected] if expected else [])


def test_a_column_in_other_words_is_meant_where_its_kind_or_its_meaning_tells() -> None:
    phone = PEOPLE.replace("| 555 |", "| - |").replace("| 556 |", "| - |")
    assert said("李四多大了？", phone) == [("cell", "25")]  # the only number
    assert said("李四多大了？", PEOPLE) == []  # two numbers, and nobody to ask which
    near = {"年龄": 0.9, "电话": 0.8}
    found = cells.look_up("李四多大了？", [hit(PEOPLE)], lambda _, texts: [near[t] for t in texts])
    assert [one.hit.text[slice(*one.value)] for one in found if one.value] == ["25"]
    assert found[0].likely == cells.BY_MEANING < cells.BY_WORDS
    near["电话"] = 0.895
    assert not cells.look_up("李四多大了？", [hit(PEOPLE)], lambda _, texts: [near[t] for t in texts])


def test_a_passage_that_begins_within_a_table_gets_its_header_from_the_document() -> None:
    start = STOCK.index("| SKU-7728")
    later = replace(hit(STOCK[start:], start=start), document_id="stock")

    def parsed(document_id: str) -> Document:
        if document_id != "stock":
            raise UnknownDocument("gone")
        return Document(STOCK, "Stock", ())

    [found] = cells.look_up("What is the unit cost of SKU-7728?", [later], None, parsed)
    assert later.text[slice(*found.value or (0, 0))] == "$15.75"
    assert not cells.look_up("What is the unit cost of SKU-7728?", [later])
    assert not cells.look_up(
        "What is the unit cost of SKU-7728?", [replace(later, document_id="x")], None, parsed
    )
    cut = replace(later, text=later.text.replace("$15.75", "$99.99"))
    assert not cells.look_up("What is the unit cost of SKU-7728?", [cut], None, parsed), "it has changed"


WORD = st.text("bcdfgklmnprtvz", min_size=5, max_size=9)
CELL = st.text("abz190 .,%$-年月", max_size=12).map(str.strip)


@given(
    st.lists(WORD, min_size=2, max_size=4, unique=True),
    st.lists(WORD, min_size=2, max_size=5, unique=True),
    st.data(),
)
def test_row_and_column_give_their_cell_byte_for_byte(
    headers: list[str], keys: list[str], data: st.DataObject
) -> None:
    """Whatever a table holds: asked for a row and a column by name, that cell is given and no other."""
    rows = [[key, *(data.draw(CELL) for _ in headers[1:])] for key in keys]
    lines = [headers, ["---"] * len(headers), *rows]
    text = "Before.\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n\nBehind."
    row = data.draw(st.integers(0, len(keys) - 1))
    column = data.draw(st.integers(1, len(headers) - 1))
    named = {*headers, *keys}
    if len(named) < len(headers) + len(keys) or any(cell in named for line in rows for cell in line[1:]):
        return
    found = cells.look_up(f"What is the {headers[column]} of {keys[row]}?", [hit(text, title="")])
    terms = [one for one in found if one.way == "cell" and one.likely == cells.BY_WORDS]
    assert len(terms) == 1
    value, [(start, end)] = terms[0].value, terms[0].rows
    assert text[start:end] == "| " + " | ".join(rows[row]) + " |"
    assert ("" if value is None else text[slice(*value)]) == rows[row][column]
    assert value is None or (start < value[0] and value[1] < end)


@given(st.text("|-: \n\\ab#", max_size=60), st.text("ab ?", max_size=10))
def test_no_text_breaks_it(text: str, question: str) -> None:
    one: Hit = hit(text)
    for found in cells.look_up(question, [one]):
        assert found.value is None or one.text[slice(*found.value)].strip()


PAID = "| Name | Age | Salary | Manager |\n| --- | --- | --- | --- |\n| Ann Lee | 30 | 5000 | Bob Ray |\n| Bob Ray | 41 | 9000 | Cy |\n"
PAID_ZH = "| 姓名 | 年龄 | 工资 | 折扣 |\n| --- | --- | --- | --- |\n| 张三 | 25 | 5000 | 30% |\n| 李四 | 28 | 6000 | 10% |\n"


@pytest.mark.parametrize(
    ("question", "table"),
    [
        ("张三丰的年龄是多少？", PAID_ZH),
        ("张三的妻子的年龄是多少？", PAID_ZH),
        ("张三2020年的工资是多少？", PAID_ZH),
        ("谁30岁？", PAID_ZH),
        ("谁不是25岁？", PAID_ZH),
        ("除了张三，谁的工资最高？", PAID_ZH),
        ("What is the salary of everyone except Ann Lee?", PAID),
        ("What was the salary of Ann Lee before 2015?", PAID),
        ("What is Ann Lee's manager's salary?", PAID),
        ("Who is over 30?", PAID),
    ],
)
def test_a_row_does_not_answer_for_somebody_else_or_another_time(question: str, table: str) -> None:
    assert not cells.look_up(question, [hit(table)])


@pytest.mark.parametrize(
    "question", ["张三的年龄是多少？", "请问张三现在多少岁，年龄是多少？", "张三年龄多少"]
)
def test_grammar_beside_row_and_column_says_nothing_more(question: str) -> None:
    [found] = cells.look_up(question, [hit(PAID_ZH)])
    assert found.value is not None and PAID_ZH[slice(*found.value)] == "25"
