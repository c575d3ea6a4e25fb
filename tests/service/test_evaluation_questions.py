"""Reading question files: the shipped one, RGB's and SQuAD's forms, and what is wrong with bad ones."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from service.evaluation.questions import QuestionsUnreadable, read_questions

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("LOREBASE_DATA", ROOT.parent / "shared" / "data"))


def write(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def test_the_shipped_questions() -> None:
    questions = read_questions(ROOT / "examples" / "questions.jsonl")
    assert len(questions) == 80 and set(Counter(q.kind for q in questions).values()) == {10}
    assert {q.language for q in questions} == {"en", "zh"}
    by_id = {q.id: q for q in questions}
    assert by_id["how-to-03"].parts == (("python -m service --port 8001", "LOREBASE_SERVICE_PORT"),)
    assert by_id["list-02"].parts == (("rag",), ("closed_book",), ("quote",))  # a list wants all its items
    assert by_id["how-to-05"].answers == () and not by_id["how-to-05"].answerable
    docs = read_questions(ROOT / "examples" / "questions.jsonl", corpus="docs")
    assert {q.corpus for q in docs} == {"docs"} and 0 < len(docs) < 80
    for question in docs:
        if question.source:
            assert (ROOT / question.source).is_file()


def test_squad_form_gzipped_with_impossible_questions(tmp_path: Path) -> None:
    qas = [
        {
            "id": "a",
            "question": "How tall?",
            "answers": [{"text": "330 m", "answer_start": 3}, {"text": "330 m"}],
        },
        {"id": "b", "question": "How old?", "answers": [], "is_impossible": True},
        {"id": "c", "question": "塔有多高？", "answers": [{"text": "330米"}]},
    ]
    body = {
        "version": "x",
        "data": [{"title": "Eiffel_Tower", "paragraphs": [{"context": "It is 330 m.", "qas": qas}]}],
    }
    file = tmp_path / "squad.json.gz"
    file.write_bytes(gzip.compress(json.dumps(body).encode()))
    first, second, third = read_questions(file)
    assert (
        first.answers == ("330 m",) and first.passages[0].title == "Eiffel Tower" and first.passages[0].gold
    )
    assert not second.answerable and second.kind == "unanswerable" and not second.passages[0].gold
    assert third.language == "zh"


def test_rgb_form_draws_passages_at_the_rates_that_it_can(tmp_path: Path) -> None:
    noise = [f"noise {n}" for n in range(8)]
    one = {
        "id": 1,
        "query": "when",
        "answer": [["May 1", "1 May"]],
        "positive": ["on May 1"],
        "negative": noise,
    }
    full = {
        "id": 2,
        "query": "who",
        "answer": ["Ann", "Bob"],
        "positive": [f"Ann and Bob {n}" for n in range(5)],
        "negative": noise,
    }
    parts = {
        "id": 3,
        "query": "both",
        "answer": [["a", "A"], "b"],
        "positive": [["a1", "a2"], ["b1"]],
        "negative": noise,
    }
    facts = {
        "id": 4,
        "query": "where",
        "answer": "Tampa",
        "fakeanswer": "Glendale",
        "positive": ["in Tampa"],
        "positive_wrong": ["in Glendale"],
        "negative": noise,
    }
    questions = read_questions(write(tmp_path / "rgb.jsonl", one, full, parts, facts))
    counts = Counter(q.kind for q in questions)
    assert counts == {
        "noise 0.8": 2,
        "noise 0": 1,
        "noise 0.4": 1,
        "rejection": 2,
        "integration, noise 0.4": 1,
        "facts": 1,
        "counterfactual": 1,
    }
    for question in questions:
        rate = {
            "noise 0": 0,
            "noise 0.4": 2,
            "noise 0.8": 4,
            "integration, noise 0.4": 2,
            "rejection": 5,
        }.get(question.kind)
        if rate is not None:
            assert (len(question.passages), sum(not p.gold for p in question.passages)) == (5, rate)
            assert all(p.text.startswith("noise") != p.gold for p in question.passages)
    by_kind = {(q.id.partition("/")[0], q.kind): q for q in questions}
    assert by_kind["2", "noise 0"].parts == (("Ann",), ("Bob",))
    assert {p.text[0] for p in by_kind["3", "integration, noise 0.4"].passages if p.gold} == {"a", "b"}
    assert by_kind["4", "counterfactual"].decoys == ("Glendale",)
    assert not by_kind["1", "rejection"].answerable
    assert read_questions(tmp_path / "rgb.jsonl") == questions  # the draw is fixed
    assert {q.kind for q in read_questions(tmp_path / "rgb.jsonl", noise=[0.6])} >= {
        "noise 0.6",
        "integration, noise 0.6",
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"id": 1, "question": "a", "answers": ["b"]}\n{"id": 2, "question"', "line 2: not JSON"),
        (b'{"question": "a"}', "line 1: no question in a known form"),
        (b'{"question": "a", "answers": "b"}', "line 1: answers should be a list"),
        (b'{"question": " ", "answers": []}', "line 1: question should be a text"),
        (b'{"question": "a", "answers": [7]}', "line 1: answers should be a text"),
        (b'[{"question": "a", "answers": ["b"]}, 5]', "line 2: expected an object, got int"),
        (b'{"query": "a", "answer": "b", "negative": [], "positive": {"x": 1}}', "line 1"),
        (b'{"data": [{"paragraphs": [{"context": "c", "qas": [{"question": "q", "answers": [{}]}]}]}]}', "the field 'text' is missing"),
        (b'{"id": 1, "question": "a", "answers": []}\n{"id": 1, "question": "b", "answers": []}', "the id '1' stands twice"),
        (b"", "holds no question"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"\x1f\x8bbroken", "cannot be read"),
    ],
)  # fmt: skip
def test_bad_files_are_named_with_line_and_fault(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_bytes(content)
    with pytest.raises(QuestionsUnreadable, match=said) as raised:
        read_questions(file)
    assert "bad.jsonl" in str(raised.value)


def test_a_missing_file_and_a_missing_corpus(tmp_path: Path) -> None:
    with pytest.raises(QuestionsUnreadable, match="no such file"):
        read_questions(tmp_path / "none.jsonl")
    file = write(tmp_path / "q.jsonl", {"question": "a", "answers": [], "corpus": "docs"})
    with pytest.raises(QuestionsUnreadable, match="it has: docs"):
        read_questions(file, corpus="other")


@pytest.mark.skipif(not DATA.is_dir(), reason="LOREBASE_DATA names no folder with the public question sets")
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("qa/squad_dev_a.json.gz", {"answerable": 1524, "unanswerable": 937}),
        ("qa/cmrc2018_dev_a.json.gz", {"answerable": 1546}),
        ("qa/nq_oracle_a.jsonl.gz", {"question": 1814}),
        ("rgb/nq_noise_en_a.jsonl.gz", {"noise 0.8": 600, "rejection": 600}),
        ("rgb/en_fact_a.jsonl.gz", {"facts": 58, "counterfactual": 58}),
        ("rgb/zh_refine_a.jsonl.gz", None),
        ("rgb/zh_int_a.jsonl.gz", None),
        ("rgb/zh_fact_a.jsonl.gz", {"facts": 44, "counterfactual": 44}),
    ],
)
def test_public_sets_are_read_whole(name: str, counts: dict[str, int] | None) -> None:
    if not (DATA / name).is_file():
        pytest.skip(f"{name} is not there")
    questions = read_questions(DATA / name)
    found = Counter(q.kind for q in questions)
    assert counts is None or found == counts
    print(name, found)
    for question in questions:
        assert not question.answerable or (question.answers and all(question.answers))
        if question.kind.startswith("noise"):
            assert len(question.passages) == 5 and any(p.gold for p in question.passages)
