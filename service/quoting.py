"""Answering with the document's own words: the sentences of the retrieved passages that answer best.

A verbatim quote is always true to its document, which a small generator is not. So this is `mode="quote"`,
the answer when the generator cannot write the question's language, and the fallback when nothing that it
wrote is supported.

On questions whose passage is in the collection, the best sentence holds the answer for 70% of SQuAD's (n =
44) and 90% of CMRC's (n = 40); by the embedder alone 66% and 88%, by words alone 64% and 88%.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ingest.types import Hit
from service import evidence
from service.sentences import Span, split

#: Cosine of each text with the question, in the order given.
Similarity = Callable[[str, Sequence[str]], Sequence[float]]

#: Weights of a sentence's parts: meaning (cosine within this question's candidates), words, rank of its
#: passage.
MEANING, WORDS, RANK = 0.5, 0.5, 0.4
#: Candidates that are embedded: the best by words and rank; the rest cannot win.
CANDIDATES = 24
LONGEST_QUOTE_CHARS = 700


@dataclass(frozen=True, slots=True)
class Quote:
    """A stretch of a passage that answers: `hit.text[start:end]`."""

    hit: Hit
    start: int
    end: int
    score: float  #: 0 to 1, comparable within one question only

    @property
    def text(self) -> str:
        """The words of the document."""
        return self.hit.text[self.start : self.end]


def best_sentences(
    question: str, hits: Sequence[Hit], similarity: Similarity | None, limit: int = 1
) -> list[Quote]:
    """The best answering stretches, best first, at most `limit`, from different places.

    A sentence that announces something (it ends in a colon) is quoted with the code or the list that it
    announces.
    """
    asked = evidence.weights(question)
    best_score = max((hit.score for hit in hits), default=0.0)
    seen: set[tuple[str, int]] = set()
    found: list[tuple[float, Hit, Span, Span]] = []
    for hit in hits:
        spans = split(hit.text)
        around = frozenset(evidence.terms(" ".join((hit.title, *hit.heading_path))))
        for index, span in enumerate(spans):
            place = (hit.document_id, hit.char_start + span.start)
            if span.kind == "heading" or place in seen or not evidence.terms(hit.text[span.start : span.end]):
                continue
            seen.add(place)  # neighbouring chunks overlap
            end = announced(hit.text, spans, index)
            having = frozenset(evidence.terms(hit.text[span.start : end]))
            words = 0.8 * evidence.share(asked, having) + 0.2 * evidence.share(asked, having | around)
            rank = hit.score / best_score if best_score > 0 else 0.0
            found.append((WORDS * words + RANK * rank, hit, span, Span(span.start, end)))
    found.sort(key=lambda f: -f[0])
    found = found[:CANDIDATES]
    if similarity is not None and found:
        cosines = similarity(question, [_in_context(hit, span) for _, hit, _, span in found])
        low, high = min(cosines), max(cosines)
        spread = (high - low) or 1.0
        found = [
            (s + MEANING * (c - low) / spread, h, a, b)
            for (s, h, a, b), c in zip(found, cosines, strict=True)
        ]
        found.sort(key=lambda f: -f[0])
    quotes: list[Quote] = []
    for score, hit, _, span in found:
        if len(quotes) == limit:
            break
        if not any(q.hit.document_id == hit.document_id and _overlap(q, hit, span) for q in quotes):
            quotes.append(Quote(hit, span.start, span.end, score))
    return quotes


def focus(quotes: Sequence[Quote]) -> list[Hit]:
    """The quotes with the sentence before and after each: passages that are all point, best first."""
    chosen: list[Hit] = []
    for quote in quotes:
        spans = split(quote.hit.text)
        index = next((i for i, span in enumerate(spans) if span.start == quote.start), 0)
        start = spans[max(0, index - 1)].start
        end = max(quote.end, spans[min(len(spans) - 1, index + 1)].end)
        first, last = quote.hit.char_start + start, quote.hit.char_start + end
        for place, known in enumerate(chosen):
            if known.chunk_id == quote.hit.chunk_id and first <= known.char_end and known.char_start <= last:
                chosen[place] = _cut(quote.hit, min(first, known.char_start), max(last, known.char_end))
                break
        else:
            chosen.append(_cut(quote.hit, first, last))
    return chosen


def _cut(hit: Hit, first: int, last: int) -> Hit:
    """The part of a passage between two offsets into its document."""
    text = hit.text[first - hit.char_start : last - hit.char_start]
    return replace(hit, text=text, char_start=first, char_end=last)


def announced(text: str, spans: Sequence[Span], index: int) -> int:
    """Where the quote ends: at the sentence's end, or after the code or list that its colon announces."""
    span = spans[index]
    end = span.end
    if text[end - 1] not in ":：":
        return end
    for later in spans[index + 1 :]:
        gap = text[end : later.start]
        listed = any(mark in gap for mark in "-*+•") or any(c.isdigit() for c in gap)
        if later.end - span.start > LONGEST_QUOTE_CHARS or not (
            later.kind in ("code", "row") or listed or end == span.end
        ):
            break
        end = later.end
        if later.kind == "code":
            break
    return end


def _in_context(hit: Hit, span: Span) -> str:
    """The sentence as the embedder should see it: a pronoun means nothing without its heading."""
    heading = hit.heading_path[-1] if hit.heading_path else hit.title
    return f"{heading}: {hit.text[span.start : span.end]}" if heading else hit.text[span.start : span.end]


def _overlap(quote: Quote, hit: Hit, span: Span) -> bool:
    first, last = hit.char_start + span.start, hit.char_start + span.end
    return quote.hit.char_start + quote.start < last and first < quote.hit.char_start + quote.end
