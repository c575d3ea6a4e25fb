"""What may be quoted of a passage where sentences answer.

A sentence comes with the code that stands right behind it and with the list or the table that its colon
announces; an item or a row also stands alone. So a stretch may hold another one: who chooses takes no two
that overlap.

Invariant: a stretch is a slice of its hit's text; the same place of a document is there once, though
neighbouring passages overlap.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ingest.types import Hit
from service import evidence
from service.sentences import Span, split

Kind = Literal["sentence", "item", "list", "row", "code"]

#: Characters of a sentence with what belongs to it; a longer list is cut behind an item.
LONGEST = 900
#: Characters of what a colon announces across an empty line.
SHORT = 240
_LINE = re.compile(r"\S.*")
#: What a heading's line may have in front of it.
_NUMBERED = re.compile(r"^(?:(?:chapter|section|第)\s*)?[\d.]+\s*[章节節]?[.:：、]?\s*")
_MARK = re.compile(r"[ \t]*(?:[-*+•‣▪·]|\d{1,3}[.)、．]|[（(]\d{1,2}[)）])[ \t]*$")


@dataclass(frozen=True, slots=True)
class Stretch:
    """`hit.text[start:end]`, and where it stands."""

    hit: Hit
    rank: int  #: of its passage, as the search ordered it, from 0
    start: int
    end: int
    kind: Kind
    place: int  #: of its first sentence among those of its passage, from 0
    last: int  #: of its last
    first: bool  #: nothing but a heading, or the passage's beginning, stands before it
    parts: int  #: items or rows in it; 0 for plain sentences
    code: bool  #: a block of code is in it
    beside: str  #: the sentences before and behind

    @property
    def text(self) -> str:
        """The words of the document."""
        return self.hit.text[self.start : self.end]

    @property
    def key(self) -> tuple[str, int, int]:
        """Its place in its document."""
        return self.hit.document_id, self.hit.char_start + self.start, self.hit.char_start + self.end

    def touches(self, other: Stretch) -> bool:
        """Whether both have a character of the document in common."""
        (one, a, b), (two, c, d) = self.key, other.key
        return one == two and a < d and c < b


def stretches(hits: Sequence[Hit]) -> list[Stretch]:
    """All that may be quoted of these passages, in their order."""
    found: list[Stretch] = []
    seen: set[tuple[str, int, int]] = set()
    for rank, hit in enumerate(hits):
        for stretch in _of(hit, rank):
            if stretch.key not in seen:
                seen.add(stretch.key)
                found.append(stretch)
    return found


def is_called(stretch: Stretch, question: str) -> bool:
    """Whether a list's label, or the heading right above it, says nothing but what the question asks for."""
    label, colon, _ = stretch.text.partition("\n")
    label = label.rstrip().rstrip("：:") if colon and label.rstrip().endswith((":", "：")) else ""
    heading = stretch.hit.heading_path[-1:] if stretch.first and not label else ()
    said = frozenset(evidence.terms(label or "".join(heading)))
    return stretch.kind == "list" and bool(said) and said.issubset(evidence.terms(question))


def _of(hit: Hit, rank: int) -> list[Stretch]:
    text, spans = hit.text, _without_headings(hit, split(hit.text))
    kinds: list[str] = ["item" if s.kind == "sentence" and _marked(text, s) else s.kind for s in spans]
    found: list[Stretch] = []

    def add(first: int, last: int, kind: Kind) -> None:
        start, end = spans[first].start, spans[last].end
        if not evidence.terms(text[start:end]):
            return
        beside = [text[spans[i].start : spans[i].end] for i in (first - 1, last + 1) if 0 <= i < len(spans)]
        found.append(
            Stretch(
                hit,
                rank,
                start,
                end,
                kind,
                first,
                last,
                first == 0 or kinds[first - 1] == "heading",
                sum(k in ("item", "row") for k in kinds[first : last + 1]),
                "code" in kinds[first : last + 1],
                " ".join(beside),
            )
        )

    for i, kind in enumerate(kinds):
        if kind == "heading" or (kind == "code" and i and kinds[i - 1] in ("sentence", "item")):
            continue  # code comes with the sentence before it
        last = i
        if kind in ("sentence", "item"):
            if i + 1 < len(spans) and kinds[i + 1] == "code" and _fits(spans, i, i + 1):
                last = i + 1
            elif text[spans[i].end - 1] in ":：" and i + 1 < len(spans):
                last = _listed(text, spans, kinds, i)
        if last > i and kinds[last] in ("item", "row"):
            add(i, last, "list")
            continue
        if last == i and kind in ("item", "row") and (i == 0 or kinds[i - 1] != kind):
            # A list that no sentence announces.
            run = _run(text, spans, kinds, i, i)
            if run > i:
                add(i, run, "list")
        add(i, last, "sentence" if kind == "sentence" else "item" if kind == "item" else kind)  # type: ignore[arg-type]
    return found


def _without_headings(hit: Hit, spans: Sequence[Span]) -> list[Span]:
    """The same sentences, with lines that are a heading of the passage apart: nothing marks them in a PDF."""
    headings = {_plain(part) for part in (hit.title, *hit.heading_path)}
    lines = [
        line.span()
        for line in _LINE.finditer(hit.text)
        if not headings.isdisjoint((_plain(line[0]), _NUMBERED.sub("", _plain(line[0]), count=1)))
    ]
    found: list[Span] = []
    for span in spans:
        start = span.start
        for first, last in lines if span.kind == "sentence" else ():
            if first <= start < last:
                end = min(last, span.end)
                found.append(Span(start, end, "heading"))
                rest = hit.text[end : span.end]
                start = end + len(rest) - len(rest.lstrip())
        if start < span.end:
            found.append(Span(start, span.end, span.kind))
    return found


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _marked(text: str, span: Span) -> bool:
    """Whether a sentence begins an item of a list."""
    line = text[text.rfind("\n", 0, span.start) + 1 : span.start]
    return _MARK.match(line) is not None


def _fits(spans: Sequence[Span], first: int, last: int) -> bool:
    return spans[last].end - spans[first].start <= LONGEST


def _listed(text: str, spans: Sequence[Span], kinds: Sequence[str], at: int) -> int:
    """Where what a colon announces ends: a run of items or rows, or the next sentence of the same line."""
    follows = kinds[at + 1]
    if follows in ("item", "row"):
        return _run(text, spans, kinds, at, at + 1)
    if follows != "sentence":
        return at
    # Without marks it is one sentence: a command on a line of its own, say.
    behind = "\n\n" not in text[spans[at].end : spans[at + 1].start]
    short = spans[at + 1].end - spans[at + 1].start <= SHORT
    return at + 1 if (behind or short) and _fits(spans, at, at + 1) else at


def _run(text: str, spans: Sequence[Span], kinds: Sequence[str], first: int, at: int) -> int:
    """The last of the items or rows that follow each other from `at` on."""
    last, kind = at - 1 if at > first else at, kinds[at]  # an item may have several sentences
    for i in range(at, len(spans)):
        goes_on = kinds[i] == kind or (
            kind == "item"
            and kinds[i] in ("sentence", "code")
            and i > at
            and "\n\n" not in text[spans[i - 1].end : spans[i].start]
        )
        if not goes_on or not _fits(spans, first, i):
            break
        last = i
    return max(last, first)
