"""Tables on their side, columns of yes and no, rows by their number, and questions that only name a thing."""

from __future__ import annotations

import pytest

from tests.service.tabling import BOATS, said

SPECS = (
    "| Property | Brew 300 | Brew 300 Pro |\n| --- | --- | --- |\n| Tank volume | 1.1 l | 1.6 l |\n| Weight | 3.2 kg | 4.1 kg |\n"
    "| Warranty | 2 years | 3 years |\n| Milk frother | no | yes |\n"
)
CLUB = "| Plan | Guest passes per month | Pool |\n| - | - | - |\n| Basic | 0 | no |\n| Plus | 2 | no |\n| Premium | 5 | yes |\n"
WEEKS = (
    "| Week | Topic |\n| - | - |\n| 3 | Random variables |\n| 4 | Confidence intervals |\n| 14 | Review |\n"
)
PARTS = "| Part | Price | Quantity |\n| - | - | - |\n| bolt | 3 | 1,000 |\n| nut | 2 | 12 |\n"


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        ("price of the bolt", PARTS, ("cell", ["3"], ["bolt"])),
        ("How heavy is the Brew 300 Pro?", SPECS, ("cell", ["4.1 kg"], ["Brew 300 Pro"])),
        ("warranty of brew 300", SPECS, ("cell", ["2 years"], ["Warranty"])),
        (
            "which one has the bigger tank, the brew 300 or the 300 pro?",
            SPECS,
            ("extreme", ["1.6 l"], ["Brew 300 Pro"]),
        ),
        ("Which one is lighter, Brew 300 or Brew 300 Pro?", SPECS, ("extreme", ["3.2 kg"], ["Brew 300"])),
        ("does the brew 300 pro have a milk frother?", SPECS, ("polar", ["yes"], ["Brew 300 Pro"])),
        ("which plans have a pool", CLUB, ("rows", ["1"], ["Premium"])),
        ("Which plans do not have a pool?", CLUB, ("rows", ["2"], ["Basic", "Plus"])),
        ("how many plans have a pool?", CLUB, ("count", ["1"], ["Premium"])),
        ("Does the Plus plan have a pool?", CLUB, ("polar", ["no"], ["Plus"])),
        ("does the basic plan include guest passes?", CLUB, ("polar", ["0"], ["Basic"])),
        ("what is the topic of week 4", WEEKS, ("rows", ["1"], ["Confidence intervals"])),
        ("topic for week #14?", WEEKS, ("rows", ["1"], ["Review"])),
        (
            "第4周的主题是什么？",
            WEEKS.replace("Week", "周").replace("Topic", "主题"),
            ("rows", ["1"], ["Confidence intervals"]),
        ),
    ],
)
def test_such_a_table_answers(question: str, text: str, expected: tuple[str, list[str], list[str]]) -> None:
    assert said(question, text) == expected


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("What is the topic of week 5?", WEEKS),
        ("Does the Gold plan have a pool?", CLUB),
        ("Does the Plus plan have a sauna?", CLUB),
        ("Is the Heron the most expensive boat?", BOATS),
        ("Is the Heron in Kiel?", BOATS),  # yes or no is no cell
        ("Kiel", BOATS),  # names something, and asks nothing
        ("How heavy is the Brew 500?", SPECS),
    ],
)
def test_such_a_table_says_nothing_beyond_what_it_has(question: str, text: str) -> None:
    assert said(question, text) is None
