"""How often a cell that a question names is found, and is the right one.

    python -m benchmarks.table_cells COLLECTION [--home HOME] [--each 3] [--seed 0] [--show 10]

Of every table of a collection's documents, rows that begin with words of their own and columns with a name:
"What is the COLUMN of ROW?", "ROW: COLUMN?" and "ROW 的 COLUMN 是多少？", asked through the collection's own
search, five passages. They name row and column in the table's own words, so this says how often what is found
is right, and not how people ask. Beside it, of the labelled questions for sentences about the same documents
(`examples/sentence_questions`), which no cell answers, how many get one.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from pathlib import Path

from ingest.embed import find_embedder
from ingest.settings import IngestSettings, find_home
from ingest.types import Hit
from service import cells
from service.questions import definitions
from service.reading import second
from service.shelves import Shelves

QUESTIONS = Path(__file__).parent.parent / "examples" / "sentence_questions"
WORDINGS = ("What is the {column} of {row}?", "{row}: {column}?", "{row} 的 {column} 是多少？")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("collection")
    parser.add_argument("--home", type=Path, help="data folder; default: the one in use")
    parser.add_argument("--each", type=int, default=3, help="cells asked of each table at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=0, help="print so many wrong answers")
    args = parser.parse_args()
    home, draw = args.home or find_home(), random.Random(args.seed)
    embedder = find_embedder(IngestSettings().embedder, home)
    shelves = Shelves(home, args.collection, IngestSettings(), lambda _: embedder)
    source = shelves.source(args.collection)
    if source.search is None or source.parsed is None:
        parser.error(f"collection {args.collection!r} is empty")
    counts: dict[str, Counter[str]] = {}
    shown = 0

    def ask(question: str) -> list[cells.Found]:
        assert source.search is not None
        if not second.wants_few_words(question) or definitions.lists(question):
            return []
        hits = source.search.search(question, 5, "hybrid").hits
        return cells.look_up(question, hits, source.similarity, source.parsed)

    for document in shelves.documents(args.collection):
        text = source.parsed(document.document_id).text
        whole = Hit(
            0, document.document_id, document.path, document.title, 0, text, 0, len(text),
            None, None, (), 1.0, None, None,
        )  # fmt: skip
        for table in cells.tables(whole):
            keys = Counter(text[slice(*row.cells[0])] for row in table.rows)
            places = [
                (row, column)
                for row in table.rows
                if keys[key := text[slice(*row.cells[0])]] == 1 and any(c.isalpha() for c in key)
                for column in range(1, min(len(table.header), len(row.cells)))
                if table.header[column]
            ]
            for row, column in draw.sample(places, min(args.each, len(places))):
                key, expected = (text[slice(*row.cells[at])] for at in (0, column))
                for wording in WORDINGS:
                    question = wording.format(row=key, column=table.header[column])
                    found = ask(question)
                    said = found[0] if found else None
                    count = counts.setdefault(wording, Counter())
                    count["asked"] += 1
                    if said is None:
                        continue
                    told = "" if said.value is None else said.hit.text[slice(*said.value)]
                    right = told == expected and said.hit.document_id == document.document_id
                    kind = "by words" if said.likely == cells.BY_WORDS else "by meaning"
                    count[f"{kind}: {'right' if right else 'wrong'}"] += 1
                    if not right and shown < args.show:
                        shown += 1
                        print(f"{question} -> {told!r}, not {expected!r} ({document.path})")
    for wording, count in counts.items():
        print(f"{wording:32}" + "".join(f"  {name} {n}" for name, n in sorted(count.items())))
    corpus = "docs" if args.collection == "default" else args.collection
    labelled = [
        json.loads(line)
        for file in sorted(QUESTIONS.glob("*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    about = [row for row in labelled if row["corpus"] == corpus]
    hasty = Counter[str]()
    for row in about:
        for said in ask(row["question"])[:1]:
            told = said.hit.text[slice(*said.rows[0])]
            fits = any(sentence in told or told in sentence for sentence in row["sentences"])
            hasty["of a row that answers" if fits else "of another row"] += 1
            if not fits and args.show:
                print(f"{row['question']} -> {told}")
    print(f"questions for sentences: {len(about)}, got a cell: {dict(hasty) or 0}")


if __name__ == "__main__":
    main()
