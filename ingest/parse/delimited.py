"""CSV and TSV as one Markdown table, so that rows keep their header; what is no table stays plain text."""

from __future__ import annotations

import csv
import re

from ingest.parse.blocks import assemble
from ingest.parse.plain import read_text
from ingest.parse.source import Source
from ingest.parse.tables import Room, sheet_blocks
from ingest.parse.tidy import one_line
from ingest.types import Document, Section

LONGEST_CELL = 1_000_000
_SAMPLED_LINES = 50
_DELIMITERS = ",;\t|"
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_SEPARATOR = re.compile(r"sep=([,;|\t])\n", re.IGNORECASE)  # Excel's own first line


def parse(source: Source) -> Document:
    """One table.

    Raises:
        ParseError: it cannot be read.
        EmptyDocument: no text in it.
    """
    text, metadata, warnings = read_text(source, within_lines=True)
    title = one_line(source.stem)
    room = Room()
    csv.field_size_limit(LONGEST_CELL)
    if told := _SEPARATOR.match(text):
        text = text[told.end() :]
    delimiter = told[1] if told else _delimiter(text, "\t" if source.suffix == ".tsv" else ",")
    try:
        # Strict: a quote that is never closed would swallow the rest of the file as one cell.
        reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
        rows = room.take(source.name, reader)
    except csv.Error as error:
        warnings.append(f"read as plain text: it is no table ({error})")
        rows = []
    if max(map(len, rows), default=0) < 2:
        section = Section((), 0, len(text))
        return Document(text, title, (section,), (), metadata, tuple(warnings))
    metadata["rows"] = str(sum(map(bool, rows)))
    table, _ = assemble(sheet_blocks("", rows))
    section = Section((), 0, len(table), "table")
    return Document(table, title, (section,), (), metadata, (*warnings, *room.cut))


def _delimiter(text: str, usual: str) -> str:
    """The sign that parts most of the first lines into equally many cells; the usual one if in doubt."""
    bare = _QUOTED.sub('""', text[: 64 * 1024])  # what stands in quotes parts nothing
    lines = [line for line in bare.split("\n")[:_SAMPLED_LINES] if line.strip()]

    def rank(sign: str) -> tuple[float, int, bool]:
        counts = [line.count(sign) for line in lines]
        common = max(set(counts), key=counts.count) if counts else 0
        share = counts.count(common) / len(counts) if common else 0.0
        return share, common, sign == usual

    best = max(_DELIMITERS, key=rank)
    return best if rank(best)[:2] > rank(usual)[:2] else usual
