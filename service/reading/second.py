"""A second opinion on what the generator reads: the span reader looks at the same passages.

The generator writes; the span reader (`model.spans`) only points, and has learned "not here" from other
examples. What both find is likelier right than what one of them does. So every reading learns what the span
reader thinks of its words, and where that one points elsewhere, its words become candidates themselves.

A question for steps, a list, a reason, a definition, a comparison or yes or no is left to the generator: a
few words do not answer it, so what the span reader thinks of it says little.

Invariant: without the second reader, what the first one read is unchanged.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Generator, Sequence
from dataclasses import replace

from ingest.types import Hit
from model.spans.reader import Span, SpanReader, SpanReading
from service.generators import PassageReader
from service.questions import compared, wanted
from service.reading import select
from service.reading.readings import PassageReading, Readings
from service.sentences import split
from service.spans.candidates import stretch, tidy
from service.spans.quoter import Quoter, read

#: Spans of each passage that become candidates of their own.
HEARD = 2
#: Such a question is read by both, if it is in the span reader's script.
FEW_WORDS = "Which one?"


class Seconded:
    """A passage reader with a span reader beside it; a `service.generators.PassageReader`."""

    def __init__(self, reader: PassageReader, spans: SpanReader) -> None:
        """Read with both."""
        self._reader, self._spans = reader, spans

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self._reader.name}+{self._spans.name}"

    @property
    def fingerprint(self) -> str:
        """Of both."""
        both = f"{self._reader.fingerprint} {self._spans.fingerprint}"
        return hashlib.sha256(both.encode()).hexdigest()

    @property
    def context_tokens(self) -> int:
        """The generator's window."""
        return self._reader.context_tokens

    def read(
        self, question: str, hits: Sequence[Hit], cancel: threading.Event
    ) -> Generator[str, None, Readings]:
        """The generator's draft as it is written, then the readings of both. Raises Cancelled."""
        readings = yield from self._reader.read(question, hits, cancel)
        read_in = [reading.hit for reading in readings.passages]
        seen = read(self._spans, question, read_in, cancel) if read_in else []
        return replace(readings, passages=together(readings.passages, seen))


def seconded(reader: PassageReader, quoter: Quoter | None, question: str) -> PassageReader:
    """The reader with the span reader beside it, where there is one that can answer such a question."""
    if not wants_few_words(question):
        return reader
    spans = quoter.reads(question) if quoter is not None else None
    return reader if spans is None else Seconded(reader, spans)


def wants_few_words(question: str) -> bool:
    """Whether a few words of a passage may answer."""
    return not (wanted.sentences(question) or wanted.never_short(question) or compared.weighed(question))


def together(readings: Sequence[PassageReading], seen: Sequence[SpanReading]) -> tuple[PassageReading, ...]:
    """The readings with what the span reader thinks of them, and behind them what it alone found.

    Args:
        readings: the generator's, one a passage.
        seen: the span reader's of the same passages.
    """
    judged: list[PassageReading] = []
    found: list[PassageReading] = []
    for reading, spans in zip(readings, seen, strict=True):
        own = [(span, candidate(reading, spans, span)) for span in spans.spans]
        told = replace(reading, tells=1.0 - spans.not_here, apart=_apart(spans, None))
        agreeing = [span for span, one in own if one is not None and _agrees(reading, one)]
        if reading.written and agreeing:
            told = replace(told, span=agreeing[0].score, apart=_apart(spans, agreeing[0]))
        judged.append(told)
        found += [
            one for span, one in own[:HEARD] if one is not None and not (reading.written and span in agreeing)
        ]
    return (*judged, *found)


def candidate(reading: PassageReading, spans: SpanReading, span: Span) -> PassageReading | None:
    """A span of a passage as a reading of it; None where it stands in a heading or says nothing."""
    hit = reading.hit
    start, end = tidy(hit.text, span.start, span.end)
    around = stretch(split(hit.text), start, end)
    if around is None or start >= end:
        return None
    return replace(
        reading,
        written=True,
        by="spans",
        answer=hit.text[start:end],
        place=(start, end),
        polar=False,
        sentences=(around,),
        logprob=0.0,
        gain=0.0,
        span=span.score,
        tells=1.0 - spans.not_here,
        apart=_apart(spans, span),
    )


def _agrees(reading: PassageReading, one: PassageReading) -> bool:
    """Whether a span says what the generator wrote, or stands in what it quoted."""
    assert one.place is not None
    if reading.answer is None or reading.polar:
        return any(start < one.place[1] and one.place[0] < end for start, end in reading.sentences)
    if reading.place is not None and reading.place[0] < one.place[1] and one.place[0] < reading.place[1]:
        return True
    return select.same(reading, one) is True


def _apart(spans: SpanReading, span: Span | None) -> float:
    """How far a span stands below the passage's likeliest, logits; without one, as far as it gets."""
    if span is None or not spans.spans:
        return select.LEAST_APART
    return max(select.LEAST_APART, span.score - spans.spans[0].score)
