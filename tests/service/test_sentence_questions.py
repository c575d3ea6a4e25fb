"""The labelled questions for sentences: whoever rewrites a page of the manual is told which rows have to follow."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

from service.questions import kinds

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "sentence_questions"
FIELDS = {"id", "language", "kind", "corpus", "document", "question", "sentences", "best"}


def rows() -> list[dict[str, Any]]:
    lines = [
        line for file in FOLDER.glob("*.jsonl") for line in file.read_text(encoding="utf-8").splitlines()
    ]
    return [json.loads(line) for line in lines]


def bare(text: str) -> str:
    """Without white space and the marks that Markdown puts before a line."""
    lines = (line.strip().removeprefix("- ").removeprefix("> ") for line in text.splitlines())
    return "".join(unicodedata.normalize("NFKC", "".join(lines)).split())


def test_every_row_has_its_form_and_its_own_question() -> None:
    found = rows()
    assert len(found) > 400
    assert len({row["id"] for row in found}) == len({row["question"] for row in found}) == len(found)
    outside = (ROOT / "examples" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    kept_apart = {json.loads(line)["question"] for line in outside}
    for row in found:
        assert row.keys() == FIELDS and row["question"] not in kept_apart, row["id"]
        assert row["kind"] in (*kinds.KINDS, "fact"), row["id"]
        best = row["best"]
        assert best is None if not row["sentences"] else 0 <= best < len(row["sentences"]), row["id"]


def test_what_is_quoted_of_the_manual_stands_there() -> None:
    pages = {page.name: bare(page.read_text(encoding="utf-8")) for page in (ROOT / "docs").glob("*.md")}
    about = [row for row in rows() if row["corpus"] == "docs"]
    missing = [
        (row["id"], row["document"], sentence)
        for row in about
        for sentence in row["sentences"]
        if bare(sentence) not in pages[row["document"]]
    ]
    assert len(about) > 100 and not missing, "mend these rows, or the page"
