"""What in a passage may be asked for: spans that people look up, by simple rules, and sentences that matter.

The rules propose far more than is worth asking; whether a question on a span makes sense is decided by
whether the reader finds the span again. So they may be wide, and need no tagger: numbers and dates, names,
words in quotation marks, noun phrases behind an article, what stands behind "called" and its kind, Chinese
dates, quantities and titles. One whole sentence in so many stands for questions that want a sentence.

Invariant: a short answer is a span of the passage and its sentences are those that it touches, so a span can
always be written in the reader's form.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from service import evidence
from service.reading import rows
from service.reading.rows import normal
from service.sentences import split

Kind = Literal["number", "name", "phrase", "sentence"]

#: Characters of a passage for one span, and most spans of a passage.
CHARACTERS_PER_SPAN, MOST_SPANS = 45, 12
#: Spans that one sentence gives.
MOST_OF_A_SENTENCE = 3
#: One sentence stands for itself beside so many spans.
SPANS_PER_SENTENCE = 6
#: Characters of a span, and of a sentence that stands for itself.
LONGEST_SPAN, SENTENCE = 80, range(40, 300)

_UNIT = (
    r"(?:\s?(?:%|percent|°[CF]?|[kcmμ]?m²?|km|kg|g|mg|GB|MB|KB|TB|[MG]?Hz|ms|W|V|hours?|minutes?|seconds?|days?|"
    r"weeks?|months?|years?|miles?|feet|inches|pounds?|dollars?|euros?|people|employees|times|pages|tokens|"
    r"(?:hundred|thousand|million|billion)(?:\s(?:dollars?|euros?|people|years))?))?"
)
_MONTH = r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_NUMBERS = (
    rf"\b{_MONTH}\s\d{{1,2}},?\s\d{{4}}\b|\b\d{{1,2}}\s{_MONTH}(?:\s\d{{4}})?\b|\b{_MONTH}\s\d{{4}}\b",
    rf"[$€£¥]\s?\d[\d,.]*\d(?:\s(?:million|billion))?|(?<![\w/.,-])\d+(?:,\d{{3}})*(?:\.\d+)?{_UNIT}(?![\w/-])",
    r"[约近]?\d[\d,.]*\s?(?:年(?:\d{1,2}月(?:\d{1,2}日)?)?|月\d{1,2}日|%|％|[万亿]?(?:元|人|个|名|次|倍|公里|米|平方公里|岁|台|种|家|所|天|小时|分钟))",
)
_NAMES = (
    r"\b[A-Z][\w'’-]*(?:\s(?:of|de|van|von|and|the|for)\s[A-Z][\w'’-]*|\s[A-Z][\w'’-]*)+",
    r"(?<=[a-z,;(] )[A-Z][A-Za-z0-9'’-]{2,}\b(?! [A-Z])",
    r"《[^《》\n]{1,40}》",
    r"`[^`\n]{2,40}`",
)
_PHRASES = (
    r"[“\"「][^“”\"「」\n]{2,60}[”\"」]",
    r"\b(?:called|named|termed) ([\w' -]{3,40}?)(?=[,.;:)]|\s(?:and|which|that|is|was)\b)",
    r"\b(?:as|by|in|of|with|for) ((?:[a-z-]{3,} ){1,3}[a-z-]{4,})(?=[,.;:)\n])",
    r"\b((?:the|a|an|its|their) (?:[a-z-]{3,} ){1,3}[a-z-]{4,})"
    r"(?=[,.;:)\n]| (?:of|in|by|with|for|and|to|is|are)\b)",
    r"(?<=[，、是为由在])[\u4e00-\u9fff]{2,10}(?=[，、。；])",
)
_RULES: tuple[tuple[Kind, tuple[re.Pattern[str], ...]], ...] = (
    ("number", tuple(map(re.compile, _NUMBERS))),
    ("name", tuple(map(re.compile, _NAMES))),
    ("phrase", tuple(map(re.compile, _PHRASES))),
)
_TRIM = '“”"「」` \t\n'


@dataclass(frozen=True, slots=True)
class Span:
    """What a question is to be written for; without an answer its sentences are the reply."""

    kind: Kind
    answer: str | None
    sentences: tuple[str, ...]


def spans(text: str, draw: random.Random, without: Collection[str] = ()) -> list[Span]:
    """Some spans of a passage, kinds in turn, spread over its sentences; `draw` chooses among equals.

    Args:
        text: of the passage.
        draw: chooses.
        without: words that are left out, because they have been asked for.
    """
    wanted = max(2, min(MOST_SPANS, len(text) // CHARACTERS_PER_SPAN))
    found = {kind: list(_of_kind(text, patterns)) for kind, patterns in _RULES}
    for places in found.values():
        draw.shuffle(places)
    chosen: list[Span] = []
    taken: list[tuple[int, int]] = []
    used: dict[str, int] = {}
    known = {normal(words) for words in without}
    while len(chosen) < wanted and any(found.values()):
        for kind, places in found.items():
            span = _next(text, kind, places, taken, used, known)
            if span is not None and len(chosen) < wanted:
                chosen.append(span)
    sentences = [span for span in _sentences(text) if normal(span.sentences[0]) not in known]
    draw.shuffle(sentences)
    return chosen + sentences[: max(1, len(chosen) // SPANS_PER_SENTENCE)]


def _next(  # noqa: PLR0917
    text: str,
    kind: Kind,
    places: list[tuple[int, int]],
    taken: list[tuple[int, int]],
    used: dict[str, int],
    known: Collection[str],
) -> Span | None:
    """The next place of a kind that overlaps nothing that was taken; what is passed over is gone."""
    while places:
        start, end = places.pop()
        answered = rows.answered(text, "", start, end)
        if answered is None or answered.answer is None:
            continue
        first = answered.sentences[0]
        words = normal(answered.answer)
        again = words in known or any((a < end and start < b) or words == normal(text[a:b]) for a, b in taken)
        if again or used.get(first, 0) >= MOST_OF_A_SENTENCE or not evidence.terms(answered.answer):
            continue
        taken.append((start, end))
        used[first] = used.get(first, 0) + 1
        return Span(kind, answered.answer, answered.sentences)
    return None


def _of_kind(text: str, patterns: tuple[re.Pattern[str], ...]) -> Iterator[tuple[int, int]]:
    for pattern in patterns:
        for match in pattern.finditer(text):
            start, end = match.span(match.re.groups)  # the group, where a rule marks one
            while start < end and text[start] in _TRIM:
                start += 1
            while end > start and text[end - 1] in _TRIM:
                end -= 1
            if 0 < end - start <= LONGEST_SPAN:
                yield start, end


def _sentences(text: str) -> Iterator[Span]:
    for span in split(text):
        sentence = text[span.start : span.end]
        whole = span.kind == "sentence" and sentence[-1] in ".。!！"
        if whole and len(sentence) in SENTENCE and len(evidence.terms(sentence)) >= 5:
            yield Span("sentence", None, (sentence,))
