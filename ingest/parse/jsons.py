r"""JSON, and JSON Lines: values as they read, not as they are escaped.

A document is written out anew, indented and with its characters instead of escapes: one line of minified JSON
or `\u4e2d` is nothing to search. Its outermost keys are sections. JSON Lines are written out record by
record; a list of flat records of the same keys becomes a table. What is no JSON (comments, trailing commas)
is read as text.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ingest.errors import EmptyDocument
from ingest.parse.blocks import Block, assemble
from ingest.parse.plain import read_text
from ingest.parse.source import Source
from ingest.parse.tables import Room, sheet_blocks
from ingest.parse.tidy import one_line, sections_of, tidy
from ingest.types import Document, Section

MOST_COLUMNS = 30
_TITLES = ("title", "name")
#: Noncharacters, which no text has: between them stand numbers that are written as they were.
_MARKS = "\ufdd0\ufdd1"
_NUMBER = re.compile('"\ufdd0([^"]*)\ufdd1"')


def parse(source: Source) -> Document:
    """One file.

    Raises:
        ParseError: it cannot be read.
        EmptyDocument: no text in it.
    """
    text, metadata, warnings = read_text(source, within_lines=True)
    title = one_line(source.stem)
    reading = _Reading()
    is_lines = source.suffix in (".jsonl", ".ndjson")
    try:
        value = reading.lines(text) if is_lines else reading.load(text)
    except (ValueError, RecursionError) as error:
        warnings.append(f"read as plain text: it is no valid JSON ({str(error)[:120]})")
        section = Section((), 0, len(text))
        return Document(text, title, (section,), (), metadata, tuple(warnings))
    warnings += reading.warnings()
    if is_lines:
        metadata["records"] = str(len(value))
    if is_lines or (isinstance(value, list) and _is_table(value)):
        text, is_table, cut = _records(source.name, value, list(reading.broken.values()))
        section = Section((), 0, len(text), "table") if is_table else Section((), 0, len(text))
        return Document(text, title, (section,), (), metadata, (*warnings, *cut))
    if isinstance(value, dict):
        named = next((value[key] for key in _TITLES if isinstance(value.get(key), str)), "")
        title = one_line(named) or title
        written, headings = _members(value)
        sections = sections_of(headings, len(written))
    else:
        written = _written(value)
        sections = (Section((), 0, len(written)),)
    if not any(c.isalnum() for c in written):
        raise EmptyDocument(f"{source.name}: there is no value in it. Nothing to ingest.")
    return Document(written, title, sections, (), metadata, tuple(warnings))


class _Reading:
    """JSON to values, and what was odd about it."""

    def __init__(self) -> None:
        self.doubled: set[str] = set()  #: keys that stand twice in an object
        self.broken: dict[int, str] = {}  #: lines that are no JSON, by their number

    def load(self, written: str) -> Any:
        """One value.

        Raises:
            ValueError: it is none.
        """
        return json.loads(written, parse_float=_as_written, object_pairs_hook=self._members)

    def lines(self, text: str) -> list[Any]:
        """JSON Lines; what is no record is kept apart, unless that is half of them.

        Raises:
            ValueError: the first line that is none.
        """
        records: list[Any] = []
        first: ValueError | None = None
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    records.append(self.load(line))
                except ValueError as error:
                    first = first or error
                    self.broken[number] = line
        if first is not None and len(self.broken) >= len(records):
            raise first
        return records

    def warnings(self) -> list[str]:
        """What to say of it."""
        said = []
        if self.doubled:
            said.append(f"keys that stand twice in one object: {', '.join(sorted(self.doubled))[:200]}")
        if self.broken:
            numbers = ", ".join(map(str, self.broken))[:100]
            said.append(f"lines that are no JSON, kept as they are at the end: {numbers}")
        return said

    def _members(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """An object; of a key that stands there twice both values, the second below another name."""
        found: dict[str, Any] = {}
        for key, value in pairs:
            name, number = key, 1
            while name in found:
                self.doubled.add(key)
                name = f"{key} ({(number := number + 1)})"
            found[name] = value
        return found


def _written(value: object) -> str:
    """Indented JSON without escapes for anything but quotes, backslashes and line ends."""
    return tidy(_NUMBER.sub(r"\1", json.dumps(value, ensure_ascii=False, indent=1)))[0]


def _members(value: dict[str, Any]) -> tuple[str, list[tuple[int, int, str]]]:
    """An object written member by member, and where those that hold more than one value begin."""
    pieces = ["{\n"]
    at = len(pieces[0])
    headings: list[tuple[int, int, str]] = []
    for number, (key, member) in enumerate(value.items()):
        # A simple value after a large one must not stand in the section of the large one.
        headings.append((at, 1, key if isinstance(member, dict | list) and member else ""))
        line = f" {_written(key)}: " + _written(member).replace("\n", "\n ")
        line += ",\n" if number < len(value) - 1 else "\n"
        pieces.append(line)
        at += len(line)
    pieces.append("}")
    return "".join(pieces), headings


def _is_table(value: list[Any]) -> bool:
    """Whether a list holds flat objects that share most of their keys."""
    if len(value) < 2 or not all(isinstance(row, dict) and row for row in value):
        return False
    keys = {key for row in value for key in row}
    flat = all(not isinstance(cell, dict | list) for row in value for cell in row.values())
    return flat and len(keys) <= MOST_COLUMNS and sum(map(len, value)) >= len(keys) * len(value) / 2


def _records(name: str, records: list[Any], broken: list[str]) -> tuple[str, bool, list[str]]:
    """Records as a table where they are one, else one after the other; what is none behind them.

    Returns:
        the text, whether it is a table, and what was left out.
    """
    if not _is_table(records):
        return "\n\n".join([*map(_written, records), *broken]), False, []
    room = Room()
    keys = list(dict.fromkeys(key for record in records for key in record))
    rows = ([_cell(record.get(key)) for key in keys] for record in records)
    taken = room.take(name, (row for row in [keys, *rows]))
    text, _ = assemble([*sheet_blocks("", taken), *map(Block, broken)])
    return text, True, room.cut


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value.strip(_MARKS) if isinstance(value, str) else json.dumps(value)


def _as_written(number: str) -> float | str:
    """A number with a point; between marks as it is written, where Python would not write it so (19.90)."""
    value = float(number)
    return value if repr(value) == number else number.join(_MARKS)
