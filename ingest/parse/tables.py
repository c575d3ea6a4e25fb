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

        Args:
            sheet: its name, for the warning.
            rows: cells as text, "" for none.
        """
        kept: list[list[str]] = []
        used: set[int] = set()
        wide = False
        for row in rows:
            wide = wide or any(row[MOST_COLUMNS:])
            cells = [" ".join(cell.split()) for cell in row[:MOST_COLUMNS]]
            filled = [at for at, cell in enumerate(cells) if cell]
            if not filled:
                continue
            self.cells -= len(filled)
            self.characters -= sum(len(cells[at]) for at in filled)
            if self.cells < 0 or self.characters < 0:
                self.cut.append(f"sheet {sheet!r} was cut after {len(kept):,} rows: too many cells")
                break
            used.update(filled)
            kept.append(cells[: filled[-1] + 1])
        if wide:
            self.cut.append(f"sheet {sheet!r}: columns after the {MOST_COLUMNS:,}th were left out")
        columns = sorted(used)
        return [[row[at] if at < len(row) else "" for at in columns] for row in kept]


def sheet_blocks(name: str, rows: Sequence[Sequence[str]]) -> list[Block]:
    """A sheet as heading, captions and table.

    Rows before the table that fill one cell (a title over the columns) are captions, so that the first row of
    the table is its header.
    """
    blocks = [Block(name, "heading", 1)]
    start = 0
    width = max(map(len, rows), default=0)
    while width > 1 and start < min(len(rows) - 1, 20) and sum(map(bool, rows[start])) == 1:
        caption = next(filter(None, rows[start]))
        blocks += [Block(caption)] if caption != name else []
        start += 1
    return [*blocks, Block(markdown_table(rows[start:]), "table")]
