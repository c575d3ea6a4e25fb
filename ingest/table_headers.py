"""Where Markdown tables stand in a text: a passage that begins in the middle of one is told its header.

A row says little without the names of its columns. The header is put before what is embedded and indexed, as
title and headings are; the passage itself, which is cited, stays what stands in the document.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

#: A line of cells, the line of dashes under it, and all lines of cells that follow.
_TABLE = re.compile(
    r"^(?P<header>[ \t]{0,3}\|[^\n]*)\n"
    r"[ \t]{0,3}\|(?:[ \t]*:?-+:?[ \t]*\|)+[ \t]*"
    r"(?P<body>(?:\n[ \t]{0,3}\|[^\n]*)*)",
    re.MULTILINE,
)
#: Longer headers are not repeated: they would leave no room for rows.
LONGEST = 400


@dataclass(frozen=True, slots=True)
class Table:
    """What follows the header of one table, [start, end) in the text, and that line, which names columns."""

    start: int
    end: int
    header: str


def find(text: str) -> list[Table]:
    """The tables of a text that have rows and a header short enough to be repeated, in order."""
    found: list[Table] = []
    for match in _TABLE.finditer(text):
        header = match["header"].strip()
        if match["body"] and len(header) <= LONGEST and any(c.isalnum() for c in header):
            found.append(Table(match.end("header") + 1, match.end("body"), header))
    return found


def header_at(tables: Sequence[Table], at: int) -> str:
    """The header that a passage which begins at `at` lacks; empty where it lacks none."""
    place = bisect_right(tables, at, key=lambda table: table.start) - 1
    return tables[place].header if place >= 0 and at < tables[place].end else ""
