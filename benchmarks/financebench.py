"""Company filings as PDF files, and whether the page that answers is found: FinanceBench's questions on 11 of them.

    python -m benchmarks.financebench [--work DIR] [--embedder all-minilm-l6-v2] [--details]

The files go through `python -m ingest`, so a run that was stopped goes on where it was (`--work` keeps the
collection). Printed are:

- pages: for each piece of evidence, which annotators took from a page, whether our text of that page holds it best of
  all pages of the file (edit similarity of its best stretch, both without white space and tables' bars), and how well;
- found: of the questions, the share with an evidence page among the pages of the first five passages, and among
  the first five pages; over all files at once, and with a filter that names the file (`path = ...`).

Many questions ask for a figure that has to be computed from a table on that page, in words that the page does not have.
The annotations are not ours to pass on: only figures and ids are printed. Intervals are Wilson's, 95%.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rapidfuzz import fuzz

from ingest.collections import open_collection
from ingest.embed import find_embedder
from ingest.filters import Condition
from ingest.search import Searcher
from ingest.settings import find_home
from ingest.store import Store
from ingest.types import SearchMode

TABLE = re.compile(r"\|(?: --- \|)+|\|")
DATA = Path(os.environ.get("LOREBASE_DATA", "../shared/data"))
COLLECTION = "filings"
MODES: tuple[SearchMode, ...] = ("hybrid", "dense", "keyword")
DEPTH, FIRST = 50, 5


@dataclass(frozen=True)
class Question:
    """A question and the pages that answer it."""

    id: str
    text: str
    file: str
    evidence: tuple[tuple[int, str], ...]  #: pages, from 1, and what was taken from them


def read_questions(folder: Path) -> list[Question]:
    rows = [
        json.loads(line) for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    return [
        Question(
            row["id"],
            row["question"],
            row["pdf"],
            tuple((e["page"], e["text"]) for e in row["evidence"] if e["pdf"] == row["pdf"]),
        )
        for row in rows
    ]


def wilson(hits: int, total: int, z: float = 1.96) -> str:
    share = hits / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return f"{hits}/{total} = {share:.0%} ({max(0, middle - half):.0%} to {min(1, middle + half):.0%})"


def plain(text: str) -> str:
    """Without white space and the bars of tables, which no page has."""
    return "".join(unicodedata.normalize("NFKC", TABLE.sub(" ", text)).split())


def ingest(folder: Path, work: Path, embedder: str) -> dict[str, Any]:
    """The report of one run over the PDF files."""
    models = work / "models"
    if not models.exists():
        models.symlink_to((find_home() / "models").resolve())
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ingest",
            str(folder),
            "--include",
            "*.pdf",
            "--collection",
            COLLECTION,
            "--embedder",
            embedder,
            "--json",
        ],
        env=os.environ | {"LOREBASE_HOME": str(work)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines()[:-1]:
        if json.loads(line).get("status") == "failed":
            sys.exit(line)
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def pages_of(store: Store, paths: dict[str, str]) -> dict[str, list[str]]:
    """Text by page, for each file."""
    texts = {}
    for file, path in paths.items():
        document = store.parsed(path)
        texts[file] = [plain(document.text[p.char_start : p.char_end]) for p in document.pages]
    return texts


def judge_pages(questions: list[Question], texts: dict[str, list[str]]) -> None:
    """Print how many pieces of evidence stand on the page that they were taken from."""
    right, alike = 0, []
    known = list(dict.fromkeys((q.file, page, text) for q in questions for page, text in q.evidence))
    for file, page, text in known:
        scores = [fuzz.partial_ratio(plain(text), there) / 100 if there else 0.0 for there in texts[file]]
        right += scores[page - 1] >= max(scores)
        alike.append(scores[page - 1])
    print(
        f"pages: {wilson(right, len(known))} pieces of evidence stand on the page that the annotators name, more than "
        f"on any other; similarity {sum(alike) / len(alike):.3f} on average, {min(alike):.3f} at least"
    )


def ranks(
    searcher: Searcher, mode: SearchMode, question: Question, path: str | None
) -> tuple[int | None, int | None]:
    """Where an evidence page comes, from 1: among passages, and among the pages that they lead to."""
    where = Condition("path", "=", path) if path else None
    wanted = {page for page, _ in question.evidence}
    seen: dict[tuple[str, int], None] = {}
    by_passage = by_page = None
    for number, hit in enumerate(searcher.search(question.text, DEPTH, mode, where).hits, 1):
        if hit.page_first is None or hit.page_last is None:
            continue
        for page in range(hit.page_first, hit.page_last + 1):
            seen.setdefault((Path(hit.path).name, page))
            if Path(hit.path).name == question.file and page in wanted:
                by_passage = by_passage or number
                by_page = by_page or list(seen).index((question.file, page)) + 1
    return by_passage, by_page


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, help="keep the collection here, and use it again")
    parser.add_argument("--embedder", default="multilingual-e5-small")
    parser.add_argument("--details", action="store_true", help="the rank of every question")
    args = parser.parse_args()
    folder = DATA / "financebench"
    if not (folder / "questions.jsonl").is_file():
        sys.exit(f"no filings in {DATA}: set LOREBASE_DATA")
    questions = read_questions(folder)
    with tempfile.TemporaryDirectory() as scratch:
        work = (args.work or Path(scratch)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        report = ingest(folder, work, args.embedder)
        embedder = find_embedder(args.embedder, find_home())
        with open_collection(work, COLLECTION) as store:
            documents = store.documents()
            paths = {Path(d.path).name: d.path for d in documents}
            print(
                f"{len(documents)} files, {sum(d.pages for d in documents)} pages, {sum(d.chunks for d in documents)} passages; "
                f"this run added {report['added']} in {report['seconds']:.0f} s; {len(questions)} questions; {args.embedder}"
            )
            judge_pages(questions, pages_of(store, paths))
            searcher = Searcher(store, embedder)
            for scope in ("all files", "the file named"):
                for mode in MODES:
                    found = [
                        ranks(searcher, mode, q, paths[q.file] if scope != "all files" else None)
                        for q in questions
                    ]
                    passages, pages = (
                        [sum(r[i] is not None and r[i] <= n for r in found) for n in (1, FIRST, 10)]
                        for i in (0, 1)
                    )
                    print(
                        f"{scope:15} {mode:8} among the first {FIRST} passages {wilson(passages[1], len(found)):24}"
                        f" (first {passages[0]}, ten {passages[2]}); among the first {FIRST} pages {pages[1]}"
                    )
                    if args.details:
                        for question, rank in zip(questions, found, strict=True):
                            print(f"    {question.id} {question.file}: passage {rank[0]}, page {rank[1]}")


if __name__ == "__main__":
    main()
