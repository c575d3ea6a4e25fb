"""The eighty questions of `examples/questions.jsonl`, put to Lorebase as it ships, and a table of what it said.

    python -m ingest docs --collection docs
    python -m ingest "$LOREBASE_DATA/documents" --collection documents
    python -m benchmarks.eighty ask [--only ID ...] [--again] [--replies FILE]
    python -m benchmarks.eighty table [--replies FILE] [--table FILE]

Replies are kept in `examples/answers.json` as soon as they are given, so a run that was stopped goes on; it asks
one question of every kind, then another of every kind. Each reply is read and judged there, by hand (`judged`:
`good` or `poor`, and a `note` if there is something to say); a refusal needs no judge: it is right where the question has
no answer, and wrong elsewhere. A reply that comes out the same when it is asked again keeps its judgement,
another one has to be judged anew. Questions that were not asked or whose reply nobody has judged are left out of
the table, which says so. It lies beside the questions and not in `docs/`, which is a corpus: there, it would
answer the questions.
"""

from __future__ import annotations

import argparse
import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ingest.settings import find_home
from service import wiring
from service.answer import Answerer, Ask
from service.evaluation.questions import Question, read_questions
from service.events import Final
from service.settings import ServiceSettings

QUESTIONS = Path("examples/questions.jsonl")
REPLIES = Path("examples/answers.json")
TABLE = Path("examples/answers.md")
GOOD, POOR, REFUSED, RIGHTLY = "good", "poor", "refused", "rightly refused"
OUTCOMES = (GOOD, RIGHTLY, POOR, REFUSED)
#: Characters of an answer in the table.
MOST_SHOWN = 420

Reply = dict[str, Any]


def outcome(question: Question, reply: Mapping[str, Any]) -> str | None:
    """What became of a question; None where nobody has judged the answer yet."""
    if not reply["answered"]:
        return REFUSED if question.answerable else RIGHTLY
    judged: str | None = reply.get("judged")
    return judged


def kept(known: Mapping[str, Reply], new: Reply, key: str) -> Reply:
    """The new reply with the judgement of the one before, if that said the same."""
    before = known.get(key, {})
    if before.get("answered") != new["answered"] or before.get("answer") != new["answer"]:
        return new
    return new | {name: before[name] for name in ("judged", "note") if name in before}


def ask(questions: Sequence[Question], home: Path, file: Path, *, again: bool) -> None:
    """Ask what has no reply yet; with `again`, everything."""
    known: dict[str, Reply] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    left = [q for q in questions if again or q.id not in known]
    left.sort(key=lambda q: q.id.rpartition("-")[2])  # of every kind one, of every kind another, ...
    if not left:
        return
    settings = ServiceSettings()
    library = wiring.library(settings, home)
    generator = wiring.models(settings, home, None).choose(None).get()
    answerer = Answerer(settings.refuse_below, calibrators=wiring.calibrators(home))
    for number, question in enumerate(left, 1):
        asked = Ask(question=question.text, collection=question.corpus)
        *_, final = answerer.answer(asked, library.source(question.corpus), generator, threading.Event())
        assert isinstance(final, Final)
        reply: Reply = {
            "answered": final.answered,
            "answer": final.answer,
            "refusal_reason": final.refusal_reason,
            "llm_generated": final.llm_generated,
            "confidence": final.confidence,
            "cited": [
                c.path.rpartition(f"{question.corpus}/")[2]
                + (f", page {c.page_first}" if c.page_first is not None else "")
                for c in final.citations
            ],
        }
        known[question.id] = kept(known, reply, question.id)
        draft = file.with_name(file.name + ".new")
        draft.write_text(json.dumps(known, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        draft.replace(file)
        print(f"{number} of {len(left)}  {question.id}  {question.text}\n    {_said(reply)}", flush=True)


def table(questions: Sequence[Question], replies: Mapping[str, Reply]) -> str:
    """The page: totals by kind and language, and every question that was judged with what was said."""
    asked, total = [q for q in questions if q.id in replies], len(questions)
    found = {q.id: outcome(q, replies[q.id]) for q in asked}
    questions = [q for q in asked if found[q.id] in OUTCOMES]
    kinds = dict.fromkeys(q.kind for q in questions)
    groups = [(kind, [q for q in questions if q.kind == kind]) for kind in kinds]
    groups += [
        (name, [q for q in questions if q.language == language])
        for language, name in (("en", "all English"), ("zh", "all Chinese"))
    ]
    groups.append(("all", list(questions)))
    lines = [
        "# Eighty questions, as Lorebase answers them",
        "",
        "Ten questions of every kind, half of them Chinese where the documents are, over the manual (`docs`) "
        "and over a folder of mixed files (`documents`), put to Lorebase as it ships. Every answer was read and "
        "judged by hand: *good* answers the question, whatever else it says; *poor* does not, or only in part. A "
        "question that the documents do not answer is *rightly refused*; any other refusal is *refused*. Some "
        "failed here first and were mended afterwards, in the code or in the words of the manual, so the table "
        "flatters. "
        "`python -m benchmarks.eighty` asks and writes this page.",
        "",
        *(
            [f"{len(questions)} of {total} have been asked and judged so far.", ""]
            if len(questions) < total
            else []
        ),
        f"| kind | questions | {' | '.join(OUTCOMES)} |",
        "| --- |" + " ---: |" * (1 + len(OUTCOMES)),
    ]
    for name, some in groups:
        count = Counter(found[q.id] for q in some)
        lines.append(f"| {name} | {len(some)} | " + " | ".join(str(count[o]) for o in OUTCOMES) + " |")
    for kind in kinds:
        lines += [
            "",
            f"## {kind}",
            "",
            "| question | answer as printed | source | judged |",
            "| --- |" + " --- |" * 3,
        ]
        for question in questions:
            if question.kind == kind:
                reply = replies[question.id]
                judged = str(found[question.id])
                if reply.get("note"):
                    judged += f": {reply['note']}"
                cells = (question.text, _said(reply), "; ".join(dict.fromkeys(reply["cited"])), judged)
                lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines) + "\n"


def _said(reply: Mapping[str, Any]) -> str:
    return reply["answer"] if reply["answered"] else f"(refused: {reply['refusal_reason']})"


def _cell(text: str) -> str:
    """Text as one cell of a Markdown table."""
    flat = " ".join(text.split())
    flat = flat if len(flat) <= MOST_SHOWN else flat[:MOST_SHOWN].rstrip() + " …"
    return flat.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("ask", "table"))
    parser.add_argument("--questions", type=Path, default=QUESTIONS)
    parser.add_argument("--replies", type=Path, default=REPLIES)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--only", nargs="+", metavar="ID", help="ask these alone, kinds too (table, number)")
    parser.add_argument("--again", action="store_true", help="ask what has a reply, too")
    parser.add_argument("--home", type=Path, help="data folder; default: the one in use")
    args = parser.parse_args()
    questions = read_questions(args.questions)
    if args.what == "ask":
        some = [q for q in questions if not args.only or q.id in args.only or q.kind in args.only]
        ask(some, args.home or find_home(), args.replies, again=args.again)
        return
    page = table(questions, json.loads(args.replies.read_text(encoding="utf-8")))
    args.table.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
