"""Whether a written question is worth keeping: it is one, leads to its passage, and is answered back.

Round-trip consistency (Alberti et al. 2019, arXiv 1906.05416; with the search in the loop as PAQ does it,
Lewis et al. 2021, arXiv 2102.07033): a question is kept if the search leads from it to its own passage and
the reader, given that passage, replies what the question was written for. The first throws out questions
that nobody understands without the passage ("What did he do then?"), the second those that ask for something
else or for nothing.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Literal, Protocol

from ingest.types import Hit, SearchMode, SearchResult
from ingest.words import query_terms, terms
from service.evaluation import scoring
from service.generators import PassageReader
from service.reading.readings import PassageReading
from service.reading.rows import normal
from service.tuning.spans import Span

Reason = Literal["no question", "gives it away", "asked before", "not found", "refused", "other answer"]
#: Overlap from which on an answer counts as the span.
SAME = 0.8
#: A question has at least so many words, and at least one that carries meaning.
LEAST_WORDS = 3
#: Share of a sentence's words that a question for it may repeat, in their order.
MOST_COPIED = 0.7
#: A reader that holds it likelier that the passage does not tell refuses.
REFUSES = 0.5


class Search(Protocol):
    """The search of one collection."""

    def search(self, query: str, k: int, mode: SearchMode) -> SearchResult:
        """The best `k` passages."""
        ...


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of a question."""

    reason: Reason | None  #: why it was rejected; None: it is kept
    said: str = ""  #: what the reader answered, as far as it was asked
    hits: tuple[Hit, ...] = ()  #: what the search found, as far as it was asked


@dataclass(frozen=True, slots=True)
class Checker:
    """Judges questions with the collection's own search and reader."""

    reader: PassageReader
    search: Search
    k: int = 5
    search_mode: SearchMode = "hybrid"

    def check(self, question: str, span: Span, own: Hit, cancel: threading.Event) -> Checked:
        """What is wrong with a question that was written for `span` of the passage `own`, if anything.

        The cheaper tests come first.

        Raises:
            Cancelled: `cancel` was set.
            IngestError, ModelError: what search and reader raise.
        """
        if reason := _unfit(question, span):
            return Checked(reason)
        hits = self.search.search(question, self.k, self.search_mode).hits
        if not any(normal(hit.text) == normal(own.text) for hit in hits):
            return Checked("not found", hits=hits)
        reading = self._read(question, own, cancel)
        if reading is None or reading.not_here > REFUSES or not reading.sentences:
            return Checked("refused", hits=hits)
        said = reading.answer if reading.answer is not None else " ".join(reading.quoted)
        return Checked(None if _same(span, reading) else "other answer", said, hits)

    def _read(self, question: str, own: Hit, cancel: threading.Event) -> PassageReading | None:
        going = self.reader.read(question, [own], cancel)
        while True:
            try:
                next(going)
            except StopIteration as ended:
                readings = ended.value.passages
                return readings[0] if readings else None


def overlap(said: str, wanted: str) -> float:
    """F1 over words (Chinese: characters) of two answers."""
    return scoring.f1(said, [wanted])


def _same(span: Span, reading: PassageReading) -> bool:
    """Whether the reader replied what the question was written for."""
    if span.answer is not None:
        return reading.answer is not None and overlap(reading.answer, span.answer) >= SAME
    return overlap(" ".join(reading.quoted), " ".join(span.sentences)) >= SAME


def _unfit(question: str, span: Span) -> Reason | None:
    """What is wrong with a question by its words alone."""
    words = terms(question)
    if len(words) < LEAST_WORDS or not query_terms(question) or question[-1] not in "?？":
        return "no question"
    given = scoring.holds(question, span.answer) if span.answer is not None else _copies(question, span)
    return "gives it away" if given else None


def _copies(question: str, span: Span) -> bool:
    """Whether most of a sentence stands in the question for it."""
    asked, told = scoring.tokens(question), [scoring.tokens(sentence) for sentence in span.sentences]
    return any(scoring.lcs(asked, sentence) > MOST_COPIED * len(sentence) for sentence in told)
