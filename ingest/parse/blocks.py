"""From blocks (headings, paragraphs, lists, tables) to a stored text with its sections.

The text reads as plain text: headings and paragraphs are set apart by a blank line, list items stand on lines
of their own, tables are Markdown tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ingest.parse.tidy import sections_of, tidy
from ingest.types import Page, Section


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of a document in reading order."""

    text: str
    kind: Literal["paragraph", "heading", "item", "table", "code"] = "paragraph"
    level: int = 0  #: of a heading: 1 is outermost
    link_characters: int = 0  #: how much of it is link text (HTML): menus are nearly all links


def assemble(blocks: Sequence[Block]) -> tuple[str, tuple[Section, ...]]:
    """The stored text and its sections."""
    text, sections, _ = assemble_parts([blocks])
    return text, sections


def assemble_parts(
    parts: Sequence[Sequence[Block]],
) -> tuple[str, tuple[Section, ...], tuple[Page, ...]]:
    """The stored text, its sections, and where each part (a slide) stands in it, as pages."""
    pieces: list[str] = []
    headings: list[tuple[int, int, str]] = []
    pages: list[Page] = []
    length = 0
    before: Block | None = None
    for number, blocks in enumerate(parts, 1):
        start = None
        for block in blocks:
            text = tidy(block.text)[0].rstrip()
            text = text.strip("\n") if block.kind in ("code", "item") else text.strip()
            if not text:
                continue
            if before is not None:
                both_items = before.kind == "item" and block.kind == "item" and start is not None
                gap = "\n" if both_items else "\n\n"
                pieces.append(gap)
                length += len(gap)
            start = length if start is None else start
            if block.kind == "heading":
                headings.append((length, block.level, text))
            pieces.append(text)
            length += len(text)
            before = block
        pages.append(Page(number, length if start is None else start, length))
    return "".join(pieces), sections_of(headings, length), tuple(pages)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first row is its header, rows are filled up to the widest, empty ones left out.

    A table of one column is its cells as paragraphs: it only frames them.
    """
    cleaned = [[one_cell(cell) for cell in row] for row in rows]
    cleaned = [row for row in cleaned if any(row)]
    if not cleaned:
        return ""
    width = max(len(row) for row in cleaned)
    while width > 1 and not any(len(row) >= width and row[width - 1] for row in cleaned):
        width -= 1
    if width == 1:
        return "\n\n".join(row[0].replace("\\|", "|") for row in cleaned if row[0])
    lines = ["| " + " | ".join([*row, *[""] * (width - len(row))][:width]) + " |" for row in cleaned]
    lines.insert(1, "| " + " | ".join(["---"] * width) + " |")
    return "\n".join(lines)


def one_cell(text: str) -> str:
    """Text of a cell on one line, its bars escaped."""
    return " ".join(text.split()).replace("|", "\\|")
