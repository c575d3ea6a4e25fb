"""The lines of a PDF's page: where each stands, how large it is, whether it is bold, hidden or cells.

pdfium gives the text of a page line by line. Of each line a handful of its native calls say where its first
character stands, how large it is and in which font; that costs about a tenth of reading the text. What lines
mean is decided elsewhere: `pdf_running` (headers and footers), `pdf_headings`.
"""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pypdfium2.raw as pdfium_c

LINE_END = "\r\n"
LONGEST_HEADING = 120  #: characters of one line
_GAP = 2.8  #: em from letter to letter over a space, the letter itself included: two cells, no two words
_NUMBERING = re.compile(
    r"(?:(?:item|part|note|chapter|section|article|appendix)\s)?[\divxlca-h.()]{1,6}[.)]?$", re.I
)
_BOLD = re.compile(rb"bold|black|heavy|demi|-bd|medi(?!um)|cmbx|cmssbx|sfbx", re.IGNORECASE)
_FORCE_BOLD = 1 << 18  # of the font descriptor's flags, ISO 32000-1, table 123
_INVISIBLE = pdfium_c.FPDF_TEXTRENDERMODE_INVISIBLE


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


def units(text: str) -> int:
    """Its length as pdfium counts: UTF-16 units, of which a character beyond U+FFFF takes two."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


class Lines:
    """Reads the lines of pages; its buffers are used again for each."""

    def __init__(self) -> None:
        self._x, self._y = ctypes.c_double(), ctypes.c_double()
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
            lines.append(Line(written, size, bold, x, right, y, hidden, tilted, first))
        usual = self._usual.most_common(1)[0][0] if self._usual else 0.0
        for number, line in enumerate(lines):
            if (
                (line.bold or line.size > usual)
                and not line.cells
                and len(line.text) <= LONGEST_HEADING
                and self._has_cells(glyphs, line.first, line.text.strip(), line.size, line.bold)
            ):
                lines[number] = replace(line, cells=True)
        return lines

    def gaps(self, glyphs: Any, first: int, line: str, em: float) -> list[tuple[int, int]]:
        """Where white space of a line is wide: (start, end) in the line, which begins at glyph `first`."""
        found: list[tuple[int, int]] = []
        for space in re.finditer(r"\s+", line):
            before = self._place(glyphs, first + units(line[: space.start()]) - 1)[0]
            if self._place(glyphs, first + units(line[: space.end()]))[0] - before > em:
                found.append(space.span())
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

    def _is_bold(self, glyphs: Any, index: int) -> bool:
        pdfium_c.FPDFText_GetFontInfo(glyphs, index, self._font, len(self._font), self._flags)
        font = (self._font.value, self._flags.value)
        if font not in self._bold:
            self._bold[font] = bool(font[1] & _FORCE_BOLD) or _BOLD.search(font[0]) is not None
        return self._bold[font]

    def _has_cells(self, glyphs: Any, first: int, line: str, size: float, bold: bool) -> bool:
        """Whether its letters stand apart as cells do, or its type changes."""
        middle = (
            first + units(line[: line.rindex(" ", 0, len(line) // 2 + 1) + 1])
            if " " in line[: len(line) // 2 + 1]
            else first
        )
        if self._size(glyphs, middle) != size:  # not at the end, where a footnote's mark may stand
            return True
        if any(self._is_bold(glyphs, at) != bold for at in (middle, first + units(line) - 1)):
            return True
        return any(
            not _NUMBERING.match(line[:start]) for start, _ in self.gaps(glyphs, first, line, _GAP * size)
        )


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
