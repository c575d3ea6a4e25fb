"""From kept pairs to sets: what is trained on, what the comparison asks, and rows for the reading adapter.

Documents are split, not pairs: what is asked in the comparison is about a document of which nothing was
trained; documents that share a passage go together. Where all pairs come from one such family, its passages
are split instead, and the report says so.

    closed_book.jsonl   training: question -> answer, without the passage
    held_out.jsonl      questions of the comparison, in the form that `evaluate` reads
    reading.jsonl       training, in the reader's form: passages with their questions, and with questions
                        that a search leads to them and that they do not answer
    reading_val.jsonl   the same of the documents held out

Invariant: the split hangs on the seed, on paths and on how many pairs each document gave, on no order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.evaluation.questions import language
from service.prompt import SYSTEM_CLOSED_BOOK
from service.reading import rows
from service.reading.rows import Asked, Passage, dice
from service.tuning.pairs import Done, Pair
from service.tuning.passages import Candidate

#: Share of the pairs that the comparison asks: at least, where documents allow it, and at most.
HELD, MOST_HELD = 0.2, 0.35
CLOSED_BOOK, HELD_OUT, READING, READING_VAL = "closed_book", "held_out", "reading", "reading_val"


@dataclass(frozen=True, slots=True)
class Split:
    """Which passages, by key, are held out."""

    held: frozenset[str]
    by_document: bool = True  #: else there was one document, and its passages were split


def split(passages: Sequence[Candidate], done: Sequence[Done], seed: int) -> Split:
    """Hold out documents with about a fifth of the pairs."""
    family = {passage.key: passage.family for passage in passages}
    pairs = {one.key: len(one.pairs) for one in done if one.pairs}
    sizes: Counter[str] = Counter()
    for key, count in pairs.items():
        sizes[family[key]] += count
    by_document = len(sizes) > 1
    if not by_document:
        sizes, family = Counter(pairs), {key: key for key in pairs}
    chosen = _drawn(sizes, seed)
    return Split(frozenset(key for key in pairs if family[key] in chosen), by_document)


def _drawn(sizes: Mapping[str, int], seed: int) -> set[str]:
    """Groups with `HELD` of the whole, in a random but fixed order; at least one where there are two."""
    total, count = sum(sizes.values()), 0
    chosen: set[str] = set()
    for group in sorted(sizes, key=lambda group: dice(seed, "held", group).random()):
        if count < HELD * total and count + sizes[group] <= MOST_HELD * total:
            chosen.add(group)
            count += sizes[group]
    if not chosen and len(sizes) > 1:
        chosen.add(min(sizes, key=lambda group: (sizes[group], group)))
    return chosen


def write(
    folder: Path, passages: Sequence[Candidate], done: Sequence[Done], held: Split, seed: int
) -> dict[str, int]:
    """Write all sets into `folder`, each replaced as a whole; returns the rows of each."""
    told = [one for one in done if one.pairs]
    train = [(one, pair) for one in told if one.key not in held.held for pair in one.pairs]
    asked = [(one, pair) for one in told if one.key in held.held for pair in one.pairs]
    registry: dict[str, Any] = {
        CLOSED_BOOK: {
            "file_name": f"{CLOSED_BOOK}.jsonl",
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
        }
    }
    _lines(folder / f"{CLOSED_BOOK}.jsonl", [_conversation(pair) for _, pair in train])
    _lines(folder / f"{HELD_OUT}.jsonl", [_question(one, n, pair) for n, (one, pair) in enumerate(asked, 1)])
    counts = {CLOSED_BOOK: len(train), HELD_OUT: len(asked)}
    where = {(p.hit.document_id, p.hit.position): p for p in passages}
    sides = {
        READING: [one for one in told if one.key not in held.held],
        READING_VAL: [one for one in told if one.key in held.held],
    }
    made: dict[str, Sequence[Passage]] = {name: _reading(side, where, seed) for name, side in sides.items()}
    rows.write(folder, made)
    counts |= {name: sum(len(p.questions) for p in some) for name, some in made.items()}
    file = folder / "dataset_info.json"
    named = json.loads(file.read_text(encoding="utf-8")) | registry
    file.write_text(json.dumps(named, indent=2) + "\n", encoding="utf-8")
    return counts


def _conversation(pair: Pair) -> dict[str, Any]:
    """As `ask` puts a closed-book question."""
    turns = (("system", SYSTEM_CLOSED_BOOK), ("user", pair.question), ("assistant", pair.said))
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def _question(one: Done, number: int, pair: Pair) -> dict[str, Any]:
    return {
        "id": f"{number}",
        "question": pair.question,
        "answers": [pair.said],
        "kind": pair.kind,
        "language": language(pair.question),
        "source": one.path,
    }


def _reading(done: Sequence[Done], where: Mapping[tuple[str, int], Candidate], seed: int) -> list[Passage]:
    """Passages with their questions and with those that the search leads to them and they do not answer."""
    places = {(one.document_id, one.position): i for i, one in enumerate(done)}
    found: dict[str, list[int]] = {}
    passages = []
    for one in done:
        candidate = where[one.document_id, one.position]
        asked = []
        for pair in one.pairs:
            accepted = (pair.said,)
            asked.append(Asked(pair.question, pair.answer, pair.sentences, accepted))
            found[pair.question] = [places[hit] for hit in pair.hits if hit in places]
        passages.append(Passage(candidate.hit.text, one.path, candidate.heading, tuple(asked)))
    more = rows.with_distractors(passages, lambda question: found.get(question, []), seed=seed)
    return [rows.shuffled(passage, seed=seed, reword=False) for passage in more]


def _lines(file: Path, made: Sequence[Mapping[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made)
    file.write_text(text, encoding="utf-8", errors="replace")
