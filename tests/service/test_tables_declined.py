"""What a whole table must not be asked: questions that only seem to be about it, and rows that are no things."""

from __future__ import annotations

import pytest

from service.tables import values
from tests.service.tabling import said

STAFF = """| Name | Department | Country | Salary | Age | Started |
| --- | --- | --- | --- | --- | --- |
| Ann Lee | IT | US | $50,000 | 30 | 2019 |
| Bob Ray | Sales | UK | $90,000 | 41 | 2020 |
| Cy Dorn | Sales | US | $70,000 | 55 | 2021 |
| Di Fox | HR | UK | $60,000 | 30 | 2022 |
"""
HIRED = "| Name | Role | Started |\n| --- | --- | --- |\n| Ann | Cook | 2019-01-02 |\n| Bob | Chef | 2023-04-05 |\n"
LAMPS = "| Lamp | Weight | Price | City |\n| --- | --- | --- | --- |\n| Dusk | 12 kg | $20 | Rome |\n| Flare | 3 kg | $90 | Oslo |\n"


def pairs(head: str, *lines: str) -> str:
    return "\n".join(f"| {line} |" for line in (head, "--- | ---", *lines)) + "\n"


@pytest.mark.parametrize(
    ("question", "table"),
    [
        # Departments and countries that are written like a pronoun.
        ("What is the average salary in IT?", STAFF),
        ("Who in the US has the highest salary?", STAFF),
        ("What is the total salary in IT?", STAFF),
        # Signs, ranges and choices, which nobody works out.
        ("Which employees have age > 41?", STAFF),
        ("How many employees have an age ≥ 41?", STAFF),
        ("Which employees are 41+?", STAFF),
        ("How many employees started from 2019 to 2022?", STAFF),
        ("How many employees started by 2021?", STAFF),
        ("How many employees are in Sales or the UK?", STAFF),
        ("Which of the 41 employees has the highest salary?", STAFF),
        ("What does salary mean?", STAFF),
        ("Which lamps cost €20?", LAMPS),
        ("Which stations have a temperature of 10?", pairs("Station | Temperature", "A | -10", "B | 12")),
        # A superlative and a column that means something else.
        ("Who is the youngest employee?", HIRED),
        ("Which temple is the oldest?", pairs("Temple | Built", "Aphaia | 500 BC", "Nike | 420 BC")),
        ("Which bus has the earliest departure?", pairs("Bus | Departure", "North | 1 pm", "South | 12 pm")),
        ("Which university has the highest rank?", pairs("University | Rank", "Alpha | 1", "Gamma | 40")),
        ("Which meeting was the longest?", pairs("Meeting | Time", "Kickoff | 2024-03-04", "End | 2024-05-06")),
        ("Which chip has the highest power?", pairs("Chip | Power", "Zeta | 500 mW", "Yoda | 2 MW")),
        ("How much is the heaviest lamp?", LAMPS),
        ("Where is the heaviest lamp?", LAMPS),
        # Shares have no sum, orders are no customers, and a 总经理 is no sum of two 经理.
        ("What is the total growth?", pairs("Firm | Growth (%)", "Alpha | 5", "Beta | 7")),
        ("How many customers are in Berlin?", pairs("Customer | City", "Ann | Berlin", "Ann | Berlin")),
        ("总经理的工资是多少？", "| 姓名 | 职位 | 工资 |\n| --- | --- | --- |\n| 张三 | 经理 | 9000 |\n| 李四 | 经理 | 8000 |\n"),
        ("Which region has the highest revenue?", pairs("Region | Revenue", "North | 100", "Total EMEA | 400")),
    ],
)  # fmt: skip
def test_what_a_table_cannot_be_asked_so_is_left_to_the_readers(question: str, table: str) -> None:
    assert said(question, table) is None


@pytest.mark.parametrize(
    "label", ["Sub total", "总 计", "合计（万元）", "All regions", "Avg", "World", "全部", "**Total**"]
)
def test_rows_of_totals_are_told_by_many_names(label: str) -> None:
    table = pairs("Region | Revenue", "North | 100", "South | 300", f"{label} | 400")
    assert said("Which region has the highest revenue?", table) == ("extreme", ["300"], ["South"])
    assert said("What is the average revenue?", table) == ("mean", ["200"], ["North", "South"])


def test_long_numbers_are_added_exactly() -> None:
    long = 123456789012345678901234567890
    table = pairs("Firm | Code", f"Alpha | {long}", f"Beta | {long + 2}")
    assert said("What is the average code?", table) == ("mean", [str(long + 1)], ["Alpha", "Beta"])
    assert values.added(["1" * 60, "2"], mean=False) is None
