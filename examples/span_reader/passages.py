"""What the span reader's set is made of: passages cut as the ingestion cuts them, questions, and a search among them."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from ingest import chunk, words
from ingest.types import Document, Section
from model.spans.pieces import Pieced

DATA = Path(os.environ.get("LOREBASE_DATA", "../shared/data"))
#: Pieces of a passage, drawn for each paragraph: most are shorter than what serves, which saves time.
SHORTEST, LONGEST = 96, 224


@dataclass(frozen=True)
class Passage:
    """A chunk of a paragraph."""

    paragraph: int
    text: str
    heading: str


@dataclass(frozen=True)
class Question:
    """A question, with the passage that answers it and where; None where no passage does."""

    text: str
    accepted: tuple[str, ...]
    paragraph: int
    passage: int | None
    start: int = 0
    end: int = 0


def located(text: str, answers: Sequence[dict[str, Any]]) -> tuple[int, int] | None:
    """Where the answer stands that most annotators marked, the shortest of those."""
    counted = Counter(answer["text"] for answer in answers)
    for chosen in sorted(counted, key=lambda given: (-counted[given], len(given))):
        for start in (*(a["answer_start"] for a in answers if a["text"] == chosen), text.find(chosen)):
            if chosen.strip() and start >= 0 and text[start : start + len(chosen)] == chosen:
                return start, start + len(chosen)
    return None


def typed(question: str) -> str:
    """A question as people type it into a field: in small letters, without a mark at its end."""
    return question.strip().rstrip("?？").rstrip().lower()


def chunks(text: str, tokens: int, pieced: Pieced) -> list[tuple[int, int]]:
    """A paragraph as the ingestion would cut it."""
    document = Document(text, "", (Section((), 0, len(text)),))
    cut = chunk.split(document, count_tokens=pieced.count, max_tokens=tokens, overlap_tokens=32)
    return [(c.char_start, c.char_end) for c in cut]


def articles(name: str) -> list[dict[str, Any]]:
    """A set in SQuAD's form."""
    with gzip.open(DATA / "qa" / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        return list(json.load(file)["data"])


class Keywords:
    """BM25 (k1 1.2, b 0.75) over passages."""

    def __init__(self, texts: Sequence[str]) -> None:
        counted = [Counter(words.terms(text)) for text in texts]
        self._vocabulary = {term: i for i, term in enumerate(dict.fromkeys(t for c in counted for t in c))}
        lengths = np.array([sum(c.values()) for c in counted], float)
        rows = [i for i, c in enumerate(counted) for _ in c]
        columns = [self._vocabulary[term] for c in counted for term in c]
        count = np.array([n for c in counted for n in c.values()], float)
        present = np.bincount(columns, minlength=len(self._vocabulary))
        rarity = np.log(1 + (len(texts) - present + 0.5) / (present + 0.5))
        norm = 1.2 * (0.25 + 0.75 * lengths / lengths.mean())
        values = rarity[columns] * count * 2.2 / (count + norm[rows])
        self._scores = csr_matrix((values, (columns, rows)), shape=(len(self._vocabulary), len(texts)))

    def best(self, question: str, k: int) -> list[int]:
        """The best passages."""
        known = [self._vocabulary[t] for t in set(words.terms(question)) if t in self._vocabulary]
        if not known:
            return []
        scores = np.asarray(self._scores[known].sum(axis=0)).ravel()
        return [int(i) for i in np.argsort(-scores)[:k] if scores[i] > 0]
