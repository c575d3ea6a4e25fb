"""Where the entries of an outline stand in the text.

An outline names a page and a title; a section begins where the title is printed. The title is looked for on
its page, without regard to case, white space and the numbering that outlines often leave out. Where it is not
found (a heading that is a picture), the section begins with the page.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from ingest.types import Page

_NUMBERING = re.compile(
    r"^(?:(?:chapter|section|part|appendix|第)?[\divxlca-h]{0,4}(?:[.．\-][\da-z]{1,3})*[.):：、章节節部]?)$"
)


MOST_HITS = 100  #: places of one title on one page that are looked at


@dataclass(frozen=True, slots=True)
class Entry:
    """One bookmark."""

    title: str
    level: int  #: 1 is outermost
    page: int  #: counts from 1


def locate(entries: Sequence[Entry], text: str, pages: Sequence[Page]) -> list[tuple[int, int, str]]:
    """(char_start, level, title) in the order of the text, as `tidy.sections_of` takes it."""
    by_number = {page.number: page for page in pages}
    folded: dict[int, tuple[str, list[int], list[int]]] = {}
    found: list[tuple[int, int, str]] = []
    after: dict[int, int] = {}
    for entry in entries:
        page = by_number.get(entry.page)
        if page is None:
            continue
        if entry.page not in folded:
            folded[entry.page] = _fold_lines(text[page.char_start : page.char_end])
        at = _find(_fold(entry.title), *folded[entry.page], after.get(entry.page, -1) + 1)
        if at is None:
            start = page.char_start + after.get(entry.page, 0)
        else:
            after[entry.page] = at
            start = page.char_start + at
        found.append((start, entry.level, entry.title))
    return sorted(found, key=lambda heading: heading[0])  # stable: entries at one place keep their order


def _fold(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _fold_lines(page: str) -> tuple[str, list[int], list[int]]:
    """The page folded into one string; where each line begins in it, and where in the page."""
    folded: list[str] = []
    begins: list[int] = []
    places: list[int] = []
    length = at = 0
    for line in page.split("\n"):
        begins.append(length)
        places.append(at)
        piece = _fold(line)
        folded.append(piece)
        length += len(piece)
        at += len(line) + 1
    return "".join(folded), begins, places


def _find(title: str, folded: str, begins: list[int], places: list[int], after: int) -> int | None:
    """Offset of the line on which the title begins; best a line that holds nothing else."""
    best: tuple[int, int] | None = None
    ends = {*begins, len(folded)}
    line = bisect_left(places, after)
    hit = begins[line] - 1 if line < len(begins) else len(folded)
    for _ in range(MOST_HITS):
        hit = folded.find(title, hit + 1)
        if hit < 0:
            break
        number = bisect_right(begins, hit) - 1  # of lines that begin at one place all but the last are blank
        heads = hit == begins[number] or _NUMBERING.match(folded[begins[number] : hit]) is not None
        score = 2 * heads + (hit + len(title) in ends)
        if best is None or score > best[0]:
            best = (score, places[number])
        if score == 3:
            break
    return best[1] if best and best[0] else None
