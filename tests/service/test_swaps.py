"""Follow-ups that exchange one thing of the question before."""

from __future__ import annotations

import pytest

from service.swaps import swapped


@pytest.mark.parametrize(
    ("before", "question", "text"),
    [
        ("王丽的月薪是多少？", "那李明呢", "李明的月薪是多少？"),
        ("清风X5的价格是多少？", "X7呢？", "清风X7的价格是多少？"),
        ("2023年的伙食补助是多少？", "2022年呢", "2022年的伙食补助是多少？"),
        ("东区的销售额是多少？", "那西区呢？", "西区的销售额是多少？"),
        ("How much is the rent for 14 Maple Street?", "and at birch lane?", "How much is the rent at birch lane?"),
        ("What was the revenue of the west region in 2023?", "and in 2022?", "What was the revenue of the west region in 2022?"),
        ("What was the revenue of the west region in 2023?", "and in the east?", "What was the revenue in the east in 2023?"),
        ("What is the capital of Germany?", "What about Austria?", "What is the capital of Austria?"),
        ("How much is the basic plan?", "and the premium plan?", "How much is the premium plan?"),
        ("What does plan A cost?", "how about plan B", "What does plan B cost?"),
        ("What is the deadline for applications?", "And for refunds?", "What is the deadline for refunds?"),
        ("Is the office open on Fridays?", "And on Sundays?", "Is the office open on Sundays?"),
    ],
)  # fmt: skip
def test_one_thing_is_exchanged(before: str, question: str, text: str) -> None:
    assert swapped(question, before) == text


@pytest.mark.parametrize(
    ("before", "question"),
    [
        ("王丽的月薪是多少？", "那奖金呢"),  # hers
        ("王丽的月薪是多少？", "为什么呢"),
        ("北京的人口是多少", "那它的面积呢"),
        ("What is the rent?", "And the deposit?"),
        ("What is Redis?", "and its price?"),
        ("What was the revenue in 2020 and 2022?", "And 2021?"),  # for which of them
        ("How many days off does Anna get in the first year?", "and for Peter?"),
        ("Who is the president of Italy and of France?", "And Spain?"),
        ("Is there food for children?", "what about vegetarians?"),
        ("What is the rent?", "who pays the water?"),
        ("", "And Austria?"),
    ],
)
def test_nothing_is_exchanged_where_it_is_not_plain(before: str, question: str) -> None:
    assert swapped(question, before) is None
