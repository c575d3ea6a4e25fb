"""The whole table that a passage has rows of, from the stored document: all its rows, not only those found.

Invariant: rows and cells are spans of the grid's own hit, whose text is the document's at its offsets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ingest.errors import UnknownDocument
from ingest.types import Document, Hit
from ingest.widening import Parsed, around
from service import cells
from service.tables import values

#: Larger tables are not gone through for a question.
MOST_CHARACTERS, MOST_ROWS = 200_000, 2_000

_NAME = re.compile(r"(?<=[\u3400-\u9fff])(?:名称|名稱|名字|名)$|(?<=\w) (?:name|title)$")
#: Above the first column of a table that stands on its side: what things have, and a column for each of them.
_ON_ITS_SIDE = re.compile(
    r"|propert(?:y|ies)|features?|spec(?:ification)?s?|attributes?|parameters?|characteristics?|criteri(?:on|a)"
    r"|aspects?|details?|项目|項目|参数|參數|属性|屬性|规格|規格|指标|指標|特征|特徵|对比项|對比項|功能",
    re.IGNORECASE,
)
_BRACKETS = re.compile(r"\s*[(（\[][^()（）\[\]]*[)）\]][\s*`]*$")


@dataclass(frozen=True, slots=True)
class Grid:
    """A whole table: every row has a cell for every column."""

    hit: Hit  #: its text is the table
    names: tuple[tuple[str, ...], ...]  #: of each column, its names: whole first, then shorter ones
    headers: tuple[str, ...]  #: as they are written
    rows: tuple[cells.Row, ...]
    document: Document
    lines: tuple[cells.Row, ...] = ()  #: of a table turned upright: the line of each column

    def cell(self, row: int, column: int) -> str:
        """What stands there, as it is written."""
        start, end = self.rows[row].cells[column]
        return self.hit.text[start:end]

    def column(self, at: int) -> tuple[str, ...]:
        """The cells of a column."""
        return tuple(self.cell(row, at) for row in range(len(self.rows)))

    def cited(self, first: int, last: int, column: int) -> tuple[Hit, int, int]:
        """The stretch from one row to another, of a turned table a line, with the pages that it is on."""
        start, end = self.rows[first].start, self.rows[last].end
        if self.lines:
            start, end = self.lines[column].start, self.lines[column].end
        place = around(self.document, self.hit.char_start + start, self.hit.char_start + end, 0)
        return replace(self.hit, page_first=place.page_first, page_last=place.page_last), start, end


def grids(hits: Sequence[Hit], parsed: Parsed) -> list[Grid]:
    """The whole tables that these passages have rows of, each once, in the order of the passages."""
    found: list[Grid] = []
    seen: set[tuple[str, int]] = set()
    for hit in hits:
        starts = [table.rows[0].start for table in cells.tables(hit, parsed)]
        if not starts:
            continue
        try:
            document = parsed(hit.document_id)
        except UnknownDocument:
            continue
        if document.text[hit.char_start : hit.char_end] != hit.text:
            continue  # it has changed since the search
        for start in starts:
            first, last = _around(document.text, hit.char_start + start)
            if last - first > MOST_CHARACTERS or (hit.document_id, first) in seen:
                continue
            seen.add((hit.document_id, first))
            grid = _grid(
                replace(hit, text=document.text[first:last], char_start=first, char_end=last), document
            )
            found += [one for one in (grid, upright(grid) if grid else None) if one is not None]
    return found


def _around(text: str, at: int) -> tuple[int, int]:
    """The lines around `at` that begin with a bar, as far as they are of one table."""
    first = text.rfind("\n", 0, at) + 1
    while first > 0:
        before = text.rfind("\n", 0, first - 1) + 1
        if not text[before:first].lstrip(" \t").startswith("|") or at - before > MOST_CHARACTERS:
            break
        first = before
    last = at
    while last < len(text):
        end = text.find("\n", last)
        end = len(text) if end < 0 else end
        if not text[last:end].lstrip(" \t").startswith("|") or end - at > MOST_CHARACTERS + 1:
            break
        last = min(end + 1, len(text))
    return first, last - 1 if text[last - 1 : last] == "\n" else last


def _grid(hit: Hit, document: Document) -> Grid | None:
    """The table of a text that is one; None where it is not, or its rows are not of one width."""
    tables = cells.tables(hit)
    if len(tables) != 1:
        return None
    [table] = tables
    rows = list(table.rows)
    if len(rows) + 2 != len(hit.text.splitlines()) or len(rows) > MOST_ROWS:
        return None
    if any(len(row.cells) != len(table.header) for row in rows):
        return None
    assert table.first is not None
    headers = [hit.text[start:end] for start, end in table.first.cells]
    names = [_names(header) for header in headers]
    above = ""
    for at, name in enumerate(table.header if len(rows) > 1 and _goes_on(hit, table.header, rows[0]) else ()):
        above = name or above  # a name over several columns stands over the first of them
        names[at] = names[at] or ((above,) if above else ())
    while len(rows) > 1 and _goes_on(hit, table.header, rows[0]):
        for at, (start, end) in enumerate(rows.pop(0).cells):
            headers[at] = hit.text[start:end] or headers[at]
            below = _names(hit.text[start:end])
            if below and below[0] not in names[at]:
                names[at] = (*(f"{name} {below[0]}" for name in names[at][:1]), *below)
    return Grid(hit, tuple(names), tuple(headers), tuple(rows), document)


def upright(grid: Grid) -> Grid | None:
    """A table of what things have, a column for each of them, with a row for each; None where it is none."""
    [header] = [table.first for table in cells.tables(grid.hit)]
    if header is None or not _ON_ITS_SIDE.fullmatch(cells.plain(grid.headers[0])) or len(grid.names) < 3:
        return None
    lines = (header, *grid.rows)
    if len(lines) != len(grid.hit.text.splitlines()) - 1:
        return None  # its header has several lines
    labels = [grid.hit.text[slice(*line.cells[0])] for line in lines]
    if len({*labels}) < len(labels) or not all(labels[1:]):
        return None
    rows = tuple(
        cells.Row(header.start, lines[-1].end, tuple(line.cells[at] for line in lines))
        for at in range(1, len(grid.names))
    )
    return Grid(grid.hit, tuple(map(_names, labels)), tuple(labels), rows, grid.document, lines)


def _names(header: str) -> tuple[str, ...]:
    """A column's name as it is written, without a unit in brackets, and what it is the name of."""
    name = cells.plain(header)
    bare = cells.plain(_BRACKETS.sub("", header))
    thing = _NAME.sub("", bare)
    return tuple(dict.fromkeys(one for one in (name, bare, thing) if one))


def _goes_on(hit: Hit, header: Sequence[str], row: cells.Row) -> bool:
    """Whether a row is the header's second line: it says again what stands above it, and no value."""
    told = [cells.plain(hit.text[start:end]) for start, end in row.cells]
    again = any(name and name == below for name, below in zip(header, told, strict=True))
    return again and not any(below and values.column([below]) for below in told)
