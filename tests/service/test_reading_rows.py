"""Rows for reading: what they quote stands in the passage, and a distractor lacks the answer."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.forms import load
from model.data.registry import find
from service.reading.form import NOT_HERE, SYSTEM, parse_reply, passage_messages
from service.reading.rows import (
    Asked,
    Passage,
    answered,
    dice,
    holds,
    locate,
    reworded,
    row,
    shuffled,
    supporting,
    with_distractors,
    write,
)

TOWER = "The tower stands in Paris. It was finished in 1889. Its height\nis 330 m, about that of a house of 81 storeys."
TREE = "The pine is 330 years old. It was planted in 1689 by a monk."


def asked(text: str, question: str, answer: str, *accepted: str) -> Asked:
    start = text.index(answer)
    made = answered(text, question, start, start + len(answer), accepted)
    assert made is not None
    return made


def test_the_sentence_around_an_answer_supports_it() -> None:
    assert supporting(TOWER, TOWER.index("1889"), TOWER.index("1889") + 4) == ("It was finished in 1889.",)
    both = supporting(TOWER, TOWER.index("Paris"), TOWER.index("1889"))
    assert both == ("The tower stands in Paris.", "It was finished in 1889.")


def test_an_answer_that_stands_twice_is_taken_where_the_question_points() -> None:
    text = "Bell founded the firm in 1877. Watson joined Bell in 1879. The telephone was invented by Bell."
    start, end = locate(text, "bell", "who invented the telephone") or (0, 0)
    assert text[start:end] == "Bell"
    assert start == text.rindex("Bell")
    assert locate("a bellhop", "bell", "?") is None


@pytest.mark.parametrize(
    ("text", "strings", "there"),
    [
        ("In the U.S. Army", ["us army"], True),
        ("Ångström's law", ["the angstroms law"], True),
        ("1,889 men", ["889"], False),
        ("a catalogue", ["cat"], False),
        ("anything", ["the", "!"], False),
        ("北京是中国的首都。", ["北京"], True),
        ("埃菲尔铁塔高330米。", ["330米"], True),
        ("埃菲尔铁塔高330米。", ["300米"], False),
    ],
)
def test_an_answer_is_recognised_however_it_is_written(text: str, strings: list[str], there: bool) -> None:
    assert holds(text, strings) is there


def test_questions_go_behind_passages_that_lack_their_answer() -> None:
    passages = [
        Passage(TOWER, "tower", "", (asked(TOWER, "When was it finished?", "1889"), Asked("Who paid?"))),
        Passage(TREE, "tree", "Pine", (asked(TREE, "How old is the pine?", "330 years", "330"),)),
        Passage("It was finished in 1889, too.", "twin"),
        Passage(TOWER, "the same again"),
    ]

    def every(question: str) -> Sequence[int]:
        return range(len(passages))

    made = with_distractors(passages, every, share=1.0)
    assert [one.question for one in made[1].questions] == ["How old is the pine?", "When was it finished?"]
    assert not made[1].questions[1].answerable
    # "330" would answer the pine's question, so the tower's passages are no place for it; the twin's is.
    assert [[one.question for one in p.questions] for p in made[2:]] == [["How old is the pine?"], []]
    assert len(made[0].questions) == 2
    assert with_distractors(passages, every, share=0.0) == passages
    again = with_distractors([*passages[:2], replace(passages[2], group="x"), passages[3]], every, share=1.0)
    assert [p.questions for p in again] == [p.questions for p in made]


@given(st.text(max_size=80), st.integers(0, 10**6))
def test_rewording_leaves_a_question(question: str, seed: int) -> None:
    if question.strip():
        assert reworded(question, dice(seed, question)).strip()
    assert reworded(question, dice(seed, "x")) == reworded(question, dice(seed, "x"))


def test_a_row_is_what_serving_will_ask(tmp_path: Path) -> None:
    passage = Passage(
        TOWER,
        "tower",
        "docs/tower.md > Size",
        (
            asked(TOWER, "How high is it?", "330 m"),
            Asked("Sum it up.", None, ("The tower stands in Paris.",)),
            Asked("Who?"),
        ),
    )
    write(tmp_path, {"reading": [passage, Passage("nothing is asked", "none")]})
    (spec,) = find(["reading"], tmp_path)
    loaded = load(spec)
    assert not loaded.problems
    (example,) = loaded.examples
    assert example.group == "tower"
    for conversation, one in zip(example.conversations, passage.questions, strict=True):
        assert list(conversation[:2]) == passage_messages(passage.heading, passage.text, one.question)
    replies = [conversation[2]["content"] for conversation in example.conversations]
    assert replies[0] == "330 m\n> Its height is 330 m, about that of a house of 81 storeys."
    assert parse_reply(replies[1]).sentences == ("The tower stands in Paris.",)
    assert replies[2] == NOT_HERE
    stored = json.loads((tmp_path / "reading.jsonl").read_text(encoding="utf-8"))
    assert stored["system"] == SYSTEM


def test_a_row_that_quotes_what_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="not in its passage"):
        row(Passage(TREE, "tree", "", (Asked("?", "x", ("The pine is 331 years old.",)),)))


def test_order_and_words_hang_on_the_seed_alone() -> None:
    passage = Passage(TREE, "tree", "", tuple(Asked(f"Question {i} about it?") for i in range(9)))
    assert shuffled(passage, seed=4) == shuffled(passage, seed=4)
    assert shuffled(passage, seed=4, reword=False) != shuffled(passage, seed=5, reword=False)
    assert set(shuffled(passage, reword=False).questions) == set(passage.questions)
