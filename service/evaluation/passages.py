"""Where a question's passages come from: its own, ranked like retrieved ones, or a collection's search.

Own passages get scores on the search's scale (`ingest.search`): what judges answers was fitted on those. How
rare a word is nobody can tell from a handful of passages, so all of the question's words weigh the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ingest import words
from ingest.filters import Filter
from ingest.search import DENSE_SHARE, fuse
from ingest.types import Hit, SearchMode, SearchResult
from service.answer import Source
from service.evaluation import scoring
from service.evaluation.questions import Passage, Question

OWN = "own/"
#: BM25's constants, as the keyword arm has them.
K1, B = 1.2, 0.75


@dataclass(frozen=True, slots=True)
class OwnPassages:
    """A search over the few passages of one question; a `service.answer.Search`.

    Without cosines they keep the order of the file, and none is claimed.
    """

    passages: Sequence[Passage]
    cosines: Sequence[float] | None
    floor: float = 0.0  #: the cosine of texts that have nothing to do with each other

    def search(
        self,
        query: str,
        k: int,
        mode: SearchMode,  # noqa: ARG002
        where: Filter | None = None,  # noqa: ARG002
    ) -> SearchResult:
        """The best `k` of the passages."""
        if self.cosines is None:
            hits = [self._hit(place, 1.0 / (place + 1), None) for place in range(len(self.passages))]
            return SearchResult(tuple(hits[:k]), 1, 0.0)
        found = dict(enumerate(coverage(query, [f"{p.title}\n{p.text}" for p in self.passages])))
        dense = dict(enumerate(self.cosines))
        scores = fuse(dense, found, share=DENSE_SHARE, floor=self.floor, most=1.0)
        order = sorted(scores, key=lambda place: (-scores[place], -dense[place]))
        return SearchResult(tuple(self._hit(i, scores[i], dense[i]) for i in order[:k]), 1, 0.0)

    def _hit(self, place: int, score: float, cosine: float | None) -> Hit:
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
            score=score,
            dense_score=cosine,
            keyword_score=None,
        )


def coverage(query: str, texts: Sequence[str]) -> list[float]:
    """BM25 of each text, as a share of the most that the query's words can reach; 0 to 1.

    Source: Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009; every word weighs the same.
    """
    asked = set(words.query_terms(query))
    counts = [Counter(words.terms(text)) for text in texts]
    mean = sum(count.total() for count in counts) / max(1, len(counts))
    if not asked or not mean:
        return [0.0] * len(texts)
    lengths = [K1 * (1 - B + B * count.total() / mean) for count in counts]
    return [
        sum(count[word] / (count[word] + length) for word in asked) / len(asked)
        for count, length in zip(counts, lengths, strict=True)
    ]


def own_source(question: Question, like: Source) -> Source:
    """A source that knows the question's own passages and nothing else; they are read as those of `like`.

    They are embedded and ranked here, before anything is asked, as a collection's passages would be.
    """
    cosines = None
    if like.similarity is not None:
        cosines = like.similarity(question.text, [f"{p.title}\n{p.text}".strip() for p in question.passages])
    return Source(
        OwnPassages(question.passages, cosines, like.unrelated_cosine),
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
