"""Running headers and footers of a PDF, and its page numbers.

They are the same text, or text with a number that counts with the pages, on the outermost rows of several
pages. Nothing that stands on fewer than three pages is ever dropped.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from ingest.parse.pdf_layout import Line

FEWEST_PAGES = 3  #: on which a running line stands
MOST_PAGES = 0.6  #: share of the pages that makes a running line one of the whole document
WHOLE = 0.8  #: share of the pages that a line on every other page spans, to be one of the whole document
FEWEST_IN_A_ROW = 4  #: pages in a row, or every other one, for a running line of a chapter
EDGE_ROWS = 3  #: of a page, from the top and from the bottom, that may be running lines
SAME_PLACE = 6.0  #: points
MOST_RUNNING = 0.25  #: share of the document's characters; more than that is no margin
_NUMBER = re.compile(r"\d{1,5}")
_ROMAN = re.compile(r"(?=[ivxlc])(?:c{0,3})(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3})")
_ROMAN_VALUES = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}


@dataclass(frozen=True, slots=True)
class _Edge:
    page: int
    rank: int  #: of its row, 0 is outermost
    y: float
    line: int


def running(pages: Sequence[Sequence[Line]]) -> list[set[int]]:
    """Of each page, the lines that are running headers, footers and page numbers.

    What runs through most pages goes from all of them; what runs through a chapter stays where it stands
    first. Rows go from the outermost inwards: one that stays keeps those behind it.
    """
    written = [page for page in pages if any(line.size for line in page)]
    drop: list[set[int]] = [set() for _ in pages]
    if len(written) < FEWEST_PAGES:
        return drop
    for top in (True, False):
        rows = [_edge_rows(page, top) for page in pages]
        seen: defaultdict[str, list[_Edge]] = defaultdict(list)
        for number, page in enumerate(rows):
            for rank, row in enumerate(page):
                for at in row:
                    line = pages[number][at]
                    for key in _keys(line.text, number):
                        seen[key].append(_Edge(number, rank, line.y, at))
        found = {
            (edge.page, edge.line) for places in seen.values() for edge in _repeated(places, len(written))
        }
        for number, page in enumerate(rows):
            for row in page:
                if any((number, at) not in found for at in row):
                    break
                drop[number].update(row)
    total = sum(len(line.text) for page in pages for line in page)
    gone = sum(len(page[at].text) for page, lines in zip(pages, drop, strict=True) for at in lines)
    return drop if gone <= MOST_RUNNING * total else [set() for _ in pages]


def _edge_rows(page: Sequence[Line], top: bool) -> list[list[int]]:
    """The outermost rows, each with its lines' numbers; lines on one baseline are one row."""
    order = sorted((at for at, line in enumerate(page) if line.size), key=lambda at: page[at].y, reverse=top)
    rows: list[list[int]] = []
    for at in order:
        if rows and abs(page[rows[-1][0]].y - page[at].y) < 2:
            rows[-1].append(at)
        elif len(rows) == EDGE_ROWS:
            break
        else:
            rows.append([at])
    return rows


def _keys(text: str, page: int) -> Iterator[str]:
    """What a line is known by on other pages: its text, and its text with a number that counts the pages."""
    line = " ".join(text.split())
    if any(map(str.isalpha, line)):
        yield line
    numbers = list(_NUMBER.finditer(line))
    for number in (*numbers[:2], *numbers[2:][-1:]):
        yield f"{line[: number.start()]}\0{int(number[0]) - page}\0{line[number.end() :]}"
    roman = line.strip("-–— .()").casefold()
    if len(roman) <= 8 and _ROMAN.fullmatch(roman):
        yield f"\0roman {_value(roman) - page}\0"


def _value(roman: str) -> int:
    values = [_ROMAN_VALUES[letter] for letter in roman]
    return sum(-a if a < b else a for a, b in pairwise([*values, 0]))


def _repeated(places: Sequence[_Edge], pages: int) -> list[_Edge]:
    """Those of a line's places that make it a running line: the same height, or the outermost row."""
    if len(places) < FEWEST_PAGES:
        return []
    height = median(place.y for place in places)
    same = [place for place in places if place.rank == 0 or abs(place.y - height) <= SAME_PLACE]
    numbers = sorted({place.page for place in same})
    if len(numbers) < FEWEST_PAGES:
        return []
    if len(numbers) >= MOST_PAGES * pages:
        return same
    kept: set[int] = set()  # pages on which it runs, but for the first
    run = [numbers[0]]
    for number in [*numbers[1:], numbers[-1] + 3]:
        if number - run[-1] > 2:
            if len(run) >= FEWEST_PAGES and run[-1] - run[0] >= WHOLE * pages - 1:  # every other page, of all
                kept.update(run)
            elif len(run) >= FEWEST_IN_A_ROW:
                kept.update(run[1:])
            run = []
        run.append(number)
    return [place for place in same if place.page in kept]
