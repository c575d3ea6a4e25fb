"""Rows that teach reading: passages with questions, replies and refusals, in the trainer's `reading` form.

A row is one passage with all questions that are asked of it, so that training reads the passage once. Where
the questions come from (a public set, a user's collection) is the caller's affair; what makes them rows is
here: the sentence that supports an answer, passages from a search that do not hold it, and other ways in
which people put a question.

Invariants:

* What a reply quotes stands in its passage, up to white space (`form.flat`).
* A distractor's passage holds none of the strings that would answer its question.
* Everything random hangs on a seed and the question's own text: adding a passage changes no other row.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ingest.words import query_terms
from service.reading.form import MOST_SENTENCES, QUESTION, SYSTEM, flat, passage_text, render_reply
from service.sentences import split

#: Numbers of other passages that a search finds for a question, best first.
Find = Callable[[str], Sequence[int]]

CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_WITHIN = re.compile(r"[.,'’]")  # U.S., 1,889, Bell's: nothing stands for them
_NOT_WORD = re.compile(r"[^\w\s]")
_INTRODUCTIONS = (
    "Please tell me: {}",
    "Can you tell me {}",
    "I would like to know: {}",
    "Quick question: {}",
    "hi, {}",
    "{} Thanks!",
    "Do you know {}",
    "I need to know {}",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and what the right reply to it is; without answer and sentences it is a refusal.

    Attributes:
        accepted: strings any of which answers it; a passage that holds one is no distractor for it.
    """

    question: str
    answer: str | None = None
    sentences: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()

    @property
    def answerable(self) -> bool:
        """Whether its passage tells."""
        return self.answer is not None or bool(self.sentences)


@dataclass(frozen=True, slots=True)
class Passage:
    """What is read, and asked. Passages of one group (an article) stay on one side of a split."""

    text: str
    group: str
    heading: str = ""
    questions: tuple[Asked, ...] = ()


def supporting(text: str, start: int, end: int) -> tuple[str, ...]:
    """The sentences that `text[start:end]` touches, at most as many as a reply may quote."""
    touched = [span for span in split(text) if span.start < end and start < span.end]
    return tuple(text[span.start : span.end] for span in touched[:MOST_SENTENCES])


def locate(text: str, answer: str, question: str) -> tuple[int, int] | None:
    """Where the occurrence of `answer` stands whose sentence shares most words with `question`.

    Whole words only, whatever their case; None where there is none.
    """
    words = set(query_terms(question))
    best: tuple[int, int] | None = None
    most = -1
    for found in re.finditer(rf"(?<!\w){re.escape(answer)}(?!\w)", text, re.IGNORECASE):
        around = " ".join(supporting(text, *found.span()))
        shared = len(words & set(query_terms(around)))
        if shared > most:
            best, most = found.span(), shared
    return best


def answered(text: str, question: str, start: int, end: int, accepted: Iterable[str] = ()) -> Asked | None:
    """The question whose answer is `text[start:end]`; None where that is no answer in the reply's form."""
    answer = text[start:end].strip()
    sentences = supporting(text, start, end)
    try:
        render_reply(answer, sentences)
    except ValueError:
        return None
    return (
        Asked(question, answer, sentences, tuple(dict.fromkeys([answer, *accepted]))) if sentences else None
    )


def holds(text: str, strings: Iterable[str]) -> bool:
    """Whether one of `strings` stands in `text`, as whole words; case, accents, articles, marks aside.

    Scripts that write no spaces have no whole words to see: there it stands where it stands.
    """
    words = f" {_plain(text)} "
    return any(
        (plain := _plain(string)) and (plain if CJK.search(plain) else f" {plain} ") in words
        for string in strings
    )


def with_distractors(
    passages: Sequence[Passage], find: Find, *, share: float = 0.7, most: int = 8, seed: int = 0
) -> list[Passage]:
    """The passages, each with questions of others that it seems to answer and does not.

    Args:
        passages: with their own questions.
        find: what a search over exactly these passages gives for a question.
        share: of the answerable questions, how many are also asked of a passage that lacks the answer. It is
            drawn from those found, a better hit more likely.
        most: such questions that one passage gets.
        seed: of the draw.
    """
    added: list[list[Asked]] = [[] for _ in passages]
    for own, passage in enumerate(passages):
        for asked in passage.questions:
            draw = dice(seed, "distractor", passage.heading, asked.question)
            if not asked.accepted or draw.random() >= share:
                continue
            lacking = [
                i
                for i in find(asked.question)
                if i != own
                and len(added[i]) < most
                and normal(asked.question) not in {normal(o.question) for o in passages[i].questions}
                and normal(passages[i].text) != normal(passage.text)
                and not holds(passage_text(passages[i].heading, passages[i].text), asked.accepted)
            ]
            if lacking:
                at = min(int(draw.expovariate(0.7)), len(lacking) - 1)
                added[lacking[at]].append(Asked(asked.question))
    return [
        replace(passage, questions=(*passage.questions, *more))
        for passage, more in zip(passages, added, strict=True)
    ]


def reworded(question: str, draw: random.Random) -> str:
    """The question as it is, or as people type it: small letters, no mark, a few words, an introduction."""
    form = draw.random()
    bare = question.strip().rstrip("?").rstrip()
    small = bare[:1].lower() + bare[1:] if bare[1:2].islower() else bare
    if form < 0.62 or not re.search(r"\w", bare):
        return question
    if form < 0.80:
        return bare.lower() + draw.choice(("", "", "?"))
    if form < 0.86:
        return bare
    if form < 0.94:
        said = draw.choice(_INTRODUCTIONS).format(small)
        return said if said[-1] in ".!" or draw.random() < 0.4 else said + "?"
    kept = [word for word in re.findall(r"[\w'’.-]+", bare) if query_terms(word)]
    return " ".join(kept) if len(kept) >= 3 else bare.lower()


def shuffled(passage: Passage, *, seed: int = 0, reword: bool = True) -> Passage:
    """The passage with its questions in another order and, for some, in other words."""
    asked = [
        replace(
            one,
            question=reworded(one.question, dice(seed, "reword", passage.heading, one.question))
            if reword
            else one.question,
        )
        for one in passage.questions
    ]
    dice(seed, "order", passage.text).shuffle(asked)
    return replace(passage, questions=tuple(asked))


def row(passage: Passage) -> dict[str, Any]:
    """The passage as a row of the trainer's `reading` form.

    Raises:
        ValueError: a reply that quotes what does not stand in the passage, or that cannot be read back.
    """
    text = flat(passage.text)
    for asked in passage.questions:
        for sentence in asked.sentences:
            if flat(sentence) not in text:
                raise ValueError(f"not in its passage: {sentence!r} (question {asked.question!r})")
    return {
        "system": SYSTEM,
        "passage": passage_text(passage.heading, passage.text),
        "group": passage.group,
        "questions": [
            {"question": asked.question.strip(), "answer": render_reply(asked.answer, asked.sentences)}
            for asked in passage.questions
        ],
    }


def write(folder: Path, sets: dict[str, Sequence[Passage]]) -> None:
    """Each set as a JSONL file of that name, and a dataset_info.json that names them all."""
    folder.mkdir(parents=True, exist_ok=True)
    registry = {}
    for name, passages in sets.items():
        lines = (json.dumps(row(passage), ensure_ascii=False) for passage in passages if passage.questions)
        (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        registry[name] = {
            "file_name": f"{name}.jsonl",
            "formatting": "reading",
            "prompt": f"{{passage}}{QUESTION}{{question}}",
            "group": "group",
        }
    (folder / "dataset_info.json").write_text(json.dumps(registry, indent=2) + "\n", encoding="utf-8")


def normal(text: str) -> str:
    """`text` for comparing questions: case, spaces and a mark at the end aside."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(" ?.!")


def dice(seed: int, *what: str) -> random.Random:
    """A generator that depends on the seed and on `what`, on every machine alike."""
    digest = hashlib.sha256("\0".join([str(seed), *what]).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))  # noqa: S311 - a draw, not a secret


def _plain(text: str) -> str:
    """Words only, as SQuAD compares answers, and without accents."""
    letters = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(_ARTICLES.sub(" ", _NOT_WORD.sub(" ", _WITHIN.sub("", letters.casefold()))).split())
