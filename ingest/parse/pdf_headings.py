"""Headings of a PDF without an outline, by their type and place.

A PDF does not say which line is a heading: what stands here are the habits of typography, and in doubt a line
is body.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median

from ingest.parse.outline import Entry
from ingest.parse.pdf_layout import LONGEST_HEADING, Line

LARGER = 1.12  #: times the body's size that a heading's type has, where it is not bold
MOST_HEADING_LINES = 4
SHORTEST_TABLE_TITLE = 25  #: characters
LEVELS = 3
MOST_OF_A_STYLE = 0.2  #: share of the document's lines; a style that is used more often is no heading's
_BEGINS = re.compile(
    r"(?:item|part|note|chapter|section|article|appendix|exhibit)\s+[\dIVXLA-Z]{1,4}\b|\d{1,3}(?:\.\d{1,3})*[.)]?\s",
    re.I,
)
_OPENS = re.compile(r"[\w“\"'‘(\[§¿¡（《「『【〔]")  # anything else is a list's bullet
_FIGURE = re.compile(r"[$€£¥(]?\s?[\d][\d.,]*\s?[)%]{0,2}|[—–-]")
_SENTENCE_END = tuple(".,;!。，；！、")

_Style = tuple[float, bool]


def headings(pages: Sequence[Sequence[Line]]) -> list[Entry]:
    """Headings by their type, as an outline would name them; of pages without their running lines.

    A heading is larger than the body, or bold where the body is not; short, alone on its line, not a row or a
    cell of a table and not only numbers. Bold lines of the body's size also stand off from the line above.
    """
    usual: Counter[_Style] = Counter()
    for page in pages:
        for line in page:
            if line.size:
                usual[line.size, line.bold] += len(line.text)
    if not usual:
        return []
    body = usual.most_common(1)[0][0]
    leading = _leading(pages, body)
    found: list[tuple[int, _Style, str]] = []
    for number, page in enumerate(pages, 1):
        found += [(number, style, title) for style, title in _of_page(page, body, leading)]
    lines = sum(1 for page in pages for line in page if line.size)
    often = Counter(style for _, style, _ in found)
    styles = {style for style, count in often.items() if count <= max(3, MOST_OF_A_STYLE * lines)}
    first = found[0][0] if found else 0
    level = _levels(
        {style: often[style] for style in styles},
        {style for number, style, _ in found if number == first},
    )
    return [Entry(title, level[style], number) for number, style, title in found if style in styles]


def _leading(pages: Sequence[Sequence[Line]], body: _Style) -> float:
    """From baseline to baseline in the body's text, in points."""
    steps = [
        above.y - line.y
        for page in pages
        for above, line in pairwise(page)
        if above.size == line.size == body[0] and 0.9 * body[0] < above.y - line.y < 2.5 * body[0]
    ]
    return median(steps) if steps else 1.2 * body[0]


def _of_page(page: Sequence[Line], body: _Style, leading: float) -> Iterator[tuple[_Style, str]]:
    """The headings of one page, neighbouring lines of one style as one."""
    lines = [line for line in page if line.size]
    placed = _Margins(lines)
    at = 0
    while at < len(lines):
        end = at
        while end < len(lines) and _may_head(lines, end, body, leading, first=end == at):
            end += 1
        group, style = lines[at:end], (lines[at].size, lines[at].bold)
        title = " ".join(" ".join(line.text.split()) for line in group)
        if (
            0 < len(group) <= MOST_HEADING_LINES
            and not title.endswith(_SENTENCE_END if style[0] <= body[0] else (",", ";"))
            and sum(map(str.isalpha, title)) >= max(2, 0.5 * len(title.replace(" ", "")))
            and (style[0] > LARGER * body[0] or _stands_alone(lines, at, end, placed))
        ):
            yield style, title
        at = max(end, at + 1)


class _Margins:
    """Where text begins on a page, and its middle."""

    def __init__(self, lines: Sequence[Line]) -> None:
        begins = Counter(round(line.x / 2) for line in lines if len(line.text) > 40 and not _is_row(line))
        self._begins = [2 * x for x, count in begins.items() if count >= 4]
        self._begins.append(round(min((line.x for line in lines), default=0)))
        left, right = (
            min((line.x for line in lines), default=0),
            max((line.right for line in lines), default=0),
        )
        self._middle, self._width = (left + right) / 2, right - left

    def begins(self, line: Line) -> bool:
        """Whether the line begins where text does."""
        return any(abs(line.x - x) < 2 * line.size for x in self._begins)

    def centred(self, line: Line) -> bool:
        """Whether it stands in the middle."""
        return abs((line.x + line.right) / 2 - self._middle) < 0.04 * self._width


def _stands_alone(lines: Sequence[Line], start: int, end: int, placed: _Margins) -> bool:
    """Whether bold lines of the body's size are a heading, and no label or column's head of a table.

    The title of a table is centred and longer than its columns' heads.
    """
    first = lines[start]
    if first.text.lstrip().startswith("(") or not (placed.begins(first) or placed.centred(first)):
        return False
    if start and _is_row(lines[start - 1]):
        return False
    titled = all(map(placed.centred, lines[start:end])) and any(
        len(line.text.strip()) >= SHORTEST_TABLE_TITLE for line in lines[start:end]
    )
    return titled or end == len(lines) or not _is_row(lines[end])


def _may_head(lines: Sequence[Line], at: int, body: _Style, leading: float, *, first: bool) -> bool:
    """Whether a line may be a heading's first line, or its next one."""
    line, above = lines[at], lines[at - 1] if at else None
    larger = line.size > LARGER * body[0]
    if not (larger or (line.bold and not body[1] and line.size >= body[0])):
        return False
    if line.cells or len(line.text) > LONGEST_HEADING or not _OPENS.match(line.text.lstrip()):
        return False
    beside = [other for other in lines[max(0, at - 1) : at + 2] if other is not line]
    if any(abs(other.y - line.y) < 0.4 * line.size and abs(other.x - line.x) > 1 for other in beside):
        return False
    step = above.y - line.y if above else 0.0
    if not first:
        return (
            above is not None
            and (above.size, above.bold) == (line.size, line.bold)
            and 0 < step < 1.6 * line.size
            and not _BEGINS.match(line.text.lstrip())
        )
    return larger or above is None or not 0 < step < 1.12 * leading


def _is_row(line: Line) -> bool:
    """Whether a line is a row of a table: wide gaps, or two figures at its end."""
    words = line.text.split()
    return line.cells or (len(words) >= 2 and all(_FIGURE.fullmatch(word) for word in words[-2:]))


def _levels(often: dict[_Style, int], first: set[_Style]) -> dict[_Style, int]:
    """The level of each style: larger is further out, then bold.

    One that is used once takes no level of its own, but for the largest, where it is among `first`, the
    styles of the first page with headings: that is the document's title.
    """
    ranked = sorted(often, key=lambda style: (-style[0], not style[1]))
    own = [style for style in ranked if often[style] > 1 or (style == ranked[0] and style in first)]
    return {
        style: min(LEVELS, 1 + sum(1 for other in own if other != style and _before(other, style)))
        for style in ranked
    }


def _before(one: _Style, other: _Style) -> bool:
    return (-one[0], not one[1]) < (-other[0], not other[1])
