"""A collection's own calibrator: made from questions with answers, kept in its folder, used where it fits."""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from ingest.types import Hit
from service.answer import Source
from service.app import assemble, create_app
from service.cli import calibrate
from service.deps import Parts
from service.errors import InvalidRequest
from service.evaluation.questions import Question
from service.reading import calibrating, trials
from service.reading.calibrating import KEPT, TooFewQuestions
from service.reading.calibration import Calibrator, logistic
from service.reading.calibrators import FILE
from service.reading.readings import PassageReading, Readings
from service.reading.select import FEATURES
from service.reading.trials import Record, Trial
from service.settings import ServiceSettings
from tests.service.fakes import MemoryLibrary, ScriptedGenerator
from tests.service.reading_engine import hit

pytestmark = pytest.mark.usefixtures("plain_calibrator")

TOWERS = 40
TEXTS = {f"{n}.md": f"Tower {n}x is {100 + n} metres tall. Nobody paints it.\n" for n in range(TOWERS)}


class Embedded(MemoryLibrary):
    """Says that an embedder searched."""

    def source(self, collection: str) -> Source:
        return replace(super().source(collection), embedder="words")


class Numbers:
    """Reads a number out of each passage: rightly of the tower that is asked about, mostly."""

    name, fingerprint, context_tokens = "numbers", "reader 1", 2048

    def __init__(self) -> None:
        self.asked: list[str] = []

    def read(
        self, question: str, hits: Sequence[Hit], cancel: threading.Event
    ) -> Generator[str, None, Readings]:
        self.asked.append(question)
        yield "…"
        found = []
        for rank, one in enumerate(hits):
            tower, number = one.text.split()[1], one.text.split()[3]
            tells = tower in question
            lies = tells and int(number) % 7 == 0
            said = "999" if lies else number
            place = one.text.find(said)
            end = one.text.index(".") + 1
            found.append(
                PassageReading(
                    one,
                    rank,
                    0.3 if lies else 0.1 if tells else 0.6,
                    True,
                    said,
                    None if place < 0 else (place, place + len(said)),
                    sentences=((0, end),),
                    logprob=-0.9 if lies else -0.2,
                    gain=0.1 if lies else 2.0,
                )
            )
        return Readings(tuple(found))


class Reading(ScriptedGenerator):
    def __init__(self) -> None:
        super().__init__()
        self.reader = Numbers()


@pytest.fixture
def generator() -> Reading:
    return Reading()


@pytest.fixture
def library(tmp_path: Path) -> MemoryLibrary:
    (tmp_path / "collections" / "default").mkdir(parents=True)
    return Embedded(TEXTS)


@pytest.fixture
def parts(tmp_path: Path, library: MemoryLibrary, generator: Reading) -> Parts:
    return assemble(ServiceSettings(model="scripted", k=3), tmp_path, library, generator)


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    file = tmp_path / "questions.jsonl"
    rows = [
        {"question": f"How many metres tall is Tower {n}x?", "answers": [str(100 + n)], "source": f"{n}.md"}
        for n in range(TOWERS)
    ]
    rows += [{"question": f"Who painted Tower y{n} so tall?", "answers": []} for n in range(8)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def given(**changed: Any) -> argparse.Namespace:
    flags = {
        "questions": None, "corpus": None, "limit": None, "foreign": None, "acceptable_error": None, "k": None,
        "force": False, "json": False,
    }  # fmt: skip
    return argparse.Namespace(**flags | changed)


def ask(client: TestClient, **more: object) -> dict[str, Any]:
    reply = client.post("/ask", json={"question": "How many metres tall is Tower 3x?", **more})
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.fixture
def client(
    tmp_path: Path, library: MemoryLibrary, generator: Reading, parts: Parts, questions: Path
) -> Iterator[TestClient]:
    assert calibrate.run(given(questions=questions), parts) == 0
    app = create_app(ServiceSettings(model="scripted", k=3), tmp_path, library, generator)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        assert app.state.parts.readiness.wait(10)
        yield client


def test_what_was_learned_is_better_is_kept_and_a_second_run_reads_nothing(
    parts: Parts, tmp_path: Path, questions: Path, generator: Reading, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "collections" / "default"
    assert calibrate.run(given(questions=questions, json=True), parts) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["written"] and told["asked"] == {"answerable": 40, "hidden": 40, "unanswerable": 8}
    assert told["own"]["log loss"] < told["shipped"]["log loss"]
    assert told["own"]["area under risk-coverage"] < told["own"]["the same by retrieval score"]
    made = Calibrator.load(folder / FILE, features=FEATURES)
    assert made.name == "collection default" and made.made_for == {"reader": "reader 1", "embedder": "words"}
    assert made.questions == 88 and made.curve and 0 < made.threshold < 1
    read = len(generator.reader.asked)
    assert read == 88
    lines = (folder / KEPT).read_text().splitlines()
    (folder / KEPT).write_text("\n".join(lines[:30]) + '\n["torn')
    calibrate.run(given(questions=questions, acceptable_error=0.2), parts)
    assert len(generator.reader.asked) == read + 58, "what was read before is not read again"
    out = capsys.readouterr().out
    assert "shipped" in out and "acceptable error 20%" in out and "written" in out
    generator.reader.fingerprint = "reader 2"
    calibrate.run(given(questions=questions), parts)
    assert len(generator.reader.asked) == read + 58 + 88, "another reader reads for itself"


def test_it_speaks_says_so_and_turns_an_acceptable_error_into_a_threshold(client: TestClient) -> None:
    reply = ask(client)
    assert reply["answer"] == "103 [1]" and reply["calibrator"] == "collection default"
    assert reply["calibrator_note"] is None and client.get("/readyz").json()["notes"] == []
    point = reply["operating_point"]
    assert 0 <= point["expected_error"] < 0.5 and point["acceptable_error"] is None
    assert reply["checks"] == {"quotation": "done", "overlap": "done", "evidence_gain": "done"}
    strict, lenient = ask(client, acceptable_error=0.05), ask(client, acceptable_error=1.0)
    points = [r["operating_point"] for r in (strict, lenient)]
    assert points[0]["threshold"] > points[1]["threshold"] and points[0]["acceptable_error"] == 0.05
    assert points[1]["coverage"] >= points[0]["coverage"]
    never = ask(client, acceptable_error=0.0)
    assert not never["answered"] and never["operating_point"]["threshold"] == 1.0
    assert client.post("/ask", json={"question": "x", "acceptable_error": 2}).status_code == 422


def test_the_settings_acceptable_error_counts_for_other_programs_too(
    client: TestClient, tmp_path: Path, library: MemoryLibrary, generator: Reading
) -> None:
    question = [{"role": "user", "content": "How many metres tall is Tower 3x?"}]
    body = {"model": "lorebase", "messages": question, "stream": False}
    routes = ("/v1/chat/completions", "/api/chat")
    assert all('"103 [1]"' in client.post(route, json=body).text for route in routes)
    never = create_app(
        ServiceSettings(model="scripted", k=3, acceptable_error=0.0), tmp_path, library, generator
    )
    with TestClient(never, base_url="http://127.0.0.1") as strict:
        assert never.state.parts.readiness.wait(10)
        for route in routes:
            reply = strict.post(route, json=body)
            assert reply.status_code == 200 and "103" not in json.dumps(
                reply.json().get("message") or reply.json()["choices"]
            )


@pytest.mark.parametrize("change", ["reader", "embedder", "damaged", "gone"])
def test_where_it_does_not_fit_the_shipped_one_speaks_and_says_why(
    change: str, client: TestClient, generator: Reading, tmp_path: Path
) -> None:
    file = tmp_path / "collections" / "default" / FILE
    assert ask(client)["calibrator"] == "collection default"
    if change == "reader":
        generator.reader.fingerprint = "reader 2"
    elif change == "embedder":
        stored = json.loads(file.read_text())
        file.write_text(json.dumps(stored | {"made_for": stored["made_for"] | {"embedder": "other"}}))
    elif change == "damaged":
        file.write_text("{")
    else:
        file.unlink()
    reply = ask(client)
    assert reply["calibrator"] == "shipped"
    notes = client.get("/readyz").json()["notes"]
    if change == "gone":
        assert reply["calibrator_note"] is None and notes == []
    else:
        wanted = {"reader": "another reader", "embedder": "another embedder", "damaged": "is damaged"}
        assert wanted[change] in reply["calibrator_note"] and "calibrate --collection default" in notes[0]
        assert str(tmp_path) not in json.dumps([notes, reply]), "no path of this machine leaves it"


def test_too_few_or_one_sided_questions_are_refused_and_missing_ones_named(
    parts: Parts, questions: Path, tmp_path: Path
) -> None:
    with pytest.raises(TooFewQuestions, match="19 questions"):
        calibrate.run(given(questions=questions, limit=19), parts)
    with pytest.raises(InvalidRequest, match=r"--questions FILE.*service tune --collection default"):
        calibrate.run(given(), parts)
    with pytest.raises(InvalidRequest, match="share"):
        calibrate.run(given(questions=questions, acceptable_error=7.0), parts)
    record = Record(0.9, 0.5, True, (((0.0,) * len(FEATURES), True),), ((),))
    former = record.as_json() | {"candidates": [[[0.0], True]]}
    assert Record.of(record.as_json()) == record
    with pytest.raises(ValueError, match="another version"):
        Record.of(former)
    chosen = [Trial("answerable", str(n), (("x",),), str(n)) for n in range(30)]
    with pytest.raises(TooFewQuestions, match="30 answers are right and 0 wrong"):
        calibrating.make("c", chosen, [record] * 30, parts.answerer.calibrators.shipped, made_for={})
    assert not (tmp_path / "collections" / "default" / FILE).exists()


def test_questions_that_tune_has_kept_are_used_and_those_of_other_collections_have_no_answer(
    parts: Parts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, count in (("default", 25), ("other", 30)):
        folder = tmp_path / "tuning" / name
        folder.mkdir(parents=True)
        rows = [
            {
                "key": f"{name} {n}" if n < 27 else str(n), "path": f"{n}.md",
                "pairs": [{"question": f"How tall is Tower {n}x of {name}?", "answer": str(100 + n),
                           "sentences": [], "kind": "number"}],
            }
            for n in range(count)
        ]  # fmt: skip
        if name == "other":  # the same passage is in both: what asks about it has an answer here
            rows[0]["key"] = "default 0"
        (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{torn")
    calibrate.run(given(), parts)
    out = capsys.readouterr().out
    assert "25 answerable, 25 hidden, 12 unanswerable" in out and "kept because the reader can" in out
    kept = [q.text for q in calibrate.pairs(tmp_path / "tuning" / "other" / "pairs.jsonl", but={"default 0"})]
    assert len(kept) == 29 and "How tall is Tower 0x of other?" not in kept


def test_the_questions_of_one_document_are_told_apart() -> None:
    some = [Trial("answerable", f"q{n}", (("x",),), "handbook.md") for n in range(40)]
    others = [Trial("unanswerable", f"u{n}", (), f"u{n}") for n in range(8)]
    places = trials.folds([*some, *some, *others])
    assert {*places} == set(range(5)) and places[:40] == places[40:80]


def test_another_answer_makes_another_trial() -> None:
    one = Trial("answerable", "q", (("x",),), "g")
    assert one.key != replace(one, parts=(("y",),)).key and one.key == replace(one, group="h").key


def test_a_feature_that_never_changes_learns_nothing() -> None:
    draw = np.random.default_rng(0)
    telling = draw.normal(size=60)
    features = np.stack([telling, np.full(60, -0.6)], 1)  # whose deviation is 1e-16, and not 0
    right = (telling + draw.normal(size=60) > 0).astype(float)
    weights, _ = logistic(features, right, around=([0.5, 0.65], 0.0))
    assert weights[1] == pytest.approx(0.65)


def reading(answer: str | None, sentence: str) -> PassageReading:
    return PassageReading(hit(sentence), 0, 0.1, True, answer, None, sentences=((0, len(sentence)),))


@pytest.mark.parametrize(
    ("answer", "sentence", "parts", "right"),
    [
        ("330 metres", "It is 330 metres tall.", (("330 metres", "330 m"),), True),
        ("in the year 1889", "It was in the year 1889.", (("1889",),), True),
        ("1887", "It was begun in 1887.", (("1889",),), False),
        (None, "It was finished in 1889.", (("1889",),), True),
        (None, "It was begun in 1887.", (("1889",),), False),
        ("tea", "Tea, milk and sugar.", (("tea",), ("milk",)), True),
        (None, "Tea and sugar.", (("tea",), ("milk",), ("cups",)), False),
        ("anything", "Anything.", (), False),
    ],
)
def test_what_counts_as_right(answer: str | None, sentence: str, parts: trials.Parts, right: bool) -> None:
    assert trials.is_right(reading(answer, sentence), parts) is right


def test_a_hidden_question_is_asked_of_what_else_is_found(library: MemoryLibrary) -> None:
    reader = Numbers()
    question = Question(id="1", text="How many metres tall is Tower 3x?", parts=(("103",),), source="3.md")
    shown, hidden = calibrating.trials_of([question] * 20, [])
    there = trials.examine(shown, library.source("default"), reader, k=3)
    away = trials.examine(hidden, library.source("default"), reader, k=3)
    assert there.found and there.candidates and any(right for _, right in there.candidates)
    assert not away.found and away.candidates and not any(right for _, right in away.candidates)
    assert Record.of(json.loads(json.dumps(there.as_json()))) == there
    assert trials.examine(shown, library.source("default"), reader, least_relevance=1.1).candidates == ()


def test_documents_stay_on_one_side(library: MemoryLibrary) -> None:
    chosen = [Trial("answerable", str(n), (), f"doc {n % 9}") for n in range(70)]
    fold = trials.folds(chosen)
    sides: dict[str, set[int]] = {}
    for trial, which in zip(chosen, fold, strict=True):
        sides.setdefault(trial.group, set()).add(which)
    assert all(len(which) == 1 for which in sides.values()) and len(set(fold)) == trials.FOLDS
    assert max(fold.count(n) for n in range(5)) <= 2 * min(fold.count(n) for n in range(5))
