"""Tables of a PDF, told by how its lines are set, as Markdown.

A PDF has no tables, only text that stands in columns. What is taken for one: lines with wide gaps, one below
the other, whose parts fall into the same columns. Lines of names between them are rows without figures; lines
above them that stand over the columns are their header. In doubt lines stay lines: a table that was missed
reads as it is drawn, row by row, while prose in a table's bars would be harmed.

Nothing is dropped or said twice, and nothing is added but bars and dashes: words over several columns stand
at the first of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from ingest.parse.pdf_cells import (
    Columns,
    Row,
    all_figures,
    collide,
    column_at,
    columns_of,
    header_rows,
    header_words,
    in_columns,
    is_figure,
    joined_rows,
    markdown,
    rows_of,
)
from ingest.parse.pdf_columns import is_prose
from ingest.parse.pdf_layout import LINE_END, Cell, Line

FEWEST_ROWS = 3  #: with two or more parts; two are enough for a header over one row of figures
MOST_COLUMNS = 30  #: more are a drawing's labels
_CURRENCY = re.compile(r"[A-Z]{0,3}[$€£¥]")
_CLOSING = re.compile(r"[)%]{1,3}")
_BULLET = re.compile(r"[^\w\s(]|\(?(?:\d{1,3}|[a-z]|[ivx]{1,5})[.)]", re.I)
MOST_BETWEEN = 40  #: lines of one part between two rows
_DROP = 3.2  #: times its type's size from a row to the next one
_HIGHEST_HEADER = 6.5  #: times its type's size
_NARROW = 0.75  #: of the table's width that a line of one part may take in it


@dataclass(frozen=True, slots=True)
class Table:
    """Lines `first` to `last` of a page, the last one included, as a Markdown table."""

    first: int
    last: int
    text: str


def with_tables(lines: Sequence[Line], rules: Sequence[float] = ()) -> tuple[list[Line], list[Line]]:
    """The lines with each table as one of them, for the text; and as they were, rows marked, for headings.

    Args:
        lines: of one page, in the reader's order, with their parts.
        rules: heights at which lines are drawn across, in points from the page's lower edge.
    """
    tables = find(lines, rules)
    if not tables:
        return list(lines), list(lines)
    text: list[Line] = []
    marked = list(lines)
    at = 0
    for table in tables:
        text += lines[at : table.first]
        text.append(replace(lines[table.first], text=f"{LINE_END}{table.text}{LINE_END}", cells=True))
        for number in range(table.first, table.last + 1):
            marked[number] = replace(lines[number], cells=True)
        at = table.last + 1
    return [*text, *lines[at:]], marked


def find(lines: Sequence[Line], rules: Sequence[float] = ()) -> list[Table]:
    """The tables of a page, in order."""
    if sum(bool(line.apart) for line in lines) < 2:
        return []
    page = _Page(lines, rules)
    found: list[Table] = []
    for first, last in page.regions():
        found += page.tables(first, last, found[-1].last + 1 if found else 0)
    return found


def wants_rules(lines: Sequence[Line]) -> bool:
    """Whether there are rows of words, which may run over several lines: drawn lines tell them apart."""
    rows = [line.apart for line in lines if line.apart]
    return len(rows) >= FEWEST_ROWS and sum(map(_has_figure, rows)) < 0.4 * len(rows)


def _has_figure(cells: Sequence[Cell]) -> bool:
    return any(is_figure(cell.text) for cell in reversed(cells))


def _joined(line: Line) -> list[Cell]:
    """The parts of a line; a currency sign, a percent sign or a bullet is no part of its own."""
    if not line.apart:
        return [Cell(line.x, line.right + 0.5 * line.size, line.text.strip())] if line.size else []
    cells: list[Cell] = []
    for cell in line.apart:
        before = cells[-1] if cells else None
        if before and (_CURRENCY.fullmatch(before.text) or _CLOSING.fullmatch(cell.text)):
            cells[-1] = Cell(before.left, cell.right, before.text + cell.text)
        elif before and len(cells) == 1 and before.text not in "—–-" and _BULLET.fullmatch(before.text):
            cells[-1] = Cell(before.left, cell.right, f"{before.text} {cell.text}")
        else:
            cells.append(cell)
    return cells


class _Page:
    """The lines of a page, with their cells."""

    def __init__(self, lines: Sequence[Line], rules: Sequence[float]) -> None:
        self.lines, self.rules = lines, rules
        self.cells = [_joined(line) for line in lines]

    def regions(self) -> list[tuple[int, int]]:
        """First and last row with several cells, of rows that may be one table."""
        regions: list[tuple[int, int]] = []
        first = last = -1
        left = right = 0.0
        for at, cells in enumerate(self.cells):
            if len(cells) < 2:
                continue
            low, high = min(left, cells[0].left), max(right, cells[-1].right)
            if first >= 0 and self._goes_on(last, at, high - low):
                left, right = low, high
            else:
                if first >= 0:
                    regions.append((first, last))
                first, left, right = at, cells[0].left, cells[-1].right
            last = at
        return [*regions, (first, last)] if first >= 0 else regions

    def _goes_on(self, last: int, at: int, width: float) -> bool:
        """Whether row `at` is of the table of row `last`: below it, only narrow lines between them."""
        between = [number for number in range(last + 1, at) if self.cells[number]]
        high, low = self.lines[last].y, self.lines[at].y
        size = max(self.lines[last].size, self.lines[at].size)
        levels = {round(self.lines[number].y / 2) for number in between}
        return (
            -0.5 * size <= high - low <= _DROP * size * (1 + len(levels))
            and len(between) <= MOST_BETWEEN
            and all(
                self._width(number) <= _NARROW * width
                and low - 0.5 * size <= self.lines[number].y <= high + 1.5 * size
                for number in between
            )
        )

    def _width(self, at: int) -> float:
        return self.cells[at][-1].right - self.cells[at][0].left

    def tables(self, first: int, last: int, free: int) -> list[Table]:
        """The table of a region; where it is none, those of the two sides of its widest step.

        Args:
            first: its first row with several cells.
            last: its last one.
            free: the first line that is of no table yet.
        """
        made = self._table(first, last, free)
        if made:
            return [made]
        rows = [at for at in range(first, last + 1) if len(self.cells[at]) >= 2]
        if len(rows) < 2 * FEWEST_ROWS:
            return []
        steps = [(self.lines[a].y - self.lines[b].y, a, b) for a, b in pairwise(rows)]
        widest, above, below = max(steps)
        if widest < 1.4 * median(step for step, _, _ in steps):
            return []
        upper = self.tables(first, above, free)
        return upper + self.tables(below, last, upper[-1].last + 1 if upper else free)

    def _table(self, first: int, last: int, free: int) -> Table | None:
        """The table whose rows are between two lines, with the header that stands above them."""
        rows = [cells for cells in self.cells[first : last + 1] if len(cells) >= 2]
        if len(rows) < FEWEST_ROWS and not (
            len(rows) == 2 and len(rows[1]) >= 3 and all_figures(rows[1][1:])
        ):
            return None
        figured = [row for row in rows if _has_figure(row)]
        body = figured if len(figured) >= max(1, 0.4 * len(rows)) else rows[1:]
        columns = columns_of(body)
        if not 2 <= len(columns) <= MOST_COLUMNS:
            return None
        places = [[column_at(cell, columns) for cell in row] for row in body]
        if collide(places) or (len(columns) <= 3 and _reads_on(body, places, len(columns))):
            return None
        named = not all_figures([row[0] for row, at in zip(body, places, strict=True) if at[0] == 0])
        first = self._header_from(first, free, columns, named=named)
        foot = self.lines[last]
        while last + 1 < len(self.lines) and abs(self.lines[last + 1].y - foot.y) < 0.5 * foot.size:
            last += 1  # of the last row, though drawn apart from it
        levels = rows_of(
            [(self.lines[at], self.cells[at]) for at in range(first, last + 1) if self.cells[at]]
        )
        if not _fits(levels, columns):
            return None
        heads = header_rows(levels, columns)
        body_rows = levels[heads or 0 :]
        joined = joined_rows(body_rows, [in_columns(row, columns) for row in body_rows], self.rules)
        if heads is not None:  # else the first row names the columns
            joined.insert(0, header_words(levels[:heads], columns, named=named))
        return Table(first, last, markdown(joined))

    def _header_from(self, first: int, free: int, columns: Columns, *, named: bool) -> int:
        """The first line of the header: lines above the rows that stand over columns, but that of names."""
        row = self.lines[first]
        left = columns[0][1] if named else columns[0][0] - row.size
        width = columns[-1][1] - columns[0][0]
        start = first
        for at in range(first - 1, free - 1, -1):
            if not self.cells[at]:
                continue
            begin, end = self.cells[at][0].left, self.cells[at][-1].right
            height = self.lines[at].y - row.y
            if height < -2 or height > _HIGHEST_HEADER * row.size or end - begin > _NARROW * width:
                break
            if begin >= left and end <= columns[-1][1] + 3 * row.size:
                start = at
            elif height > 2.5 * row.size or end > columns[0][1]:
                break
        return start


def _reads_on(rows: Sequence[Sequence[Cell]], places: Sequence[Sequence[int]], columns: int) -> bool:
    """Whether these are columns of prose."""
    texts: list[list[str]] = [[] for _ in range(columns)]
    for row, at in zip(rows, places, strict=True):
        for cell, number in zip(row, at, strict=True):
            texts[number].append(cell.text)
    return all(column and is_prose(column) for column in texts)


def _fits(rows: Sequence[Row], columns: Columns) -> bool:
    """Whether the single lines in it are names, or stand over one of its columns."""
    single = [row.cells[0] for row in rows if len(row.cells) == 1]
    width = columns[-1][1] - columns[0][0]
    return len(single) <= 0.6 * len(rows) + 2 and all(
        cell.right - cell.left <= _NARROW * width for cell in single
    )
