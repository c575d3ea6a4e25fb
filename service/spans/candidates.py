"""From what the span reader finds in each passage to candidates for an answer, likeliest first.

The likeliest spans of each passage are heard, of a sentence one. What is known of one (`FEATURES`) gives the
probability that it is right (`service.reading.calibration`): how far it stands above "not here", how well its
sentence fits by words and meaning (`service.quoting`), what the likeliest spans of the other passages say.
Not what the search thinks of its passage: that differs between collections and tells nothing beside the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ingest.types import Hit
from model.engine.constrain import boundaries
from model.spans.reader import SpanReading
from service import evidence
from service.questions.mismatched import is_of_another_kind
from service.questions.opposites import says_opposite
from service.quoting import Quote
from service.reading.calibration import Calibrator
from service.reading.readings import PassageReading
from service.reading.select import repeats, same
from service.sentences import Span, split

#: In this order; see `describe`.
FEATURES = ("here", "passage", "sure", "fits", "agree", "differ", "asked")
#: Spans of each passage that are heard.
HEARD = 6
#: Logits are cut here: beyond, they tell of rounding.
MOST_LOGIT = 12.0
#: Characters behind a span within which a bracket that it opened is looked for.
MOST_ASIDE = 40
#: What a few words never begin or end with.
EDGES = " \t\r\n\u3000,，.。;；:：、!！?？"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A span, as a reading of its passage; `place` is the span, `sentences` the one that it stands in."""

    reading: PassageReading
    features: tuple[float, ...]
    probability: float = 0.0


def gather(
    question: str,
    hits: Sequence[Hit],
    readings: Sequence[SpanReading],
    fitting: Sequence[Quote],
) -> list[Candidate]:
    """All candidates with what is known of them, not yet weighed.

    Args:
        question: as asked.
        hits: the passages.
        readings: of these.
        fitting: their sentences ranked by words and meaning, as `service.quoting.best_sentences` gives them.
    """
    made: list[tuple[PassageReading, SpanReading, float]] = []
    seen: set[tuple[str, int, int]] = set()
    for rank, (hit, reading) in enumerate(zip(hits, readings, strict=True)):
        sentences = split(hit.text)
        for span in reading.spans[:HEARD]:
            start, end = tidy(hit.text, span.start, span.end)
            around = stretch(sentences, start, end)
            place = (hit.document_id, hit.char_start + start, hit.char_start + end)
            if around is None or start >= end or place in seen:
                continue
            words = hit.text[start:end]
            if repeats(question, words) or repeats(question, hit.text[around[0] : around[1]]):
                continue
            sentence, inside = hit.text[around[0] : around[1]], (start - around[0], end - around[0])
            if is_of_another_kind(question, words) or says_opposite(question, sentence, inside):
                continue
            seen.add(place)  # neighbouring passages overlap
            found = PassageReading(hit, rank, reading.not_here, True, words, (start, end), False, (around,))
            made.append((found, reading, span.score))
    leading = list({one.rank: one for one, *_ in reversed(made)}.values())
    return [
        Candidate(one, describe(question, one, reading, score, leading, fitting))
        for one, reading, score in made
    ]


def describe(  # noqa: PLR0917
    question: str,
    one: PassageReading,
    reading: SpanReading,
    score: float,
    leading: Sequence[PassageReading],
    fitting: Sequence[Quote],
) -> tuple[float, ...]:
    """The features of a candidate.

    here        logit of the span above "not here"
    passage     logit of the passage's probability to tell at all
    sure        share of the passage's probability that begins in the span's sentence
    fits        how well that sentence fits by words and meaning, beside the one that fits best
    agree       of other passages whose likeliest span says the same, how likely the likeliest tells
    differ      the same of those that say something else
    asked       share of the question's content words in the sentence and its heading
    """
    start, end = one.sentences[0]
    told = 1.0 - reading.not_here
    others = [(o, same(one, o)) for o in leading if o is not one and o.hit is not one.hit]
    best = max((quote.score for quote in fitting), default=0.0)
    here = [
        q.score
        for q in fitting
        if q.hit.document_id == one.hit.document_id
        and q.hit.char_start + q.start < one.hit.char_start + end
        and one.hit.char_start + start < q.hit.char_start + q.end
    ]
    around = " ".join((one.hit.title, *one.hit.heading_path, *one.quoted))
    wanted = evidence.weights(question)
    return (
        max(-MOST_LOGIT, min(MOST_LOGIT, score)),
        _logit(told),
        reading.mass(start, end),
        max(here, default=0.0) / best if best > 0 else 0.0,
        max((1.0 - o.not_here for o, equal in others if equal is True), default=0.0),
        max((1.0 - o.not_here for o, equal in others if equal is False), default=0.0),
        evidence.share(wanted, frozenset(evidence.terms(around))),
    )


def weigh(candidates: Sequence[Candidate], calibrator: Calibrator) -> list[Candidate]:
    """The candidates with their probabilities, likeliest first; equal ones in the search's order."""
    weighed = [Candidate(c.reading, c.features, calibrator.probability(c.features)) for c in candidates]
    return sorted(weighed, key=lambda c: (-c.probability, c.reading.rank))


def tidy(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without marks at its edges, grown to whole words, characters and brackets."""
    while start < end and text[start] in EDGES:
        start += 1
    while end > start and text[end - 1] in EDGES:
        end -= 1
    if start == end:
        return start, end
    end = closed(text, start, end)
    marks = boundaries(text)
    return max(m for m in marks if m <= start), min(m for m in marks if m >= end)


def closed(text: str, start: int, end: int) -> int:
    """Where the span ends once a bracket that it opens is closed; as it was where that is far away."""
    opened = max(text.rfind(mark, start, end) for mark in "(（")
    if opened < 0 or any(mark in text[opened:end] for mark in ")）"):
        return end
    shut = min((at for mark in ")）" if (at := text.find(mark, end, end + MOST_ASIDE)) >= 0), default=-1)
    return end if shut < 0 or "\n" in text[end:shut] else shut + 1


def stretch(sentences: Sequence[Span], start: int, end: int) -> tuple[int, int] | None:
    """The sentence around a span, or the few that it reaches over; None within a heading."""
    touched = [s for s in sentences if s.start < end and start < s.end]
    if not touched or all(s.kind == "heading" for s in touched):
        return None
    return min(touched[0].start, start), max(touched[-1].end, end)


def _logit(probability: float) -> float:
    kept = min(max(probability, 1e-9), 1 - 1e-9)
    return max(-MOST_LOGIT, min(MOST_LOGIT, math.log(kept / (1 - kept))))
