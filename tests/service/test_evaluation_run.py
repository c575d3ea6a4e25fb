"""The whole comparison over scripted generators: figures by hand, resuming, failing modes, the judge, the page."""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.__main__ import main
from service.cli import arguments, evaluate
from service.errors import InvalidRequest, UpstreamError
from service.evaluation import page, terminal
from service.evaluation.judge import Judge, verdict
from service.evaluation.modes import Asking, modes
from service.evaluation.passages import OwnPassages, same_document
from service.evaluation.questions import Passage, Question
from service.evaluation.replies import Answers, AnswersUnwritable, Reply
from service.generators.ollama import OllamaServer
from service.reading.calibrators import FILE, Calibrators
from tests.service.conftest import TOWER
from tests.service.evaluating import QUESTIONS, compare, figures, parts_of, questions
from tests.service.fakes import MemoryLibrary, ScriptedGenerator
from tests.service.ollama_stand_in import standing_in

__all__ = ["questions"]


def test_figures_are_those_counted_by_hand(
    tmp_path: Path, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = parts_of(tmp_path, ScriptedGenerator("330 metres"))
    status, report = compare(questions, parts, tmp_path / "out", "--modes", "base,finetuned,rag")
    assert status == 0
    assert [m["name"] for m in report["modes"]] == ["base", "rag", "always-refuse", "best-sentence"]
    assert any("finetuned" in note and "--finetuned" in note for note in report["notes"])
    base = figures(report, "base")  # says "330 metres" to everything: right once, never refuses
    assert (base["right"], base["exact"], base["refused_right"], base["refused_wrongly"]) == (
        0.25,
        0.25,
        0.0,
        0.0,
    )
    assert (base["right_answerable"], base["exact_answerable"]) == (pytest.approx(1 / 3, abs=1e-4),) * 2
    refuse = figures(report, "always-refuse")
    assert (refuse["right"], refuse["f1"], refuse["refused_right"], refuse["refused_wrongly"]) == (
        0.25,
        0.25,
        1.0,
        1.0,
    )
    quoted = figures(report, "best-sentence")  # right about all three that have an answer
    assert (
        quoted["right"],
        quoted["right_answerable"],
        quoted["citation_precision"],
        quoted["citation_recall"],
    ) == (0.75, 1.0, 1.0, 1.0)
    kinds = {m["name"]: m["by_kind"] for m in report["modes"]}
    assert kinds["base"]["number"]["right"]["mean"] == 0.5 and kinds["base"]["person"]["n"] == 1
    assert {m["name"]: m["by_language"] for m in report["modes"]}["base"]["zh"]["right"]["mean"] == 0.0
    difference = next(
        c for c in report["comparisons"] if (c["mode"], c["against"]) == ("best-sentence", "base")
    )
    assert difference["figures"]["right"]["mean"] == 0.5
    shown = capsys.readouterr().out
    assert "best-sentence" in shown and "25%" in shown and "report.html" in shown


def test_another_calibrator_asks_anew_whatever_reads_passages(tmp_path: Path, questions: Path) -> None:
    def asked() -> int:
        generator = ScriptedGenerator("330 metres")
        parts = parts_of(tmp_path, generator)
        compare(questions, parts, tmp_path / "out", "--modes", "base,rag")
        return len(generator.asked)

    both = asked()
    assert both and asked() == 0
    own = replace(Calibrators().shipped, name="collection default")
    folder = tmp_path / "home" / "collections" / "default"
    folder.mkdir(parents=True)
    own.save(folder / FILE)
    with_passages = asked()
    assert 0 < with_passages < both, "base reads no passage: what it said stands"
    assert asked() == 0
    replace(own, threshold=0.9).save(folder / FILE)
    assert asked() == with_passages
    (folder / FILE).unlink()
    assert asked() == 0, "the first replies are found again"


class Interrupting(ScriptedGenerator):
    """Is interrupted from the keyboard at its n-th question."""

    def __init__(self, at: int) -> None:
        super().__init__("330 metres")
        self.at = at

    def stream(self, *asked: Any) -> Iterator[Any]:
        if len(self.asked) + 1 == self.at:
            raise KeyboardInterrupt
        return super().stream(*asked)


def test_interrupted_run_goes_on_and_ends_in_the_same_report(tmp_path: Path, questions: Path) -> None:
    whole = ScriptedGenerator("330 metres")
    _, expected = compare(questions, parts_of(tmp_path, whole), tmp_path / "whole", "--modes", "base,rag")

    status, partial = compare(
        questions, parts_of(tmp_path, Interrupting(4)), tmp_path / "cut", "--modes", "base,rag"
    )
    assert status == 130
    assert partial["questions"]["asked"] == 1 and any("goes on" in n for n in partial["notes"])
    with (tmp_path / "cut" / "answers.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"id": "built", "mode": "ra')  # killed within a line
    second = ScriptedGenerator("330 metres")
    status, resumed = compare(questions, parts_of(tmp_path, second), tmp_path / "cut", "--modes", "base,rag")
    assert status == 0
    assert len(second.asked) == len(whole.asked) - 3  # what had been answered is not asked again
    assert without_times(resumed) == without_times(expected)
    third = ScriptedGenerator("another answer")
    compare(questions, parts_of(tmp_path, third), tmp_path / "cut", "--modes", "base,rag")
    assert third.asked == []
    _, anew = compare(
        questions, parts_of(tmp_path, third), tmp_path / "cut", "--modes", "base,rag", "--again"
    )
    assert third.asked and figures(anew, "base")["right"] == 0.0


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        dropped = {"latency_ms", "total_ms", "made"}
        return {k: without_times(v) for k, v in value.items() if k not in dropped}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def test_other_settings_are_asked_anew_and_changed_documents_too(tmp_path: Path, questions: Path) -> None:
    generator, library = ScriptedGenerator("330 metres"), MemoryLibrary({"tower.md": TOWER})
    parts = parts_of(tmp_path, generator, library)
    compare(questions, parts, tmp_path / "out", "--modes", "base,rag")
    asked = len(generator.asked)
    compare(questions, parts, tmp_path / "out", "--modes", "base,rag", "--max-tokens", "7")
    assert len(generator.asked) == 2 * asked
    library.generation += 1  # only what reads documents has to be asked again
    compare(questions, parts, tmp_path / "out", "--modes", "base,rag", "--max-tokens", "7")
    assert len(generator.asked) == 3 * asked - len(QUESTIONS)


def test_a_mode_that_fails_is_given_up_and_the_others_go_on(tmp_path: Path, questions: Path) -> None:
    def failing(_: Any) -> str:
        raise UpstreamError("Ollama failed")

    parts = parts_of(tmp_path, ScriptedGenerator(failing))
    status, report = compare(questions, parts, tmp_path / "out", "--modes", "base")
    assert status == 1
    assert [m["name"] for m in report["modes"]] == ["always-refuse", "best-sentence"]
    assert report["questions"]["asked"] == 4
    _, short = compare(questions, parts, tmp_path / "short", "--modes", "base", "--limit", "2")
    assert any("base failed at every question" in n and "Ollama failed" in n for n in short["notes"])
    assert any("base was given up after 3 failures" in n and "Ollama failed" in n for n in report["notes"])
    assert (
        len(
            [a for a in (tmp_path / "out" / "answers.jsonl").read_text().splitlines() if "Ollama failed" in a]
        )
        == 3
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--modes", "base,magic"], "no mode 'magic'; there are: base"),
        (["--modes", "rag+finetuned", "--finetuned", "mine"], "no adapter 'mine'"),
        (["--limit", "0"], "--limit should be 1 or more"),
        (["--noise", "1.5"], "--noise should be numbers"),
        (["--judge", "base"], "--judge should be ollama/NAME"),
    ],
)
def test_bad_arguments_are_told_before_anything_is_asked(
    tmp_path: Path, questions: Path, more: list[str], said: str
) -> None:
    generator = ScriptedGenerator()
    with pytest.raises(Exception, match=said.replace("+", r"\+")):
        compare(questions, parts_of(tmp_path, generator), tmp_path / "out", *more)
    assert generator.asked == []


def test_an_empty_collection_names_the_command_that_fills_it(tmp_path: Path, questions: Path) -> None:
    with pytest.raises(InvalidRequest, match="python -m ingest"):
        compare(questions, parts_of(tmp_path, ScriptedGenerator(), MemoryLibrary()), tmp_path / "out")


def test_passages_of_the_question_are_read_instead_of_a_collection(tmp_path: Path) -> None:
    file = tmp_path / "rgb.jsonl"
    row = {"id": 1, "query": "How tall is the tower?", "answer": "330 m", "fakeanswer": "99 m", "positive": ["The tower is 330 m tall."], "positive_wrong": ["The tower is 99 m tall."], "negative": []}  # fmt: skip
    file.write_text(json.dumps(row), encoding="utf-8")
    library = MemoryLibrary()
    generator = ScriptedGenerator(lambda messages: "The tower is 99 m tall." if "99" in messages[-1]["content"] else "The tower is 330 m tall.")  # fmt: skip
    given = arguments.parse(
        ["evaluate", "--questions", str(file), "--out", str(tmp_path / "out"), "--modes", "rag"]
    )
    embedding = evaluate.Embedding(lambda q, texts: [0.9 for _ in texts], 0.1)
    assert evaluate.compare(given, parts_of(tmp_path, generator, library), lambda: embedding) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    rag = figures(report, "rag")
    assert (rag["right"], rag["misled"], library.searched) == (0.5, 1.0, [])
    assert rag["citation_recall"] == 0.5


def test_own_passages_are_ranked_by_similarity_and_cut_at_k() -> None:
    passages = [Passage("far"), Passage("near", gold=True), Passage("middle")]
    ranks = {"far": 0.1, "near": 0.9, "middle": 0.5}
    found = OwnPassages(passages, [ranks[p.text] for p in passages]).search("?", 2, "hybrid")
    assert [(h.text, h.path, h.dense_score) for h in found.hits] == [
        ("near", "own/2", 0.9),
        ("middle", "own/3", 0.5),
    ]
    assert [h.score for h in found.hits] == [0.45, 0.25]  # half of the closeness, and no word in common
    closer = OwnPassages(passages, [0.9] * 3, 0.8).search("Is it in the middle?", 3, "hybrid").hits
    assert closer[0].text == "middle" and closer[0].score > closer[1].score == pytest.approx(0.25)
    plain = OwnPassages(passages, None).search("?", 3, "hybrid")
    assert [(h.text, h.dense_score) for h in plain.hits] == [("far", None), ("near", None), ("middle", None)]


def test_a_document_is_known_by_the_end_of_its_path() -> None:
    assert same_document("docs/ask.md", "docs/ask.md") and same_document("memo.pdf", "documents/memo.pdf")
    assert not same_document("docs/ask.md", "other/ask.md") and not same_document("task.md", "docs/ask.md")


def test_modes_say_who_is_asked_and_how() -> None:
    asking = Asking(model="small", collection="c", finetuned="tuned", k=3)
    found, notes = modes(
        ["base", "finetuned", "rag", "rag+finetuned", "grounded", "ollama/big", "base"], asking
    )
    assert notes == []
    told = {m.name: (m.generator, m.ask and (m.ask.mode, m.ask.reading, m.ask.k), m.passages) for m in found}
    assert told == {
        "base": ("small", ("closed_book", "each", 3), False),
        "finetuned": ("small+tuned", ("closed_book", "each", 3), False),
        "rag": ("small", ("rag", "joint", 3), True),
        "rag+finetuned": ("small+tuned", ("rag", "joint", 3), True),
        "grounded": ("small", ("rag", "each", 3), True),
        "ollama/big": ("ollama/big", ("rag", "joint", 3), True),
        "always-refuse": (None, None, False),
        "best-sentence": (None, None, True),
    }


def test_answers_of_something_else_are_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text('{"id": "a"}\n', encoding="utf-8")
    with pytest.raises(AnswersUnwritable, match=r"line 1 is no reply.*--out"):
        Answers.open(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(AnswersUnwritable, match="--out"):
        Answers.open(tmp_path / "file" / "below")


class Grading(ScriptedGenerator):
    """Grades as it is told; a `service.evaluation.judge.Structured`."""

    def structured(self, messages: Any, schema: Any, cancel: Any) -> str:
        self.asked.append([*messages])
        assert schema["properties"]["score"]["maximum"] == 100
        return self.reply if isinstance(self.reply, str) else self.reply(messages)


def test_a_judge_rates_answers_and_unreadable_verdicts_are_counted(tmp_path: Path) -> None:
    question = Question(id="q", text="How tall?", parts=(("330 m",),))
    replies = Answers.open(tmp_path)
    given = {"q": Reply(id="q", mode="rag", setup="s", answer='It is "330 m"', answered=True)}
    for said, score in (('{"score": 80}', 80.0), ('{"score": 101}', None), ("I think 80", None)):
        judge = Judge(Grading(said, name=f"ollama/{said}"))
        outcome = evaluate.Outcome({"rag": dict(given)})
        evaluate._rate([question], outcome, judge, replies)
        rated = outcome.replies["rag"]["q"]
        assert (rated.judged, rated.judge) == (score, judge.name)
        assert not judge.wanted(question, rated)
        assert Answers.open(tmp_path).get(rated.key) == rated  # the later line counts
    refused = Reply(id="q", mode="rag", setup="s")
    assert not Judge(Grading("")).wanted(question, refused)
    with pytest.raises(InvalidRequest, match="cannot judge"):
        Judge(ScriptedGenerator())


@pytest.mark.parametrize(
    "text", ["", "null", "[1]", '{"score": "80"}', '{"score": true}', '{"score": -1}', '{"score": NaN}']
)
def test_a_verdict_that_breaks_the_form_is_none(text: str) -> None:
    assert verdict(text) is None


def test_a_report_without_a_question_still_reads(tmp_path: Path, questions: Path) -> None:
    status, report = compare(
        questions, parts_of(tmp_path, Interrupting(1)), tmp_path / "out", "--modes", "base"
    )
    assert status == 130 and report["questions"]["asked"] == 0
    assert "0 of 4 questions" in terminal.table(report) and "<h1>" in page.render(report)


def test_a_missing_reading_adapter_is_told(tmp_path: Path, questions: Path) -> None:
    _, report = compare(questions, parts_of(tmp_path, ScriptedGenerator()), tmp_path / "out", "--modes", "rag,grounded")  # fmt: skip
    assert [n for n in report["notes"] if "grounded read no passage apart" in n and "reading adapter" in n]
    assert not [n for n in report["notes"] if n.startswith("rag ")]


def test_markers_are_no_words_of_an_answer(tmp_path: Path, questions: Path) -> None:
    parts = parts_of(tmp_path, ScriptedGenerator("The tower is 330 metres tall."))
    _, report = compare(questions, parts, tmp_path / "out", "--modes", "rag", "--limit", "1")
    reply = report["answers"][0]["replies"]["rag"]
    assert reply["citations"] and reply["answer"] == "The tower is 330 metres tall."


def test_an_error_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = ["evaluate", "--questions", str(tmp_path / "none.jsonl"), "--home", str(tmp_path)]
    assert main(missing) == 2
    assert "none.jsonl: no such file" in capsys.readouterr().err


def test_the_command_is_known() -> None:
    given = arguments.parse(["evaluate", "--questions", "q.jsonl", "--collection", "mine", "--modes", "rag"])
    assert isinstance(given, argparse.Namespace) and (given.command, given.collection, given.passages) == (
        "evaluate",
        "mine",
        "own",
    )


def test_ollama_is_held_to_the_judges_form() -> None:
    with standing_in() as ollama:
        ollama.words = ['{"score"', ": 70}"]
        judge = Judge(OllamaServer(ollama.address, 2048).generator("tiny:1b"))
        reply = Reply(id="q", mode="rag", setup="s", answer="330 m", answered=True)
        rated = judge.rate(Question(id="q", text="How tall?", parts=(("330 m",),)), reply, threading.Event())
        assert (rated.judged, rated.judge) == (70.0, "ollama/tiny:1b")
        assert ollama.asked[-1]["format"]["required"] == ["score"]
        assert json.loads(ollama.asked[-1]["messages"][1]["content"])["accepted answers"] == [["330 m"]]
        ollama.script = "500"
        with pytest.raises(UpstreamError):
            judge.rate(Question(id="q", text="?", parts=(("a",),)), reply, threading.Event())
