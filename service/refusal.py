"""Is anything relevant here? One number from the search's result, and a threshold.

Relevance joins two signals, since either alone lies: how far the best passage's cosine stands out from the
other passages of the same search, and which share of the question's content words the best passages contain.
A raw cosine is never compared with a threshold: e5's lie between 0.7 and 0.9 whatever is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ingest.types import Hit
from service import evidence
from service.events import Refusal


#: Inverse document frequency of each term.
Rarity = Callable[[Sequence[str]], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Relevance:
    """What the search's result says about the question."""

    probability: float  #: 0 to 1, that the passages are about what is asked
    coverage: float  #: share of the question's content words in the best passages
    cosine: float | None  #: of the best passage, for the record


def relevance(question: str, hits: Sequence[Hit]) -> Relevance:
    """How relevant the hits are to the question, 0 to 1."""
    wanted = evidence.weights(question)
    coverage = max(
        (evidence.share(wanted, frozenset(evidence.terms(_whole(hit)))) for hit in hits[:3]), default=0.0
    )
    cosine = max((hit.dense_score for hit in hits if hit.dense_score is not None), default=None)
    return Relevance(1 / (1 + math.exp(-(8.0 * coverage - 3.0))), coverage, cosine)


def _whole(hit: Hit) -> str:
    return " ".join((hit.title, *hit.heading_path, hit.text))


def explain(reason: Refusal, collection: str) -> str:
    """What the reply says instead of an answer."""
    if reason == "nothing_ingested":
        return f"Nothing has been ingested into the collection {collection!r} yet. Run: python -m ingest ./docs --collection {collection}"
    if reason == "nothing_found":
        return "The documents hold no passage with any of these words or anything like them."
    return "The documents do not seem to answer this question. The nearest passages are listed as sources."
