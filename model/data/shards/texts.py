"""Files and folders to independent texts: raw text, JSON and JSONL, parquet.

A text is what the end-of-text token stands behind: a whole file, a line or a block of lines of a raw text, a
row of the others. Files are read one after the other in the order of their paths, so that the same corpus is
always the same row of texts. What cannot be read (no UTF-8, a row without the column) becomes a line in
`Problems` and the rest goes on: one bad file must not cost a corpus.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from model.data.forms import HALF_CHARACTER
from model.errors import DataError

Separate = Literal["file", "line", "blank"]
TEXT, ROWS, PARQUET = (".txt", ".md", ".text"), (".jsonl", ".json"), (".parquet",)
#: Problems that are kept with their words; more are only counted.
KEPT = 50


@dataclass(slots=True)
class Problems:
    """What was left out, and why."""

    lines: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, line: str) -> None:
        """One more."""
        self.count += 1
        if len(self.lines) < KEPT:
            self.lines.append(line)


def files(paths: Sequence[str | Path]) -> list[Path]:
    """The files of a corpus, folders walked in order; what a folder holds besides texts is passed over.

    Raises:
        DataError: a path that does not exist, or nothing to read.
    """
    found: list[Path] = []
    for path in (Path(given).expanduser() for given in paths):
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and kind(p) is not None)
            if not inside:
                known = ", ".join((*TEXT, *ROWS, *PARQUET))
                raise DataError(f"{path} holds no file with texts; known are {known}, plain or gzipped")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"{path} does not exist")
    return list(dict.fromkeys(path.resolve() for path in found))


def kind(path: Path) -> Literal["text", "rows", "parquet"] | None:
    """What a file is by its name; None where it is not known."""
    suffixes = path.name.lower().removesuffix(".gz")
    for known, what in ((TEXT, "text"), (ROWS, "rows"), (PARQUET, "parquet")):
        if suffixes.endswith(known):
            return what  # type: ignore[return-value]
    return None


def texts(file: Path, *, column: str, separate: Separate, problems: Problems) -> Iterator[str]:
    """The texts of one file, in order, none of them blank; a file of unknown name is read as raw text."""
    what = kind(file) or "text"
    source = {"text": _raw, "rows": _rows, "parquet": _parquet}[what]
    for text in source(file, column if what != "text" else separate, problems):
        if text.strip():
            yield text


def _raw(file: Path, separate: str, problems: Problems) -> Iterator[str]:
    if (text := _decoded(file, problems)) is None:
        return
    if separate == "file":
        yield text
    elif separate == "line":
        yield from text.split("\n")
    else:
        block: list[str] = []
        for line in text.split("\n"):
            if line.strip():
                block.append(line)
            elif block:
                yield "\n".join(block)
                block = []
        yield "\n".join(block)


def _decoded(file: Path, problems: Problems) -> str | None:
    try:
        data = file.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        if b"\0" in data[:8192]:
            problems.add(f"{file} is binary, not text")
            return None
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        problems.add(f"{file} is not UTF-8 (byte {error.start}); convert it first")
    except (OSError, EOFError, zlib.error) as error:
        problems.add(f"{file} cannot be read: {error}")
    return None


def _rows(file: Path, column: str, problems: Problems) -> Iterator[str]:
    """A JSON list, or JSONL a line at a time: a corpus may be larger than memory."""
    try:
        with _opened(file) as lines:
            if file.name.lower().removesuffix(".gz").endswith(".json"):
                values: Any = json.load(lines)
                if not isinstance(values, list):
                    problems.add(f"{file} is not a list of rows")
                    return
                for number, value in enumerate(values, 1):
                    if (text := _cell(value, column, f"{file}, row {number}", problems)) is not None:
                        yield text
                return
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError) as error:
                    problems.add(f"{file}, line {number}: is not valid JSON: {error}")
                    continue
                if (text := _cell(value, column, f"{file}, line {number}", problems)) is not None:
                    yield text
    except UnicodeDecodeError as error:
        problems.add(f"{file} is not UTF-8 (byte {error.start} of a piece); convert it first")
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        problems.add(f"{file} cannot be read: {error}")


def _opened(file: Path) -> TextIO:
    with file.open("rb") as opened:
        zipped = opened.read(2) == b"\x1f\x8b"
    if zipped:
        return gzip.open(file, "rt", encoding="utf-8-sig")
    return file.open(encoding="utf-8-sig")


def _cell(row: object, column: str, where: str, problems: Problems) -> str | None:
    if not isinstance(row, dict) or not isinstance(row.get(column), str):
        has = ", ".join(map(str, row)) if isinstance(row, dict) else "no columns"
        problems.add(f"{where}: has no text in the column {column!r} (it has {has}); name another by column")
        return None
    if HALF_CHARACTER.search(row[column]):
        problems.add(f"{where}: holds half a character (an unpaired surrogate)")
        return None
    return str(row[column])


def _parquet(file: Path, column: str, problems: Problems) -> Iterator[str]:
    """Batches of rows of one column, so that memory does not grow with the file."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{file}: parquet needs pyarrow: pip install 'lorebase[parquet]'") from error
    try:
        opened = parquet.ParquetFile(file)
        if column not in opened.schema_arrow.names:
            has = ", ".join(opened.schema_arrow.names)
            problems.add(f"{file} has no column {column!r} (it has {has}); name another by column")
            return
        for batch in opened.iter_batches(batch_size=1024, columns=[column]):
            for value in batch.column(0).to_pylist():
                if isinstance(value, str):
                    yield value
                else:
                    problems.add(f"{file}: a row has no text in the column {column!r}")
    except (OSError, pyarrow.ArrowException) as error:
        problems.add(f"{file} cannot be read: {error}")
