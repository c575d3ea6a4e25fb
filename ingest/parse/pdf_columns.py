"""Two columns of prose that a program drew row by row: the left column first, then the right one.

Most programs draw column by column, and then the text's order is the reader's. Where rows run across both
columns, nearly every line has one wide gap, behind which it goes on at the same place, and lines begin in the
middle of sentences on both sides; a table's rows do not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingest.parse.pdf_layout import Line, Lines, units

FEWEST_ROWS = 6
_GUTTER = 1.9  #: em from letter to letter
_SAMPLED = 3  #: wide lines that are looked at first: nearly no page is drawn so
_SHORTEST = 12  #: characters of each side, on average


@dataclass(frozen=True, slots=True)
class Split:
    """A line's two sides of its only wide gap."""

    left: Line
    right: Line


def in_order(reader: Lines, glyphs: Any, lines: Sequence[Line]) -> list[Line]:
    """A page's lines in the order of its columns.

    Args:
        reader: what read the lines.
        glyphs: pypdfium2's text page that they are of.
        lines: in the order in which they are drawn.
    """
    candidates = wide(lines)
    if len(candidates) < FEWEST_ROWS:
        return list(lines)

    def split(line: Line) -> Split | None:
        text = line.text.strip()
        gaps = reader.gaps(glyphs, line.first, text, _GUTTER * line.size)
        if len(gaps) != 1:
            return None
        start, end = gaps[0]
        left = reader.part(glyphs, line.first, text[:start], line)
        return Split(left, reader.part(glyphs, line.first + units(text[:end]), text[end:], line))

    sample = candidates[:: max(1, len(candidates) // _SAMPLED)][:_SAMPLED]
    if sum(split(lines[at]) is not None for at in sample) < 2:
        return list(lines)
    found = {at: split(line) for at, line in enumerate(lines) if line.size}
    return unweave(lines, {at: parts for at, parts in found.items() if parts})


def wide(lines: Sequence[Line]) -> list[int]:
    """The lines that reach over most of the page's text."""
    written = [line for line in lines if line.size]
    width = max((line.right for line in written), default=0) - min((line.x for line in written), default=0)
    return [
        at
        for at, line in enumerate(lines)
        if line.size and line.right - line.x > 0.7 * width and len(line.text) > 2 * _SHORTEST
    ]


def unweave(lines: Sequence[Line], splits: Mapping[int, Split]) -> list[Line]:
    """The lines in the reader's order; as they are where they are no two columns."""
    places = Counter(round(split.right.x / 2) for split in splits.values())
    if not places:
        return list(lines)
    gutter = 2 * places.most_common(1)[0][0]
    rows = {at: split for at, split in splits.items() if abs(split.right.x - gutter) <= 3}
    if len(rows) < max(FEWEST_ROWS, 0.8 * len(splits)) or not (
        is_prose([split.left.text for split in rows.values()])
        and is_prose([split.right.text for split in rows.values()])
    ):
        return list(lines)
    out: list[Line] = []
    left: list[Line] = []
    right: list[Line] = []
    for at, line in enumerate(lines):
        if at in rows:
            left.append(rows[at].left)
            right.append(rows[at].right)
        elif right and line.size and line.x >= gutter - 3:
            right.append(line)
        elif right and line.size and line.right < gutter - 3 and line.x < gutter - 3:
            left.append(line)
        else:
            out += (*left, *right, line)
            left, right = [], []
    return [*out, *left, *right]


def is_prose(texts: Sequence[str]) -> bool:
    """Whether lines are cut out of sentences: most begin with a letter that is no capital."""
    inside = sum(text[0].isalpha() and not text[0].isupper() for text in texts)
    return inside >= 0.5 * len(texts) and sum(map(len, texts)) >= _SHORTEST * len(texts)
