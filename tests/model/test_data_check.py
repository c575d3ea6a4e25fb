"""`python -m model data check`: every fault is found where it was put, and only there."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import checkpoint
from model.__main__ import main
from model.chat import ChatTemplate
from model.data.check import check
from model.data.histogram import bars, edges
from model.data.sets import DataConfig
from model.template_export import jinja
from tests.model import tiny
from tests.model.chatml import pair

TEMPLATE = ChatTemplate("You are Lore.")


def row(prompt: str, reply: str, **more: Any) -> dict[str, Any]:
    return {"instruction": prompt, "output": reply} | more


CLEAN = [row(f"Question {word}?", f"Answer {word}.") for word in ("one", "two", "three", "four", "five")]


def jsonl(folder: Path, name: str, rows: list[Any]) -> str:
    file = folder / f"{name}.jsonl"
    file.write_text("\n".join(json.dumps(r) for r in rows))
    return str(file)


def test_each_fault_is_found_where_it_is(tmp_path: Path) -> None:
    tokenizer, _ = pair(tmp_path)
    faults = [
        *CLEAN,  # rows 1 to 5
        row("question  ONE?", "answer one."),  # 6 repeats 1, spaced and cased otherwise
        row("Question two?", "Another answer."),  # 7 contradicts 2
        row("Blank?", " "),  # 8
        row("Long?", "a b c " * 40),  # 9
        {"instruction": "No reply"},  # 10
        {"instruction": "No reply either"},  # 11
    ]
    held = [
        row("Question three?", "Something else."),
        row("And?", "Yes.", history=[["QUESTION four?", "Four."]]),
        row("New?", "Yes."),
    ]
    config = DataConfig(
        dataset=(jsonl(tmp_path, "train", faults), str(tmp_path / "absent.json")),
        eval_dataset=(jsonl(tmp_path, "held", held),),
        cutoff_len=100,
    )
    report = check(config, TEMPLATE, tokenizer)
    found = {(f.kind, f.what.split(";")[0]): f.where for f in report.findings}
    assert found == {
        ("error", "column 'output' is missing"): ("train.jsonl, row 10", "train.jsonl, row 11"),
        ("error", f"{tmp_path / 'absent.json'} does not exist"): (),
        ("error", "blank replies: 1"): ("train.jsonl, row 8",),
        ("warning", "repeats of another conversation: 1"): ("train.jsonl, row 6 = train.jsonl, row 1",),
        ("warning", "prompts with more than one reply: 2"): (
            "train.jsonl, row 2 and train.jsonl, row 7",
            "train.jsonl, row 3 and held.jsonl, row 1",
        ),
        ("error", "validation prompts that stand in the training set too: 2"): (
            "held.jsonl, row 1 = train.jsonl, row 3",
            "held.jsonl, row 2 = train.jsonl, row 4",
        ),
        (
            "warning",
            "longer than cutoff_len 100, cut there, dropped where no reply is left: 1",
        ): (f"train.jsonl, row 9: {max(report.lengths)}",),
    }
    assert (report.train, report.validation, len(report.lengths)) == (9, 3, 12)
    assert (report.counts.kept, report.counts.truncated, report.counts.dropped_empty) == (11, 1, 1)
    longest = TEMPLATE.encode(
        [{"role": "user", "content": "Long?"}, {"role": "assistant", "content": "a b c " * 40}],
        tokenizer,
        reply=False,
    )
    assert max(report.lengths) == len(longest.ids) - len(tokenizer.encode("\n"))


def test_a_passage_on_both_sides_is_told(tmp_path: Path) -> None:
    tokenizer, _ = pair(tmp_path)

    def passage(number: int, question: str) -> dict[str, Any]:
        return {"passage": f"Text {number}.", "questions": [{"question": question, "answer": "Yes."}]}

    train = jsonl(tmp_path, "train", [passage(1, "A?"), passage(2, "B?")])
    held = jsonl(tmp_path, "held", [passage(3, "C?"), passage(2, "D?")])
    report = check(DataConfig(dataset=(train,), eval_dataset=(held,)), TEMPLATE, tokenizer)
    assert [(f.kind, f.where) for f in report.findings] == [
        ("warning", ("held.jsonl, row 2 = train.jsonl, row 2",))
    ]
    own = check(DataConfig(dataset=(train, held), val_size=2), TEMPLATE, tokenizer)
    assert (own.train, own.validation, own.findings) == (2, 2, [])


def test_a_split_of_our_own_shows_no_leak(tmp_path: Path) -> None:
    tokenizer, _ = pair(tmp_path)
    rows = [*CLEAN, *(row(r["instruction"].upper(), f"Again {i}") for i, r in enumerate(CLEAN))]
    config = DataConfig(dataset=(jsonl(tmp_path, "train", rows),), val_size=0.4)
    report = check(config, TEMPLATE, tokenizer)
    assert (report.train, report.validation, report.errors) == (6, 4, [])


@given(st.lists(st.integers(1, 30_000), min_size=1, max_size=50), st.integers(1, 60))
def test_bins_are_equal_few_and_hold_everything(lengths: list[int], bins: int) -> None:
    marks = edges(lengths, bins)
    assert marks[0] == 0 and marks[-2] <= max(lengths) < marks[-1]
    assert len({b - a for a, b in itertools.pairwise(marks)}) == 1
    assert len(marks) - 1 <= bins
    drawn = [line.split()[3:] for line in bars(lengths, 10**6)]
    assert sum(int(words[-1]) for words in drawn) == len(lengths)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    ours, _ = pair(tmp_path)
    config = tiny.config(vocab_size=ours.vocab_size, context_length=64)
    checkpoint.save(
        tmp_path / "home" / "models" / "tiny",
        config,
        tiny.weights(config),
        tmp_path / "tokenizer.json",
        {"chat_template": jinja(TEMPLATE)},
    )
    return tmp_path / "home"


def test_the_command_reports_and_exits(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--home", str(home), "--model", "tiny"]
    good = jsonl(tmp_path, "good", CLEAN)
    assert main(["data", "check", good, "--val_size", "2", *common]) == 0
    said = capsys.readouterr().out
    picture = home / "data" / "good-lengths.png"
    assert "3 examples to train on, 2 to validate on: 5 of 5 conversations" in said
    assert "0 errors, 0 warnings" in said and f"picture: {picture}" in said
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"

    bad = jsonl(tmp_path, "bad", [*CLEAN, row("x {{name}}", "y")])
    other = tmp_path / "lengths.png"
    assert main(["data", "check", bad, "--json", "--picture", str(other), *common]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [f["where"] for f in report["findings"]] == [["bad.jsonl, row 6"]]
    assert report["cutoff_len"] == 64 and report["conversations"] == 5 and other.stat().st_size > 1000
    assert main(["data", "check", bad, "--json", "--placeholder", "name=Lore", *common]) == 0
    capsys.readouterr()

    assert main(["data", "check", "absent", "--dataset_dir", str(tmp_path), *common]) == 1
    assert "dataset_info.json does not exist" in capsys.readouterr().out
    assert main(["data", "check", good, "--home", str(home), "--model", "none"]) == 1
    assert "not installed" in capsys.readouterr().err
