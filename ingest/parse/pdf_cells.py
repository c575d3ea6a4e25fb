"""Columns, header and rows of one table of a PDF, from the places of its cells.

Columns are what no cell's edge crosses, a header is what stands above the first figures, and a row goes on
over several lines where drawn lines or the distance of lines say so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from ingest.parse.blocks import one_cell
from ingest.parse.pdf_layout import Cell, Line

Columns = Sequence[tuple[float, float]]  #: left and right edge of each, in points

_FIGURE = re.compile(
    r"[-+(–]*\s?(?:[A-Z]{0,3}[$€£¥])?\s?[-+(–]?\d[\d.,]*\s?[%)xX]{0,3}|[—–-]|\(?n/?[am]\)?|nil", re.I
)
_YEAR = re.compile(r"(?:19|20)\d\d")
_CLOSE = 9.0  #: points between two columns that may be one


@dataclass(slots=True)
class Row:
    """What stands on one baseline."""

    y: float
    size: float
    cells: list[Cell]


def is_figure(text: str) -> bool:
    """Whether a cell is an amount, a share or a dash; a year is a name."""
    return _FIGURE.fullmatch(text) is not None and not _YEAR.fullmatch(text)


def all_figures(cells: Sequence[Cell]) -> bool:
    """Whether most cells are figures."""
    return bool(cells) and sum(is_figure(cell.text) for cell in cells) > 0.6 * len(cells)


def columns_of(rows: Sequence[Sequence[Cell]]) -> list[tuple[float, float]]:
    """Where columns stand: what no cell covers lies between them; some cells may reach over if need be."""
    usual = median(map(len, rows))
    found: list[tuple[float, float]] = []
    for over in (0, len(rows) // 10, len(rows) // 5):
        edges = sorted(
            [(cell.left, 1) for row in rows for cell in row]
            + [(cell.right, -1) for row in rows for cell in row]
        )
        found, depth, start = [], 0, 0.0
        for x, step in edges:
            if step > 0 and depth == over:
                start = x
            if step < 0 and depth == over + 1:
                found.append((start, x))
            depth += step
        if len(found) >= usual:
            break
    return _closed(rows, found)


def _closed(rows: Sequence[Sequence[Cell]], columns: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Neighbours that stand close and that no row fills both are one: a dash is centred, a figure is not."""
    out = columns[:1]
    for left, right in columns[1:]:
        before = out[-1]
        inside = [
            {(cell.left >= left) for cell in row if cell.left >= before[0] and cell.right <= right}
            for row in rows
        ]
        if len(out) > 1 and left - before[1] < _CLOSE and all(len(sides) < 2 for sides in inside):
            out[-1] = (before[0], right)
        else:
            out.append((left, right))
    return out


def column_at(cell: Cell, columns: Columns) -> int:
    """The column that a cell's middle stands in, else the one that it shares most with, else the nearest."""
    middle = (cell.left + cell.right) / 2
    best, most = 0, (-1.0, 0.0)
    for number, (left, right) in enumerate(columns):
        if left <= middle <= right:
            return number
        share = (max(0.0, min(right, cell.right) - max(left, cell.left)), -abs((left + right) / 2 - middle))
        if share > most:
            best, most = number, share
    return best


def collide(places: Sequence[Sequence[int]]) -> bool:
    """Whether too many rows have two parts in one column: then these are no columns."""
    return sum(len(set(row)) < len(row) for row in places) > 0.2 * len(places)


def rows_of(lines: Sequence[tuple[Line, list[Cell]]]) -> list[Row]:
    """Baselines from top to bottom, their cells from left to right; a footnote's mark is on its line."""
    rows: list[Row] = []
    for line, cells in sorted(lines, key=lambda pair: -pair[0].y):
        size = max(line.size, rows[-1].size) if rows else line.size
        if rows and rows[-1].y - line.y < 0.5 * size:
            rows[-1].cells += cells
            rows[-1].size = size
        else:
            rows.append(Row(line.y, line.size, list(cells)))
    for row in rows:
        row.cells.sort(key=lambda cell: cell.left)
    return rows


def header_rows(rows: Sequence[Row], columns: Columns) -> int | None:
    """How many of the rows are the header: those before the first with figures; None if there are none."""
    for number, row in enumerate(rows[:8]):
        figures = [column_at(cell, columns) for cell in row.cells if is_figure(cell.text)]
        if len(figures) >= 2 or (figures and len(row.cells) >= 2 and column_at(row.cells[0], columns) == 0):
            above = number
            while above and _is_name(rows[above - 1], columns):
                above -= 1  # names above the first figures are rows of their own
            return above
    return None


def _is_name(row: Row, columns: Columns) -> bool:
    return len(row.cells) == 1 and column_at(row.cells[0], columns) == 0


def header_words(rows: Sequence[Row], columns: Columns, *, named: bool) -> list[str]:
    """The words over each column, from top to bottom; those over several stand at the first of them."""
    words: list[list[str]] = [[] for _ in columns]
    for row in rows:
        for cell, number in _spans(row, columns, first=int(named)):
            words[number].append(cell.text)
    return [" ".join(column) for column in words]


def _spans(row: Row, columns: Columns, *, first: int) -> list[tuple[Cell, int]]:
    """The first column that each cell of a header's row stands over; `first` is the first but for names.

    Cells that stand in the middle of equally many columns each are over all of those, however short they are.
    """
    above = [cell for cell in row.cells if not first or cell.left > columns[0][1]]
    each, odd = divmod(len(columns) - first, max(1, len(above)))
    blocks = [range(first + each * n, first + each * (n + 1)) for n in range(len(above))]

    def is_centred(cell: Cell, block: range) -> bool:
        left, right = columns[block[0]][0], columns[block[-1]][1]
        return abs((left + right) / 2 - (cell.left + cell.right) / 2) < 0.25 * (right - left)

    spread = each > 1 and not odd and all(map(is_centred, above, blocks))
    found: list[tuple[Cell, int]] = []
    for cell in row.cells:
        if spread and cell in above:
            found.append((cell, blocks[above.index(cell)][0]))
            continue
        own = column_at(cell, columns)
        covered = [
            number
            for number, (left, right) in enumerate(columns)
            if number >= first and min(right, cell.right) - max(left, cell.left) > 0.25 * (right - left)
        ]
        found.append((cell, covered[0] if own in covered else own))
    return found


def in_columns(row: Row, columns: Columns) -> list[str]:
    """The row's text in each column."""
    texts: list[list[str]] = [[] for _ in columns]
    for cell in row.cells:
        alone = len(row.cells) == 1 and cell.left <= columns[0][1]
        texts[0 if alone else column_at(cell, columns)].append(cell.text)
    return [" ".join(words) for words in texts]


def joined_rows(rows: Sequence[Row], placed: Sequence[list[str]], rules: Sequence[float]) -> list[list[str]]:
    """Rows whose cells run over several lines as one row each: told by drawn lines, or by steps."""
    if len(rows) < 2:
        return [list(row) for row in placed]
    bounds = sorted(
        (y for y in rules if rows[-1].y - rows[-1].size < y < rows[0].y + rows[0].size), reverse=True
    )
    ruled = _groups(rows, lambda above, below: any(below.y + 0.2 * below.size < y < above.y for y in bounds))
    if len(bounds) >= 2 and _may_merge(ruled, placed):
        return [_as_one(placed[a:b]) for a, b in ruled]
    steps = [above.y - below.y for above, below in pairwise(rows)]
    apart = 1.25 * min(steps)
    spaced = _groups(rows, lambda above, below: above.y - below.y > apart)
    inner = [number for a, b in spaced for number in range(a + 1, b)]
    if (
        len(spaced) >= 2
        and inner
        and _may_merge(spaced, placed)
        and all(sum(map(bool, placed[number])) < len(placed[number]) for number in inner)
        and all(placed[a][0] for a, _ in spaced)
        and sum(not placed[number][0] for number in inner) >= 0.5 * len(inner)
    ):
        return [_as_one(placed[a:b]) for a, b in spaced]
    out: list[list[str]] = [list(placed[0])]
    usual = median(steps)
    for step, row in zip(steps, placed[1:], strict=True):
        if step < 0.8 * usual and out[-1][0] and not any(out[-1][1:]) and row[0]:  # a name of two lines
            out[-1] = _as_one([out[-1], row])
        else:
            out.append(list(row))
    return out


def _groups(rows: Sequence[Row], divided: Callable[[Row, Row], bool]) -> list[tuple[int, int]]:
    starts = [0, *(n + 1 for n, (above, below) in enumerate(pairwise(rows)) if divided(above, below))]
    return list(pairwise([*starts, len(rows)]))


def _may_merge(groups: Sequence[tuple[int, int]], placed: Sequence[list[str]]) -> bool:
    """Whether each group may be one row: a figure does not run over two lines."""
    return all(
        b - a <= 8 and sum(1 for row in placed[a:b] if is_figure(row[number])) <= 1
        for a, b in groups
        for number in range(len(placed[0]))
    )


def _as_one(rows: Sequence[list[str]]) -> list[str]:
    return [" ".join(filter(None, column)) for column in zip(*rows, strict=True)]


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table whose header may be empty: then no row is taken for one."""
    lines = ["| " + " | ".join(map(one_cell, row)) + " |" for row in rows]
    lines.insert(1, "| " + " | ".join(["---"] * len(rows[0])) + " |")
    return "\n".join(lines)
