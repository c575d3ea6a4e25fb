"""Where a question's passages come from: its own, ranked like retrieved ones, or a collection's search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ingest.filters import Filter
from ingest.types import Hit, SearchMode, SearchResult
from service.answer import Source
from service.evaluation import scoring
from service.evaluation.questions import Passage, Question

OWN = "own/"


@dataclass(frozen=True, slots=True)
class OwnPassages:
    """A search over the few passages of one question; a `service.answer.Search`.

    Without cosines they keep the order of the file, and none is claimed.
    """

    passages: Sequence[Passage]
    cosines: Sequence[float] | None

    def search(
        self,
        query: str,  # noqa: ARG002 - ranked already
        k: int,
        mode: SearchMode,  # noqa: ARG002
        where: Filter | None = None,  # noqa: ARG002
    ) -> SearchResult:
        """The best `k` of the passages."""
        cosines = self.cosines
        order = list(range(len(self.passages)))
        if cosines is not None:
            order.sort(key=lambda i: -cosines[i])
        hits = tuple(
            self._hit(i, rank, None if cosines is None else cosines[i]) for rank, i in enumerate(order, 1)
        )
        return SearchResult(hits[:k], 1, 0.0)

    def _hit(self, place: int, rank: int, cosine: float | None) -> Hit:
        passage = self.passages[place]
        return Hit(
            chunk_id=place + 1,
            document_id=f"{OWN}{place + 1}",
            path=f"{OWN}{place + 1}",
            title=passage.title,
            position=0,
            text=passage.text,
            char_start=0,
            char_end=len(passage.text),
            page_first=None,
            page_last=None,
            heading_path=(),
            score=1.0 / rank,
            dense_score=cosine,
            keyword_score=None,
        )


def own_source(question: Question, like: Source) -> Source:
    """A source that knows the question's own passages and nothing else; they are read as those of `like`.

    They are embedded and ranked here, before anything is asked, as a collection's passages would be.
    """
    cosines = None
    if like.similarity is not None:
        cosines = like.similarity(question.text, [f"{p.title}\n{p.text}".strip() for p in question.passages])
    return Source(
        OwnPassages(question.passages, cosines),
        like.similarity,
        None,
        like.unrelated_cosine,
        like.quoter,
    )


SourceOf = Callable[[Question], Source]


def is_evidence(question: Question, path: str, text: str) -> bool:
    """Whether a passage is one to answer from: the file says so, or an accepted answer stands in it."""
    if path.startswith(OWN) and question.passages:
        place = int(path.removeprefix(OWN)) - 1
        if place < len(question.passages) and question.passages[place].gold:
            return True
    elif question.source is not None and same_document(path, question.source):
        return True
    return holds_answer(question, text)


def holds_answer(question: Question, text: str) -> bool:
    """Whether an accepted answer to some part of the question stands in the text."""
    return scoring.contains(text, question.parts) > 0


def same_document(path: str, source: str) -> bool:
    """Whether two paths name one document: equal, or one ends as the other (ingested from a sub-folder)."""
    a, b = path.split("/"), source.split("/")
    n = min(len(a), len(b))
    return a[-n:] == b[-n:]
