"""The year that a question is about, and passages of another one."""

from __future__ import annotations

import pytest

from ingest.types import Hit
from service.questions import years
from service.reading import orders


def hit(text: str, title: str, number: int = 1, heading: tuple[str, ...] = ()) -> Hit:
    return Hit(
        number, f"d{number}", f"docs/{title}.md", title, 0, text, 0, len(text), None, None, heading, 0.5, 0.8, 1.0
    )  # fmt: skip


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("What was the revenue in 2023?", {2023}),
        ("2023年的伙食补助是多少？", {2023}),
        ("the 2023/24 budget, please", {2023, 2024}),
        ("revenue 2021-2023", {2021, 2022, 2023}),
        ("What has changed since 2020?", set()),
        ("2020年以来有什么变化？", set()),
        ("Who earns 2000 euros?", set()),
        ("Is $2020 enough?", set()),
        ("On 2024-06-11, who was absent?", {2024}),
        ("Is version 2023.1 out?", set()),
    ],
)
def test_which_year_is_asked_for(question: str, told: set[int]) -> None:
    assert years.asked(question) == told


@pytest.mark.parametrize(
    ("question", "text", "title", "another"),
    [
        ("What is the allowance in 2023?", "It is 100.", "Travel policy 2024", True),
        ("What is the allowance in 2023?", "It is 100, and was 80 in 2023.", "Travel policy 2024", False),
        ("What is the allowance in 2024?", "It is 100.", "Travel policy 2023/24", False),
        ("What is the allowance?", "It is 100.", "Travel policy 2024", False),
        ("What is the allowance in 2023?", "It is 100.", "Travel policy", False),
        ("2022年的伙食补助是多少？", "每天80元。", "差旅管理办法（2023年版）", True),
    ],
)
def test_a_passage_of_another_year(question: str, text: str, title: str, another: bool) -> None:
    assert years.of_another(question, hit(text, title)) is another
    assert years.of_another(question, hit(text, "Policy", heading=(title,))) is another


def test_only_passages_of_the_year_are_heard_where_there_are_some() -> None:
    old, new = hit("每天80元。", "办法（2023年版）", 1), hit("每天100元。", "办法（2024年版）", 2)
    assert orders.heard("2023年的补助是多少？", [new, old]).hits == (old,)
    assert orders.heard("补助是多少？", [new, old]).hits == (new, old)
    assert orders.heard("2021年的补助是多少？", [new, old]).hits == (new, old)  # refused before it is read
