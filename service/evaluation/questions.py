"""Questions with known answers, from the files in which they are published.

One table of readers, by shape rather than by name:

    lines with `question` and `answers`         our own form, and that of open Natural Questions (`passage`)
    lines with `query`, `positive`, `negative`  RGB (arXiv 2309.01431): noise, rejection, integration, facts
    one object with `data[].paragraphs[]`       SQuAD 1.1 and 2.0, and whatever borrowed their form

All may be gzip. RGB's passages are drawn as its authors draw them, with one difference: a question takes part
at a noise rate only where it has the passages for it, so that a rate means what it says; each kind has its n.
Invariant: reading is deterministic, and ids are unique within a file.
"""

from __future__ import annotations

import gzip
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.scripts import script
from service.errors import QuestionsUnreadable

#: Passages that an RGB question is given.
RGB_PASSAGES = 5
DEFAULT_NOISE = (0.0, 0.4, 0.8)
Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage that comes with a question."""

    text: str
    title: str = ""
    gold: bool = False  #: the file says that the answer stands here


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question.

    Attributes:
        id: unique within the file.
        text: as asked.
        parts: what a full answer has; each part by any of its spellings. None: the question has no answer.
        kind: what the breakdown groups by.
        language: `en`, `zh`, ...
        corpus: which documents it is about; empty where it brings its passages.
        source: path of the document that answers it, as far as known.
        passages: its own passages; none: they are retrieved.
        decoys: answers that false passages give (counterfactual questions).
    """

    id: str
    text: str
    parts: tuple[tuple[str, ...], ...]
    kind: str = "question"
    language: str = "en"
    corpus: str = ""
    source: str | None = None
    passages: tuple[Passage, ...] = ()
    decoys: tuple[str, ...] = ()

    @property
    def answerable(self) -> bool:
        """Whether there is an answer."""
        return bool(self.parts)

    @property
    def answers(self) -> tuple[str, ...]:
        """Every whole answer that counts: the spellings of a single part, or one of each part together."""
        if len(self.parts) == 1:
            return self.parts[0]
        return (", ".join(part[0] for part in self.parts),) if self.parts else ()


def read_questions(
    file: Path, *, noise: Sequence[float] = DEFAULT_NOISE, corpus: str | None = None
) -> list[Question]:
    """The questions of a file, in its order.

    Args:
        file: JSON or JSON lines, either also as gzip.
        noise: at which noise rates RGB's questions are asked.
        corpus: only questions about this corpus.

    Raises:
        QuestionsUnreadable: it is missing, damaged, of no known shape, or has no question for the asking.
    """
    found = list(_read(file, noise))
    if not found:
        raise QuestionsUnreadable(
            f"{file} holds no question; see docs/evaluate.md for the forms that are read"
        )
    twice = {q.id for q in found} if len({q.id for q in found}) < len(found) else set()
    if twice:
        seen: set[str] = set()
        repeated = next(q.id for q in found if q.id in seen or seen.add(q.id))  # type: ignore[func-returns-value]
        raise QuestionsUnreadable(f"{file}: the id {repeated!r} stands twice; give every question its own")
    if corpus is not None:
        there = sorted({q.corpus for q in found if q.corpus})
        found = [q for q in found if q.corpus == corpus]
        if not found:
            named = ", ".join(there) or "none named"
            raise QuestionsUnreadable(f"{file} has no question about the corpus {corpus!r}; it has: {named}")
    return found


def _read(file: Path, noise: Sequence[float]) -> Iterator[Question]:
    text = _text(file)
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    if isinstance(whole, dict) and isinstance(whole.get("data"), list):
        yield from _squad(file, whole["data"])
        return
    for line, record in _records(file, text, whole):
        reader = next((reader for fields, reader in READERS if fields <= record.keys()), None)
        if reader is None:
            fields = ", ".join(sorted(record)) or "none"
            raise QuestionsUnreadable(
                f"{file}, line {line}: no question in a known form (fields: {fields}). "
                "Known: question + answers; query + positive + negative; or SQuAD's data[]."
            )
        try:
            yield from reader(line, record, noise)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise QuestionsUnreadable(f"{file}, line {line}: {_said(error)}") from error


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise QuestionsUnreadable(f"{file} is not UTF-8 (byte {error.start:,}); save it as UTF-8") from error
    except FileNotFoundError as error:
        raise QuestionsUnreadable(f"{file}: no such file") from error
    except (OSError, EOFError) as error:
        raise QuestionsUnreadable(f"{file} cannot be read: {error}") from error


def _records(file: Path, text: str, whole: Any) -> Iterator[tuple[int, Record]]:
    """Line numbers (or places in a JSON list) and objects."""
    if isinstance(whole, list):
        rows: Iterable[tuple[int, Any]] = enumerate(whole, 1)
    else:
        rows = ((n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip())
    for number, row in rows:
        try:
            record = json.loads(row) if isinstance(row, str) else row
        except ValueError as error:
            raise QuestionsUnreadable(f"{file}, line {number}: not JSON ({error})") from error
        if not isinstance(record, dict):
            raise QuestionsUnreadable(
                f"{file}, line {number}: expected an object, got {type(record).__name__}"
            )
        yield number, record


def _id(given: object, count: int) -> str:
    return str(count) if given is None or given == "" else str(given)


def _own(line: int, record: Record, _: Sequence[float]) -> Iterator[Question]:
    answers = tuple(_string(a, "answers") for a in _list(record["answers"], "answers"))
    text, kind = _string(record["question"], "question"), str(record.get("kind") or "question")
    passages: tuple[Passage, ...] = ()
    if record.get("passage"):
        passages = (Passage(_string(record["passage"], "passage"), str(record.get("title") or ""), True),)
    yield Question(
        id=_id(record.get("id"), line),
        text=text,
        # a list is answered by all its items, anything else by one of the answers
        parts=tuple((a,) for a in answers) if kind == "list" else ((answers,) if answers else ()),
        kind=kind,
        language=str(record.get("language") or language(text)),
        corpus=str(record.get("corpus") or ""),
        source=_string(record["source"], "source") if record.get("source") else None,
        passages=passages,
    )


def _rgb(line: int, record: Record, noise: Sequence[float]) -> Iterator[Question]:
    text, name = _string(record["query"], "query"), str(record.get("id", line))
    parts = _parts(record["answer"])
    positive, negative = record["positive"], [*_strings(record["negative"], "negative")]
    said = language(text)
    draw = random.Random(f"rgb {name}")  # noqa: S311 - a fixed order, not a secret

    def question(
        kind: str, parts: tuple[tuple[str, ...], ...], passages: list[Passage], **more: Any
    ) -> Question:
        draw.shuffle(passages)
        return Question(
            id=f"{name}/{kind.replace(' ', '-')}", text=text, parts=parts, kind=kind, language=said,
            passages=tuple(passages), **more,
        )  # fmt: skip

    wrong = [Passage(p) for p in _strings(record.get("positive_wrong") or [], "positive_wrong")]
    if wrong:
        right = [Passage(p, gold=True) for p in _strings(positive, "positive")]
        yield question("facts", parts, right[:RGB_PASSAGES])
        decoys = tuple(spelling for part in _parts(record["fakeanswer"]) for spelling in part)
        yield question("counterfactual", parts, wrong[:RGB_PASSAGES], decoys=decoys)
        return
    groups = positive if positive and isinstance(positive[0], list) else None
    gold = [*_strings([p for g in groups for p in g] if groups else positive, "positive")]
    if groups:  # integration: one passage of each part first
        gold = list(dict.fromkeys([g[0] for g in groups if g] + gold))
    for rate in noise:
        noisy = math.ceil(RGB_PASSAGES * rate)
        if not 0 <= rate < 1 or len(negative) < noisy or len(gold) < RGB_PASSAGES - noisy:
            continue
        if groups and len(groups) > RGB_PASSAGES - noisy:
            continue  # its parts would not all be there
        passages = [Passage(p, gold=True) for p in gold[: RGB_PASSAGES - noisy]]
        passages += [Passage(p) for p in negative[:noisy]]
        yield question(f"{'integration, ' if groups else ''}noise {rate:g}", parts, passages)
    if len(negative) >= RGB_PASSAGES and not groups:
        yield question("rejection", (), [Passage(p) for p in negative[:RGB_PASSAGES]])


def _squad(file: Path, articles: list[Any]) -> Iterator[Question]:
    count = 0
    try:
        for article in articles:
            title = str(article.get("title") or "").replace("_", " ")
            for paragraph in article["paragraphs"]:
                context = _string(paragraph["context"], "context")
                for asked in paragraph["qas"]:
                    count += 1
                    text = _string(asked["question"], "question")
                    spellings = tuple(
                        dict.fromkeys(_string(a["text"], "text") for a in asked.get("answers") or ())
                    )
                    if asked.get("is_impossible"):
                        spellings = ()
                    yield Question(
                        id=_id(asked.get("id"), count),
                        text=text,
                        parts=(spellings,) if spellings else (),
                        kind="answerable" if spellings else "unanswerable",
                        language=language(text),
                        passages=(Passage(context, title, gold=bool(spellings)),),
                    )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise QuestionsUnreadable(f"{file}, question {count + 1}: {_said(error)}") from error


#: Fields that tell a form -> who reads it.
READERS: tuple[tuple[frozenset[str], Callable[[int, Record, Sequence[float]], Iterator[Question]]], ...] = (
    (frozenset({"query", "positive", "negative", "answer"}), _rgb),
    (frozenset({"question", "answers"}), _own),
)


def language(text: str) -> str:
    """`zh` for Chinese characters, else `en`: as much as the questions' files need."""
    return "zh" if script(text) == "CJK" else "en"


def _parts(answer: Any) -> tuple[tuple[str, ...], ...]:
    """RGB's answers: a text, or parts that are all needed, each a text or a list of spellings."""
    parts = answer if isinstance(answer, list) else [answer]
    return tuple(tuple(_strings(p if isinstance(p, list) else [p], "answer")) for p in parts)


def _list(value: Any, field: str) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{field} should be a list, got {type(value).__name__}")
    return value


def _strings(values: Any, field: str) -> Iterator[str]:
    return (_string(v, field) for v in _list(values, field))


def _string(value: Any, field: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"{field} should be a text that is not blank, got {value!r:.60}")
    return value


def _said(error: Exception) -> str:
    return f"the field {error} is missing" if isinstance(error, KeyError) else str(error)
