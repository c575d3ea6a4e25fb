"""Rows of a sheet to a section: empty rows and columns dropped, all as one Markdown table.

A sheet may claim a million cells. What is taken is limited; what is left out is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ingest.parse.blocks import Block, markdown_table

MOST_CELLS = 1_000_000  #: of one file, those without a value not counted
MOST_CHARACTERS = 32_000_000  #: of one file's cells
MOST_COLUMNS = 2_000  #: further ones are left out; a wide sheet is a matrix, no text


class Room:
    """What may still be taken of a file's sheets."""

    def __init__(self) -> None:
        self.cells = MOST_CELLS
        self.characters = MOST_CHARACTERS
        self.cut: list[str] = []

    def take(self, sheet: str, rows: Iterable[Sequence[str]]) -> list[list[str]]:
        """The rows of a sheet that have a value, without the columns that have none, as far as there is room.

        Of empty rows between others one is left, [].

        Args:
            sheet: its name, for the warning.
            rows: cells as text, "" for none.
        """
        kept: list[list[str]] = []
        used: set[int] = set()
        wide = gap = False
        for row in rows:
            wide = wide or any(row[MOST_COLUMNS:])
            cells = [" ".join(cell.split()) for cell in row[:MOST_COLUMNS]]
            filled = [at for at, cell in enumerate(cells) if cell]
            if not filled:
                gap = bool(kept)
                continue
            self.cells -= len(filled)
            self.characters -= sum(len(cells[at]) for at in filled)
            if self.cells < 0 or self.characters < 0:
                self.cut.append(f"sheet {sheet!r} was cut after {len(kept):,} rows: too many cells")
                break
            used.update(filled)
            if gap:
                kept.append([])
            gap = False
            kept.append(cells[: filled[-1] + 1])
        if wide:
            self.cut.append(f"sheet {sheet!r}: columns after the {MOST_COLUMNS:,}th were left out")
        columns = sorted(used)
        return [[row[at] if at < len(row) else "" for at in columns] if row else [] for row in kept]


def sheet_blocks(name: str, rows: Sequence[Sequence[str]]) -> list[Block]:
    """A sheet as heading, captions and table.

    Rows before the table that fill one cell (a title over the columns) are captions, so that the first row of
    the table is its header.
    """
    blocks = [Block(name, "heading", 1)]
    for part in _stacked(rows):
        start = 0
        width = max(map(len, part), default=0)
        while width > 1 and start < min(len(part) - 1, 20) and sum(map(bool, part[start])) == 1:
            caption = next(filter(None, part[start]))
            blocks += [Block(caption)] if caption != name else []
            start += 1
        blocks.append(Block(markdown_table(part[start:]), "table"))
    return blocks


def _stacked(rows: Sequence[Sequence[str]]) -> list[list[Sequence[str]]]:
    """Tables that stand one below the other, parted by an empty row.

    What comes behind one is another table if its first row looks like a header, words only, and has more
    cells than those above: the bookings below an account's few lines. Narrower rows may as well be totals.
    """
    parts: list[list[Sequence[str]]] = [[]]
    for at, row in enumerate(rows):
        if row:
            parts[-1].append(row)
            continue
        after = rows[at + 1] if at + 1 < len(rows) else []
        filled = [cell for cell in after if cell]
        above = max((sum(map(bool, one)) for one in parts[-1]), default=0)
        goes_on = at + 2 < len(rows) and sum(map(bool, rows[at + 2])) > 1
        if above > 1 and goes_on and len(filled) > above and not any(cell[0].isdigit() for cell in filled):
            parts.append([])
    return [_without_empty_columns(part) for part in parts if part]


def _without_empty_columns(rows: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    used = [at for at in range(max(map(len, rows))) if any(at < len(row) and row[at] for row in rows)]
    return [[row[at] if at < len(row) else "" for at in used] for row in rows]
