"""JSON and JSONL files, gzipped or not, to numbered rows.

A file whose first sign is `[` is one JSON list; otherwise every line that is not blank is a row. A line that
is no JSON, or a row that is no object, becomes a `Problem` and the others are still read: whoever asked
decides whether to go on.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.errors import DataError

SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")


@dataclass(frozen=True, slots=True)
class Row:
    """One record; rows of a list count from 1, rows of a JSONL file are its lines."""

    number: int
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one row."""

    file: Path
    row: int
    what: str

    def __str__(self) -> str:
        """FILE, row N: what."""
        return f"{self.file}, row {self.row}: {self.what}"


def read(file: Path) -> tuple[list[Row], list[Problem]]:
    """The rows of a file and what is wrong with the others.

    Raises:
        DataError: no such file, damaged gzip, no UTF-8, no rows at all, or a JSON text that is not a list.
    """
    text = _text(file)
    start = text.lstrip()[:1]
    if not start:
        raise DataError(f"{file} is empty")
    if start == "[":
        try:
            values = list(enumerate(json.loads(text), 1))
        except (ValueError, RecursionError) as error:  # nesting without end is the second
            raise DataError(f"{file} is not valid JSON: {error}") from error
        problems: list[Problem] = []
    else:
        values, problems = _lines(text, file)
    rows = []
    for number, value in values:
        if isinstance(value, dict):
            rows.append(Row(number, value))
        else:
            problems.append(Problem(file, number, f"is {_kind(value)}, not an object with named columns"))
    if not rows:
        raise DataError(f"{file} holds no rows" + (f"; {problems[0]}" if problems else ""))
    return rows, sorted(problems, key=lambda problem: problem.row)


def _lines(text: str, file: Path) -> tuple[list[tuple[int, Any]], list[Problem]]:
    values: list[tuple[int, Any]] = []
    problems = []
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: JSON strings may hold U+2028
        if not line.strip():
            continue
        try:
            values.append((number, json.loads(line)))
        except (ValueError, RecursionError) as error:
            problems.append(Problem(file, number, f"is not valid JSON: {error}"))
    if not values:
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            raise DataError(f"{file} is neither a JSON list nor JSONL; {problems[0]}") from None
        raise DataError(f"{file} is one JSON object; a training set is a list of rows, or one row a line")
    return values, problems


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{file} does not exist") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 (byte {error.start}); convert it first") from error


def _kind(value: object) -> str:
    names = {list: "a list", str: "a string", int: "a number", float: "a number", bool: "true or false"}
    return names.get(type(value), "null")


def first(rows: list[Row], problems: list[Problem], *limits: int | None) -> tuple[list[Row], list[Problem]]:
    """At most so many rows, and what is wrong up to the last of them; without a limit that bites, all."""
    told = [limit for limit in limits if limit is not None]
    if not told or min(told) > len(rows):
        return rows, problems  # else what is wrong behind the last good row would go unsaid
    rows = rows[: min(told)]
    return rows, [problem for problem in problems if problem.row <= rows[-1].number]
