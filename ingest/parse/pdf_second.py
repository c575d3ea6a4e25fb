"""pypdf's view of a PDF: its metadata and outline, and the text that pdfium does not get.

Whatever it raises on damaged files becomes an error of ours or a warning: a file whose text was read is not
lost for its outline.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pypdf

from ingest.errors import ParseError, PasswordRequired
from ingest.parse.outline import Entry
from ingest.parse.pdf_layout import Line
from ingest.parse.pdf_text import is_language
from ingest.parse.source import Source
from ingest.parse.tidy import one_line

OUTLINE_LIMIT = 5000

# pypdf logs every repair it makes; what matters of them becomes a warning of the document.
logging.getLogger("pypdf").setLevel(logging.CRITICAL)


@dataclass(slots=True)
class Read:
    """What one engine got out of a file; lists are per page but for the last two."""

    texts: list[str] = field(default_factory=list)
    readable: list[bool] = field(default_factory=list)  #: False: there is a text layer, it is no language
    draws: list[bool] = field(default_factory=list)  #: anything at all on the page
    failed: list[int] = field(default_factory=list)  #: page numbers that raised
    lines: list[list[Line]] = field(default_factory=list)  #: empty where the text is not pdfium's
    rules: list[list[float]] = field(
        default_factory=list
    )  #: heights of lines drawn across, where they matter
    attached: list[str] = field(default_factory=list)  #: names of the files inside it; of the whole file
    said: list[str] = field(default_factory=list)  #: warnings


def password_needed(source: Source) -> PasswordRequired:
    """The error to raise."""
    what = ", and the password given does not open it" if source.password else " and needs a password"
    return PasswordRequired(
        f"{source.name}: is encrypted{what}. Ingest it with `--password`, or save it without one."
    )


class Second:
    """pypdf's view of the file, opened when it is first asked for."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._reader: pypdf.PdfReader | None = None
        self._error = ""

    def _open(self) -> pypdf.PdfReader:
        if self._reader is None:
            reader = pypdf.PdfReader(self._stream(), strict=False)
            if reader.is_encrypted and not reader.decrypt(self._source.password or ""):
                raise password_needed(self._source)
            self._reader = reader
        return self._reader

    def _stream(self) -> Path | io.BytesIO:
        content = self._source.content
        return io.BytesIO(content) if isinstance(content, bytes) else content

    def read_all(self, why: str) -> Read:
        """The whole file, where pdfium failed with `why`."""
        read = Read()
        try:
            count = len(self._open().pages)
        except PasswordRequired:
            raise
        except Exception as error:  # pypdf raises many types on damaged files
            raise self._damaged(why, error) from error
        if not count:
            raise self._damaged(why, None)
        for index in range(count):
            text = self.page(index)
            if text is None:
                read.failed.append(index + 1)
            readable = text is None or is_language(text)
            read.texts.append(text or "")
            read.readable.append(readable)
            read.draws.append(True)
            read.lines.append([])
        return read

    def page(self, index: int) -> str | None:
        """Text of one page, None where pypdf cannot read it."""
        try:
            return self._open().pages[index].extract_text()
        except Exception:  # see `read_all`; the page is then reported by number
            return None

    def about(self) -> tuple[dict[str, str], list[Entry], list[str]]:
        """Metadata, outline and warnings; a file whose text was read is not lost for them."""
        metadata: dict[str, str] = {}
        entries: list[Entry] = []
        warnings: list[str] = []
        try:
            metadata = _metadata(self._open())
        except Exception as error:  # see `read_all`
            warnings.append(f"its metadata could not be read ({type(error).__name__})")
        try:
            for entry in _walk(self._open(), self._open().outline, 1):
                entries.append(entry)
                if len(entries) == OUTLINE_LIMIT:
                    warnings.append(f"its outline was cut at {OUTLINE_LIMIT} entries")
                    break
        except Exception as error:  # see `read_all`
            warnings.append(f"its outline could not be read ({type(error).__name__})")
        return metadata, entries, warnings

    def _damaged(self, why: str, error: Exception | None) -> ParseError:
        also = f", nor does pypdf ({str(error)[:200]})" if error else ", nor does pypdf"
        return ParseError(
            f"{self._source.name}: no PDF engine can read it: {why}{also}. "
            "It is damaged or incomplete: get it again, or open and save it anew in a PDF program."
        )


def _walk(reader: pypdf.PdfReader, outline: list[Any], level: int) -> Iterator[Entry]:
    for item in outline:
        if isinstance(item, list):
            yield from _walk(reader, item, level + 1)
            continue
        page = None
        with contextlib.suppress(Exception):  # a destination that leads nowhere
            page = reader.get_destination_page_number(item)
        title = one_line(str(item.title or ""))
        if title and page is not None and page >= 0:
            yield Entry(title, level, page + 1)


def _metadata(reader: pypdf.PdfReader) -> dict[str, str]:
    about = reader.metadata
    found: dict[str, str] = {}
    if about is None:
        return found
    for key in ("title", "author", "subject", "keywords", "creator", "producer"):
        value = about.get(f"/{key.capitalize()}")
        if isinstance(value, str) and (line := one_line(value)):
            found[key] = line
    for key, name in (("creation_date", "created"), ("modification_date", "modified")):
        with contextlib.suppress(Exception):  # dates are free text in practice
            if isinstance(value := getattr(about, key), datetime.datetime):
                found[name] = value.isoformat()
    return found


_PROGRAM_TITLE = re.compile(
    r"^(?:Microsoft (?:Word|PowerPoint|Excel) - )?(.*?)"
    r"(?:\.(?:docx?|pptx?|xlsx?|dvi|tex|indd|odt|rtf|pdf|qxd))?$",
    re.IGNORECASE,
)


def title_of(written: str) -> str:
    """The title in the metadata, unless a program put it there for want of one: "untitled", or a number."""
    match = _PROGRAM_TITLE.match(written)
    title = match[1].strip() if match else written
    if not any(map(str.isalpha, title)):
        return ""
    if title.casefold().strip("()") in {
        "",
        "untitled",
        "anonymous",
        "unspecified",
        "no title",
        "document",
        "document1",
        "slide 1",
    }:
        return ""
    return title if is_language(title) else ""
