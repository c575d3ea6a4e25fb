"""Sentences that say the opposite of what is asked are not heard."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from ingest.types import Hit
from service.questions.opposites import says_opposite
from service.reading.readings import PassageReading
from service.reading.select import heard
from service.sentences import split

DATA = Path(os.environ.get("LOREBASE_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


@pytest.mark.parametrize(
    ("question", "sentence", "opposite"),
    [
        ("What was the lowest temperature?", "The highest temperature was 41 degrees.", True),
        ("What was the lowest temperature?", "Between the lowest and the highest lay 20 degrees.", False),
        ("what time does her flight to Lisbon leave", "She arrives in Lisbon at 14:05.", True),
        ("what time does her flight to Lisbon leave", "It departs at 10:40 and arrives at 14:05.", False),
        ("How many days of leave do I get?", "Who arrives in June gets ten days.", False),
        ("When does the museum open on Monday?", "It is closed on Mondays.", False),
        ("When does the museum open?", "The museum closes at 18:00.", True),
        ("When did the war end?", "The war began in 1939.", True),
        ("When did building start?", "It was drawn up at the end of 1939.", False),
        ("Who did she end up with?", "It begins with Donna.", False),
        ("When did the war start and end?", "It began in 1939.", False),
        ("What time is check-in?", "Please check out by 11:00.", True),
        ("What time is check-in?", "Check-in: 15:00, check-out: 11:00.", False),
        ("What is the net total?", "Gross total: £120.00", True),
        ("Did sales increase?", "Sales decreased by 3%.", False),
        ("How much did sales increase?", "Sales decreased by 3%.", True),
        ("最高分是多少？", "本次考试最低分为30分。", True),
        ("最高分是多少？", "最高分98，最低分30。", False),
        ("几点可以入住？", "退房时间为中午12点。", True),
        ("几点关门？", "每天早上九点开门。", True),
        ("销量增加了吗？", "销量减少了3%。", False),
    ],
)
def test_what_says_the_opposite(question: str, sentence: str, opposite: bool) -> None:
    assert says_opposite(question, sentence) is opposite


@pytest.mark.parametrize(
    ("question", "sentence", "answer", "opposite"),
    [
        (
            "what time does it leave",
            "Flight 539 from Berlin at 11:20, arrival in Lisbon at 14:05.",
            "14:05",
            True,
        ),
        (
            "what time does it leave",
            "Flight 539 from Berlin at 11:20, arrival in Lisbon at 14:05.",
            "11:20",
            False,
        ),
        ("When does it leave?", "It departs at 10:40 and arrives at 14:05.", "14:05", True),
        ("When does it leave?", "It departs at 10:40 and arrives at 14:05.", "10:40", False),
        ("What was the lowest?", "The highest temperature, 30 degrees, was in July.", "30", True),
        ("几点可以入住？", "14点后可以入住，退房时间为12点前。", "12点", True),
        ("几点可以入住？", "14点后可以入住，退房时间为12点前。", "14点", False),
        (
            "Where was the lowest?",
            "The highest was in May, in Kent, and the lowest of 3 in York.",
            "York",
            False,
        ),
    ],
)
def test_a_number_is_of_its_clause(question: str, sentence: str, answer: str, opposite: bool) -> None:
    at = sentence.index(answer)
    assert says_opposite(question, sentence, (at, at + len(answer))) is opposite


def test_it_is_not_heard_unless_it_is_a_cell_that_was_computed() -> None:
    text = "The highest price was 41."
    hit = Hit(1, "d1", "a.md", "a", 0, text, 0, len(text), None, None, (), 0.5, 0.8, 1.0)
    said = PassageReading(hit, 0, 0.1, True, "41", (22, 24), False, ((0, len(text)),))
    cell = PassageReading(hit, 0, 0.1, True, "41", (22, 24), False, ((0, len(text)),), by="cells")
    assert heard("What was the highest price?", [said]) == [said]
    assert heard("What was the lowest price?", [said, cell]) == [cell]


@pytest.mark.parametrize("name", ["squad_train", "cmrc2018_dev_a"])
def test_sentences_with_the_marked_answer_hardly_ever_do(name: str) -> None:
    path = DATA / "qa" / f"{name}.json.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not there; set LOREBASE_DATA")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"]
    asked = told = 0
    for paragraph in (paragraph for article in articles for paragraph in article["paragraphs"]):
        sentences = split(paragraph["context"])
        for qa in paragraph["qas"]:
            for answer in qa["answers"][:1]:
                at = answer["answer_start"]
                end = at + len(answer["text"])
                asked += 1
                for here in (one for one in sentences if one.start <= at < one.end):
                    sentence, inside = (
                        paragraph["context"][here.start : here.end],
                        (at - here.start, end - here.start),
                    )
                    told += says_opposite(qa["question"], sentence, inside)
    assert asked > 1000
    assert told / asked < 0.002
