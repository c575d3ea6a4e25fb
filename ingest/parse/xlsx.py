"""Excel workbooks through openpyxl, streamed: every sheet a section with one table.

Values are those that Excel computed last, written as near to what it shows as its number formats let us tell
cheaply: dates as dates, percentages, decimals. A formula that was never computed (a program wrote the file
and no spreadsheet has opened it since) has no value: such are counted in a warning. Empty rows and columns
are dropped; hidden sheets are read and named. openpyxl is told to forget the dimensions a sheet claims: a
sheet of two cells may claim a billion.
"""

from __future__ import annotations

import datetime
import io
import math
import re
import warnings as python_warnings
import zipfile
from collections.abc import Iterator
from typing import Any

import openpyxl
from openpyxl.utils.escape import unescape
from openpyxl.utils.exceptions import InvalidFileException

from ingest.errors import EmptyDocument, ParseError
from ingest.parse.blocks import Block, assemble
from ingest.parse.container import guard
from ingest.parse.source import Source
from ingest.parse.tables import Room, sheet_blocks
from ingest.parse.tidy import one_line
from ingest.types import Document

MOST_SHEETS = 1_000
MOST_TAGS = 12_000_000  #: of one sheet; a cell has about four
MOST_SCANNED = 20_000_000  #: places looked at: a row's cells are laid out from its first to its last column
_QUOTED = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|_.|\*.')
_DECIMALS = re.compile(r"\.([0#?]+)")
_CORE = "docProps/core.xml"
_GENERAL = ("general", "@", "")
#: A cell with a formula and no value; one whose text is empty says so by its type.
_UNCOMPUTED = re.compile(
    rb"<(?:\w+:)?c(?![^<>]*\bt=\"str\")(?:\s[^<>]*)?>\s*<(?:\w+:)?f(?:\s[^<>]*)?(?:/>|>[^<]*</(?:\w+:)?f>)"
    rb"\s*(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v>\s*</(?:\w+:)?v>)?\s*</(?:\w+:)?c>"
)
_BLOCK = 1 << 20
_LONGEST_CELL = 1 << 16  #: bytes of a cell with a formula, of at most 8,192 characters


def parse(source: Source) -> Document:
    """One workbook.

    Raises:
        ParseError: damaged, or larger once unpacked than a workbook can be.
        EmptyDocument: no cell has a value.
    """
    data = source.read()
    guard(data, source.name, most_tags=MOST_TAGS)
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")  # about what it will not keep when it saves
        try:
            book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        except (KeyError, ValueError, InvalidFileException, zipfile.BadZipFile) as error:
            raise ParseError(
                f"{source.name}: is no workbook that openpyxl can read ({str(error)[:150]}). "
                "Save it anew as an ordinary .xlsx."
            ) from error
        try:
            return _document(source, book)
        finally:
            book.close()


def _document(source: Source, book: Any) -> Document:
    room = Room()
    blocks: list[Block] = []
    warnings: list[str] = []
    scan = _Scan()
    sheets = book.worksheets[:MOST_SHEETS]
    if len(book.worksheets) > MOST_SHEETS:
        warnings.append(f"only {MOST_SHEETS} of its {len(book.worksheets)} sheets were read")
    hidden = [sheet.title for sheet in sheets if sheet.sheet_state != "visible"]
    for sheet in sheets:
        try:
            rows = room.take(sheet.title, scan.rows(sheet))
        except (KeyError, ValueError, TypeError, IndexError) as error:
            warnings.append(f"sheet {sheet.title!r} could not be read ({type(error).__name__})")
            continue
        if rows:
            blocks += sheet_blocks(sheet.title, rows)
        if count := _uncomputed(sheet):
            warnings.append(
                f"sheet {sheet.title!r}: {count:,} formulas have no value, because the file was never "
                "computed; open and save it in a spreadsheet program"
            )
    if scan.left < 0:
        warnings.append("its sheets are wider and longer than their values fill: not all of them was read")
    if hidden:
        warnings.append(f"hidden sheets were read, too: {', '.join(hidden)[:300]}")
    warnings += room.cut
    if not blocks:
        why = f" ({'; '.join(warnings)})" if warnings else ""
        raise EmptyDocument(f"{source.name}: no cell of its sheets has a value{why}. Nothing to ingest.")
    text, sections = assemble(blocks)
    metadata = _metadata(book)
    metadata["sheets"] = ", ".join(sheet.title for sheet in sheets)[:1000]
    title = metadata.get("title") or one_line(source.stem)
    return Document(text, title, sections, (), metadata, tuple(warnings))


def _uncomputed(sheet: Any) -> int:
    """How many formulas of a sheet have no value; the file is read in blocks."""
    count, rest = 0, b""
    with sheet._get_source() as stream:
        while block := stream.read(_BLOCK):
            rest += block
            end = 0
            for found in _UNCOMPUTED.finditer(rest):
                count, end = count + 1, found.end()
            rest = rest[max(end, len(rest) - _LONGEST_CELL) :]
    return count


class _Scan:
    """Rows of sheets, as long as the places looked at stay in bounds."""

    def __init__(self) -> None:
        self.left = MOST_SCANNED

    def rows(self, sheet: Any) -> Iterator[list[str]]:
        """The rows of a sheet as text."""
        sheet.reset_dimensions()
        for row in sheet.rows:
            self.left -= len(row) + 1
            if self.left < 0:
                return
            yield ["" if cell.value is None else shown(cell.value, cell.number_format) for cell in row]


def shown(value: object, number_format: str) -> str:
    """A value about as Excel shows it under a number format (ECMA-376 part 1, 18.8.30).

    Kept are percentages, the number of decimals and thousands separators, and a currency sign in front.
    Anything else of a format (colours, conditions, fractions, scientific notation) is passed over: the plain
    number is written.
    """
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime.datetime):
        if value.time() == datetime.time():
            return value.date().isoformat()
        return value.isoformat(" ", "seconds")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return _hours(value)
    if isinstance(value, str):
        return str(unescape(value))  # "_x000D_" is a line's end (ECMA-376 part 1, 22.9.2.19)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return str(value)
    positive = (number_format or "").split(";")[0]
    digits = _QUOTED.sub("", positive)  # without words and colours, which have letters and signs of their own
    if positive.lower() in _GENERAL or "/" in digits or re.search("[Ee][+-]", digits):
        return _plain(value)
    decimals = _DECIMALS.search(digits)
    places = len(decimals[1]) if decimals else 0
    optional = decimals is not None and "0" not in decimals[1]
    percent = "%" in digits
    if not re.search("[0#]", digits) or places > 15:
        return _plain(value)
    number = value * 100 if percent else value
    grouping = "," if re.search(r"[0#],[0#]", digits) else ""
    text = format(number, f"{grouping}.{places}f")
    if optional:
        text = text.rstrip("0").rstrip(".")
    if not (decimals or grouping) and (least := digits.count("0")) > 1:  # 00000: a postal code
        text = format(int(text), f"0{least + (number < 0)}d")
    sign = re.search(r"\[\$([^\-\]]+)[^\]]*\]|\"([$€£¥])\"|^[^0#]*?([$€£¥])", positive)
    mark = next(filter(None, sign.groups()), "") if sign else ""
    front = sign is not None and sign.start() < (re.search("[0#]", positive) or sign).start()
    text = text + ("%" if percent else "")
    if not mark:
        return text
    if front:
        mark += " " if mark[-1:].isalpha() else ""
        return f"-{mark}{text[1:]}" if text.startswith("-") else f"{mark}{text}"
    return f"{text} {mark.strip()}"


def _hours(value: datetime.timedelta) -> str:
    """A span of time as Excel's [h]:mm has it: hours may be more than a day's."""
    seconds = round(value.total_seconds())
    minutes, rest = divmod(abs(seconds), 60)
    told = f"{minutes // 60}:{minutes % 60:02}" + (f":{rest:02}" if rest else "")
    return f"-{told}" if seconds < 0 else told


def _plain(value: float) -> str:
    """Up to 11 significant digits, as the General format shows."""
    if isinstance(value, int) or (abs(value) < 1e15 and value == int(value)):
        return str(int(value))
    return format(value, ".11g")


def _metadata(book: Any) -> dict[str, str]:
    properties = book.properties
    archive: zipfile.ZipFile = book._archive
    written = archive.read(_CORE) if _CORE in archive.namelist() else b""
    names = {
        "title": "title", "creator": "author", "subject": "subject", "keywords": "keywords",
        "category": "category", "language": "language",
    }  # fmt: skip
    found = {
        ours: one_line(value)
        for theirs, ours in names.items()
        if isinstance(value := getattr(properties, theirs, None), str) and value.strip()
    }
    for key in ("created", "modified"):
        moment = getattr(properties, key, None)  # openpyxl makes up the time of now where there is none
        if f":{key}".encode() in written and isinstance(moment, datetime.datetime):
            found[key] = moment.isoformat()
    return found
