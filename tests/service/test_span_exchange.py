"""Questions that a passage nearly answers: what is exchanged, and what never is."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from examples.span_reader import build
from examples.span_reader.exchange import denied, opposite, other, put, things

PASSAGE = (
    "Norway joined the alliance in 1949 with 12 ships, and Denmark followed in 1951. "
    "King Haakon signed for Norway in the town of Bergen."
)


def test_names_years_and_numbers_are_told_apart() -> None:
    assert things("When did Norway send 12 ships, in 1949 or later?") == {
        "name": ["Norway"],
        "year": ["1949"],
        "number": ["12"],
    }


@given(st.integers(0, 10_000))
def test_what_is_exchanged_is_of_the_same_kind_and_neither_asked_for_nor_the_answer(seed: int) -> None:
    question = "When did Norway join the alliance with 12 ships?"
    found = other(question, PASSAGE, PASSAGE, ["1949"], random.Random(seed))
    assert found is not None
    old, new = found
    kinds = [kind for kind, some in things(question).items() if old in some]
    assert new in things(PASSAGE)[kinds[0]]
    assert new not in question
    assert new != "1949"
    exchanged = put(question, old, new)
    assert old not in exchanged
    assert put(exchanged, new, old) == question


def test_only_whole_words_are_exchanged() -> None:
    assert put("Nor did Norway or Norwayans", "Norway", "Denmark") == "Nor did Denmark or Norwayans"


def test_a_word_is_turned_round_or_the_question_denied_once() -> None:
    draw = random.Random(0)
    assert opposite("Who was the first king?", draw) == "Who was the last king?"
    assert opposite("Who signed?", draw) is None
    told = denied("When did Norway join?", draw)
    assert told in {"When did not Norway join?", "When did never Norway join?", "When didn't Norway join?"}
    assert denied("When didn't Norway join?", draw) is None


@given(st.integers(0, 10_000))
def test_pairs_keep_their_answer_only_where_the_passage_still_gives_it(seed: int) -> None:
    passage = build.Passage(0, PASSAGE, "Norway")
    start = PASSAGE.index("1949")
    asked = build.Question("When did Norway join?", ("1949",), 0, 0, start, start + 4)
    for question, read, answers in build.exchanged([passage], [asked], random.Random(seed)):
        assert (question.text, read.text) != (asked.text, passage.text)
        if answers:
            assert read.text[question.start : question.end] == "1949"
            assert question.text != asked.text and read.text != passage.text
