"""From what each passage says to what is answered: the likeliest candidate, a refusal, or two that disagree.

A candidate is one passage's reading. What is known of it (`FEATURES`) gives the probability that it is right
(`reading.calibration`); those that say the same strengthen each other. Leaving a passage out costs nothing
here, so nobody has to guess which passage an answer came from.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from service import evidence
from service.reading.calibration import Calibrator
from service.reading.readings import PassageReading

#: What a candidate's probability is made from, in this order; see `describe`.
FEATURES = (
    "here",
    "certain",
    "relevance",
    "score",
    "margin",
    "agree",
    "differ",
    "stands",
    "short",
    "asked",
)
#: A second answer contradicts the first if it is at least this likely beside it.
CONTRADICTS = 0.75
#: Share of equal words (F1) from which on two short answers say the same.
SAME_WORDS = 0.6
#: Logits and log-probabilities are cut here: beyond, they tell of rounding.
MOST_LOGIT, LEAST_LOGPROB = 8.0, -6.0

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3})")
_WORD = re.compile(r"[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One passage's reading and how likely it is right."""

    reading: PassageReading
    features: tuple[float, ...]  #: in the order of `FEATURES`
    probability: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the candidates."""

    kind: Literal["answer", "conflict", "refuse"]
    confidence: float  #: probability that the best candidate is right
    best: Candidate | None = None
    other: Candidate | None = None  #: what contradicts it


def words(text: str) -> list[str]:
    """The words of an answer for comparing it: case, marks, articles and commas in numbers aside."""
    plain = _THOUSANDS.sub("", unicodedata.normalize("NFKC", text).casefold())
    return _WORD.findall(_ARTICLES.sub(" ", plain))


def same(one: PassageReading, other: PassageReading) -> bool | None:
    """Whether two readings say the same; None where that cannot be told (a short answer and a quotation)."""
    if one.answer is not None and other.answer is not None:
        left, right = words(one.answer), words(other.answer)
        if not left or not right:
            return one.answer == other.answer
        shared = sum(min(left.count(word), right.count(word)) for word in {*left})
        return shared in (len(left), len(right)) or 2 * shared / (len(left) + len(right)) >= SAME_WORDS
    quoted = [set(words(" ".join(reading.quoted))) for reading in (one, other)]
    if one.answer is None and other.answer is None:
        return True if quoted[0] & quoted[1] >= min(quoted, key=len) else None
    short, long = (one, quoted[1]) if one.answer is not None else (other, quoted[0])
    return True if set(words(short.answer or "")) <= long else None


def describe(question: str, readings: Sequence[PassageReading], relevance: float) -> list[tuple[float, ...]]:
    """The features of every reading that was written, in their order.

    here        logit of the model's own probability that the passage tells
    certain     mean log-probability of what it wrote freely
    relevance   logit of the retrieval's probability that the passages are about the question
    score       the search's, of this passage
    margin      the same less the best other passage's
    agree       of the others that say the same, how likely the likeliest tells
    differ      of the others that say something else, the same
    stands      1 if the short answer stands in the sentence, or is a yes or no to a question for one; a half
                if it stands elsewhere in the passage; 1 for a quotation
    short       1 for a short answer, 0 for a quotation
    asked       share of the question's content words in the sentences and their heading
    """
    written = [reading for reading in readings if reading.sentences]
    asked = evidence.weights(question)
    found: list[tuple[float, ...]] = []
    for reading in written:
        others = [(other, same(reading, other)) for other in written if other is not reading]
        best_other = max((o.hit.score for o in readings if o is not reading), default=0.0)
        around = " ".join((reading.hit.title, *reading.hit.heading_path, *reading.quoted))
        found.append(
            (
                _logit(1.0 - reading.not_here),
                max(LEAST_LOGPROB, reading.logprob),
                _logit(relevance),
                reading.hit.score,
                reading.hit.score - best_other,
                max((1.0 - o.not_here for o, equal in others if equal is True), default=0.0),
                max((1.0 - o.not_here for o, equal in others if equal is False), default=0.0),
                _stands(reading),
                float(reading.answer is not None),
                evidence.share(asked, frozenset(evidence.terms(around))),
            )
        )
    return found


def weigh(
    question: str, readings: Sequence[PassageReading], relevance: float, calibrator: Calibrator
) -> list[Candidate]:
    """The written readings with their probabilities, likeliest first; equal ones in the search's order."""
    written = [reading for reading in readings if reading.sentences]
    candidates = [
        Candidate(reading, features, calibrator.probability(features))
        for reading, features in zip(written, describe(question, readings, relevance), strict=True)
    ]
    return sorted(candidates, key=lambda c: (-c.probability, c.reading.rank))


def decide(candidates: Sequence[Candidate], threshold: float) -> Verdict:
    """What is answered.

    Args:
        candidates: likeliest first.
        threshold: probability below which nothing is answered.
    """
    if not candidates:
        return Verdict("refuse", 0.0)
    best = candidates[0]
    if best.probability < threshold:
        return Verdict("refuse", best.probability, best)
    least = max(threshold, CONTRADICTS * best.probability)
    for other in candidates[1:]:
        if other.probability >= least and same(best.reading, other.reading) is False:
            return Verdict("conflict", best.probability, best, other)
    return Verdict("answer", best.probability, best)


def supported(reading: PassageReading) -> bool:
    """Whether a short answer may be given in its own words: its sentences bear it out.

    Either it stands there, or it is a yes or no to a question for one, or all its content does.
    """
    if reading.answer is None or not reading.sentences:
        return False
    if _stands(reading) == 1.0:
        return True
    wanted = evidence.weights(reading.answer)
    having = frozenset(evidence.terms(" ".join(reading.quoted)))
    return bool(wanted) and evidence.share(wanted, having) >= 1.0


def _stands(reading: PassageReading) -> float:
    if reading.answer is None or reading.polar:
        return 1.0
    if reading.place is None:
        return 0.0
    start, end = reading.place
    return 1.0 if any(a <= start and end <= b for a, b in reading.sentences) else 0.5


def _logit(probability: float) -> float:
    kept = min(max(probability, 1e-9), 1 - 1e-9)
    return max(-MOST_LOGIT, min(MOST_LOGIT, math.log(kept / (1 - kept))))
