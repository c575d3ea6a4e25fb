"""The lines of a PDF's page: where each stands, how large it is, whether it is bold, hidden or cells.

pdfium gives the text of a page line by line. Of each line a handful of its native calls say where its first
character stands, how large it is and in which font; that costs about a tenth of reading the text. What lines
mean is decided elsewhere: `pdf_running` (headers and footers), `pdf_headings`.
"""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pypdfium2.raw as pdfium_c

LINE_END = "\r\n"
LONGEST_HEADING = 120  #: characters of one line
_GAP = 2.2  #: em from the edge of a letter to the edge of the next: two cells, no two words
_NUMBERING = re.compile(
    r"(?:(?:item|part|note|chapter|section|article|appendix)\s)?[\divxlca-h.()]{1,6}[.)]?$", re.I
)
_BOLD = re.compile(rb"bold|black|heavy|demi|-bd|medi(?!um)|cmbx|cmssbx|sfbx", re.IGNORECASE)
_FORCE_BOLD = 1 << 18  # of the font descriptor's flags, ISO 32000-1, table 123
_FIXED_PITCH = 1  # the same table; fonts without a descriptor tell it by their names only
_MONOSPACED = re.compile(rb"courier|mono|consolas|typewriter|cmtt|menlo|fixed", re.IGNORECASE)
_INVISIBLE = pdfium_c.FPDF_TEXTRENDERMODE_INVISIBLE
_LOOSE = 0.54  #: em a letter, on average; prose takes less (a wide letter counts twice)
_BETWEEN_CELLS = 0.8  #: em from the edge of a letter to the edge of the next
_SPACES = re.compile(r"\s+")
_WIDE = re.compile("[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff00-\uff60\uffe0-\uffe6]")
_FIGURES_END = "0123456789)%—–-"


@dataclass(frozen=True, slots=True)
class Cell:
    """A part of a line that stands apart from its neighbours; lengths in points."""

    left: float
    right: float
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a page as pdfium sees it; lengths in points."""

    text: str  #: as extracted, with the white space around it
    size: float  #: of its type; 0 for a blank line
    bold: bool
    x: float
    right: float  #: where its last character begins
    y: float  #: of its baseline, from the page's lower edge
    hidden: bool  #: drawn with neither fill nor stroke
    cells: bool  #: wide gaps in it, or type that changes: a row of a table
    first: int = -1  #: number of its first glyph on the page
    apart: tuple[Cell, ...] = ()  #: its parts, where it has several


def units(text: str) -> int:
    """Its length as pdfium counts: UTF-16 units, of which a character beyond U+FFFF takes two."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


class Lines:
    """Reads the lines of pages; its buffers are used again for each."""

    def __init__(self) -> None:
        self._x, self._y = ctypes.c_double(), ctypes.c_double()
        self._right, self._bottom = ctypes.c_double(), ctypes.c_double()
        self._matrix = pdfium_c.FS_MATRIX()
        self._flags = ctypes.c_int()
        self._font = ctypes.create_string_buffer(128)
        self._bold: dict[tuple[bytes, int], bool] = {}
        self._usual: Counter[float] = Counter()  #: characters of each size, on the pages read so far

    def read(self, glyphs: Any, text: str) -> list[Line]:
        """The lines of a page's text, in its order; their texts joined by `LINE_END` are `text`.

        Args:
            glyphs: pypdfium2's text page.
            text: what `get_text_range` gave of it.
        """
        lines: list[Line] = []
        at = 0
        for written in text.split(LINE_END):
            words = written.strip()
            first = at + units(written[: written.index(words[0])]) if words else 0
            at += units(written) + len(LINE_END)
            first = pdfium_c.FPDFText_GetCharIndexFromTextIndex(glyphs, first) if words else -1
            if first < 0:
                lines.append(Line(written, 0.0, False, 0.0, 0.0, 0.0, False, False))
                continue
            size = self._size(glyphs, first)
            self._usual[size] += len(words)
            x, y = self._place(glyphs, first)
            right, level = self._place(glyphs, first + units(words) - 1)
            drawn = pdfium_c.FPDFText_GetTextObject(glyphs, first)
            hidden = bool(drawn) and pdfium_c.FPDFTextObj_GetTextRenderMode(drawn) == _INVISIBLE
            # A line that is not level is a label on its side.
            bold, tilted = self._is_bold(glyphs, first), abs(level - y) > size
            loose = not tilted and _is_loose(words, right - x, size)
            apart = tuple(self._apart(glyphs, first, words, size)) if loose else ()
            lines.append(Line(written, size, bold, x, right, y, hidden, tilted, first, apart))
        self._look_beside(glyphs, lines)
        usual = self._usual.most_common(1)[0][0] if self._usual else 0.0
        for number, line in enumerate(lines):
            if (
                (line.bold or line.size > usual)
                and not line.cells
                and len(line.text) <= LONGEST_HEADING
                and (
                    _has_gaps(line)
                    or self._type_changes(glyphs, line.first, line.text.strip(), line.size, line.bold)
                )
            ):
                lines[number] = replace(line, cells=True)
        return lines

    def _look_beside(self, glyphs: Any, lines: list[Line]) -> None:
        """Look for gaps in the lines next to rows of a table, too: heads of narrow columns stand close."""
        rows = [at for at, line in enumerate(lines) if line.apart]
        for at in {beside for row in rows for beside in (row - 1, row + 1) if 0 <= beside < len(lines)}:
            line = lines[at]
            if line.first < 0 or line.apart or line.cells:
                continue
            if apart := tuple(self._apart(glyphs, line.first, line.text.strip(), line.size)):
                lines[at] = replace(line, apart=apart)

    def _apart(self, glyphs: Any, first: int, text: str, size: float) -> Iterator[Cell]:
        """The parts of a line; none of one in a fixed pitch, where white space is code's."""
        pdfium_c.FPDFText_GetFontInfo(glyphs, first, self._font, len(self._font), self._flags)
        if self._flags.value & _FIXED_PITCH or _MONOSPACED.search(self._font.value):
            return
        start, plain = 0, text.isascii()
        left = self._edges(glyphs, first)[0]
        for space in _SPACES.finditer(text):
            end, begin = space.span()
            at, after = (end, begin) if plain else (units(text[:end]), units(text[:begin]))
            right = self._edges(glyphs, first + at - 1)[1]
            following = self._edges(glyphs, first + after)[0]
            if following - right > _BETWEEN_CELLS * size:
                yield Cell(left, right, text[start:end])
                left, start = following, begin
        if start:
            yield Cell(left, self._edges(glyphs, first + units(text) - 1)[1], text[start:])

    def gaps(self, glyphs: Any, first: int, line: str, em: float) -> list[tuple[int, int]]:
        """Where white space of a line is wide: (start, end) in the line, which begins at glyph `first`."""
        found: list[tuple[int, int]] = []
        plain = line.isascii()
        for space in _SPACES.finditer(line):
            start, end = space.span()
            at, after = (start, end) if plain else (units(line[:start]), units(line[:end]))
            before = self._place(glyphs, first + at - 1)[0]
            if self._place(glyphs, first + after)[0] - before > em:
                found.append((start, end))
        return found

    def part(self, glyphs: Any, first: int, text: str, whole: Line) -> Line:
        """A part of a line, which begins at glyph `first`, as a line of its own."""
        x, y = self._place(glyphs, first)
        right = self._place(glyphs, first + units(text) - 1)[0]
        size, bold = self._size(glyphs, first), self._is_bold(glyphs, first)
        return Line(text, size, bold, x, right, y, whole.hidden, False)

    def _size(self, glyphs: Any, index: int) -> float:
        """As drawn: the font's size is often 1, and a matrix makes it larger."""
        size = pdfium_c.FPDFText_GetFontSize(glyphs, index)
        pdfium_c.FPDFText_GetMatrix(glyphs, index, self._matrix)
        return round(2 * float(size) * float((self._matrix.c**2 + self._matrix.d**2) ** 0.5)) / 2

    def _place(self, glyphs: Any, index: int) -> tuple[float, float]:
        pdfium_c.FPDFText_GetCharOrigin(glyphs, index, self._x, self._y)
        return self._x.value, self._y.value

    def _edges(self, glyphs: Any, index: int) -> tuple[float, float]:
        """The left and the right edge of what is drawn of a character."""
        pdfium_c.FPDFText_GetCharBox(glyphs, index, self._x, self._right, self._bottom, self._y)
        return self._x.value, self._right.value

    def _is_bold(self, glyphs: Any, index: int) -> bool:
        pdfium_c.FPDFText_GetFontInfo(glyphs, index, self._font, len(self._font), self._flags)
        font = (self._font.value, self._flags.value)
        if font not in self._bold:
            self._bold[font] = bool(font[1] & _FORCE_BOLD) or _BOLD.search(font[0]) is not None
        return self._bold[font]

    def _type_changes(self, glyphs: Any, first: int, line: str, size: float, bold: bool) -> bool:
        """Whether size or weight change within a line."""
        middle = (
            first + units(line[: line.rindex(" ", 0, len(line) // 2 + 1) + 1])
            if " " in line[: len(line) // 2 + 1]
            else first
        )
        if self._size(glyphs, middle) != size:  # not at the end, where a footnote's mark may stand
            return True
        return any(self._is_bold(glyphs, at) != bold for at in (middle, first + units(line) - 1))


def _has_gaps(line: Line) -> bool:
    """Whether parts of a line stand as far apart as cells do; a heading's number may stand so."""
    gaps = [after.left - before.right > _GAP * line.size for before, after in pairwise(line.apart)]
    if gaps and gaps[0] and _NUMBERING.match(line.apart[0].text):
        gaps = gaps[1:]
    return any(gaps)


def _is_loose(text: str, width: float, size: float) -> bool:
    """Whether gaps are looked for: a line is wider than its letters take in prose, or ends in a figure."""
    letters = len(text) if text.isascii() else len(text) + len(_WIDE.findall(text))
    return width > _LOOSE * size * letters or (width > size * letters / 3 and text[-1] in _FIGURES_END)


def hidden(lines: Sequence[Line], *, pictured: bool) -> list[int]:
    """The hidden lines of a page; none where they are what OCR has read on its picture."""
    found = [at for at, line in enumerate(lines) if line.hidden]
    unseen = sum(len(lines[at].text.strip()) for at in found)
    seen = sum(len(line.text.strip()) for line in lines) - unseen
    return [] if not seen or (pictured and unseen > seen) else found


def without(lines: Sequence[Line], drop: Iterable[int]) -> list[Line]:
    """The lines that stay."""
    gone = set(drop)
    return [line for at, line in enumerate(lines) if at not in gone]
