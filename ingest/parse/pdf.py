"""PDF: text and pages by pdfium, metadata and outline by pypdf, and pypdf's text where pdfium finds none.

pdfium is many times faster and reads more fonts; pypdf repairs more broken files (a wrong page count, a
damaged page tree) and reads some text layers that pdfium leaves out. So each page is pdfium's unless it is
empty or unreadable there although it draws something, and the file is pypdf's when pdfium cannot open it.
pdfium must never run in two threads; parsers run in processes.

Invariants: one `Page` for every page of the file, also for an empty one; a page without a text layer is named
in the warnings; a document without any text is an error, never an empty success.
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
import pypdf.errors
import pypdfium2
import pypdfium2.raw as pdfium_c

from ingest.errors import EmptyDocument, ParseError, PasswordRequired
from ingest.parse.outline import Entry, locate
from ingest.parse.pdf_text import is_language, mend, ranges
from ingest.parse.source import Source
from ingest.parse.tidy import one_line, sections_of, tidy
from ingest.types import Document, Page

PAGE_BREAK = "\n\n"
OUTLINE_LIMIT = 5000
_SAMPLED_GLYPHS = 64
_OCR_DPI = 200

# pypdf logs every repair it makes; what matters of them becomes a warning of the document.
logging.getLogger("pypdf").setLevel(logging.CRITICAL)


@dataclass(slots=True)
class _Read:
    """What one engine got out of a file; lists are per page."""

    texts: list[str] = field(default_factory=list)
    readable: list[bool] = field(default_factory=list)  #: False: there is a text layer, it is no language
    draws: list[bool] = field(default_factory=list)  #: anything at all on the page
    failed: list[int] = field(default_factory=list)  #: page numbers that raised


def parse(source: Source) -> Document:
    """One PDF.

    Raises:
        PasswordRequired: a user password is set and none or a wrong one was given.
        ParseError: neither engine can read it.
        EmptyDocument: no page has readable text; the message says whether OCR is needed.
    """
    warnings: list[str] = []
    second = _Second(source)
    try:
        read = _read_pdfium(source)
        why = "" if read.texts else "it finds no pages"
    except pypdfium2.PdfiumError as error:
        if error.err_code == pdfium_c.FPDF_ERR_PASSWORD:
            raise _password_needed(source) from error
        read, why = _Read(), str(error).rstrip(".")
    if why:
        read = second.read_all(why)
        warnings.append(f"read by pypdf because pdfium cannot read it ({why}); text may be missing")
    else:
        read = _ask_second(read, second)
        if source.ocr != "off":
            warnings += _ocr(source, read)
    warnings += _complaints(source, read)
    pages_text = [tidy(text)[0].strip() for text in mend(read.texts)]
    text, pages = _join(pages_text)
    metadata, outline, said = second.about()
    warnings += said
    metadata["pages"] = str(len(pages))
    title = _title(metadata.get("title", "")) or one_line(source.stem)
    return Document(
        text, title, sections_of(locate(outline, text, pages), len(text)), pages, metadata, tuple(warnings)
    )


def _read_pdfium(source: Source) -> _Read:
    read = _Read()
    document = pypdfium2.PdfDocument(source.content, password=source.password)
    try:
        for index in range(len(document)):
            text, readable, kinds = "", True, set[int]()
            try:
                page = document[index]
                glyphs = page.get_textpage()
                text = glyphs.get_text_range()
                readable = is_language(text, _unmapped(glyphs))
                if not text.strip() or not readable:
                    kinds = {shape.type for shape in page.get_objects(max_depth=2)}
                glyphs.close()
                page.close()
            except (pypdfium2.PdfiumError, AssertionError, ValueError):
                read.failed.append(index + 1)
                kinds = {pdfium_c.FPDF_PAGEOBJ_UNKNOWN}
            read.texts.append(text)
            read.readable.append(readable)
            read.draws.append(bool(text.strip() or kinds))
    finally:
        document.close()
    return read


def _unmapped(glyphs: Any) -> float:
    """Share of glyphs without a Unicode value, from a sample: each takes a native call."""
    count = glyphs.count_chars()
    step = max(1, count // _SAMPLED_GLYPHS)
    sample = [pdfium_c.FPDFText_HasUnicodeMapError(glyphs, i) == 1 for i in range(0, count, step)]
    return sum(sample) / len(sample) if sample else 0.0


def _ask_second(read: _Read, second: _Second) -> _Read:
    """Take pypdf's text for pages that pdfium found empty or unreadable; all of it where pdfium lost a page.

    A page that cannot be loaded is a hole in the page tree, which the two count differently: then pages
    cannot be matched one by one.
    """
    if read.failed:
        with contextlib.suppress(ParseError):
            other = second.read_all("a page of it cannot be loaded")
            if len(other.failed) < len(read.failed):
                return other
        return read
    for index, text in enumerate(read.texts):
        if read.readable[index] and text.strip():
            continue
        found = second.page(index)
        if found is not None and found.strip() and is_language(found):
            read.texts[index], read.readable[index] = found, True
    return read


def _ocr(source: Source, read: _Read) -> list[str]:
    """Read by OCR what has no readable text layer (`force`: every page), as far as the budget goes."""
    wanted = [
        index
        for index, text in enumerate(read.texts)
        if source.ocr == "force" or not read.readable[index] or (read.draws[index] and not text.strip())
    ]
    if not wanted or read.failed:
        return []
    from ingest.parse.ocr import Budget, read_picture, scale_for

    budget = Budget(source)
    done: list[int] = []
    late: list[int] = []
    failed: list[str] = []
    document = pypdfium2.PdfDocument(source.content, password=source.password)
    try:
        for index in wanted:
            if not budget.take():
                late.append(index + 1)
                continue
            try:
                page = document[index]
                width, height = (_OCR_DPI / 72 * side for side in page.get_size())
                scale = _OCR_DPI / 72 * scale_for(width, height)
                text = read_picture(page.render(scale=scale, rev_byteorder=False).to_numpy()[:, :, :3])
                page.close()
            except (pypdfium2.PdfiumError, AssertionError, ValueError):
                continue
            except ParseError as error:
                failed.append(f"page {index + 1}: {error}")
                continue
            if text:
                read.texts[index], read.readable[index] = text, True
                done.append(index + 1)
    finally:
        document.close()
    warnings = [f"page{'s' * (len(done) > 1)} {ranges(done)} read by OCR"] if done else []
    return warnings + failed[:3] + ([f"OCR of pages {ranges(late)} would take too long"] if late else [])


def _complaints(source: Source, read: _Read) -> list[str]:
    """Warnings about pages that gave no text; unreadable layers are blanked here.

    Raises:
        EmptyDocument: no page has text.
        ParseError: no page has text, because none could be read.
    """
    garbled = [i + 1 for i, ok in enumerate(read.readable) if not ok]
    for number in garbled:
        read.texts[number - 1] = ""
    pictures = [
        i + 1
        for i, text in enumerate(read.texts)
        if read.draws[i] and not text.strip() and i + 1 not in garbled and i + 1 not in read.failed
    ]
    remedy = ": OCR is needed" if source.ocr == "off" else ", and OCR read nothing"
    told = [
        (pictures, "{} no text layer" + remedy, ("has", "have")),
        (
            garbled,
            "{} a text layer that is no language (a font without a Unicode map)" + remedy,
            ("has", "have"),
        ),
        (read.failed, "{} not be read", ("could", "could")),
    ]
    warnings = [
        f"page{'s' if len(numbers) > 1 else ''} {ranges(numbers)} {words.format(verbs[len(numbers) > 1])}"
        for numbers, words, verbs in told
        if numbers
    ]
    if any(text.strip() for text in read.texts):
        return warnings
    if read.failed:
        raise ParseError(f"{source.name}: {'; '.join(warnings)}. Open and save it anew in a PDF program.")
    if warnings:
        raise EmptyDocument(f"{source.name}: nothing could be read: {'; '.join(warnings)}.")
    raise EmptyDocument(f"{source.name}: its {len(read.texts)} page(s) are blank. Nothing to ingest.")


def _join(texts: list[str]) -> tuple[str, tuple[Page, ...]]:
    parts: list[str] = []
    pages: list[Page] = []
    at = 0
    for number, text in enumerate(texts, 1):
        if text and parts:
            parts.append(PAGE_BREAK)
            at += len(PAGE_BREAK)
        pages.append(Page(number, at, at + len(text)))
        if text:
            parts.append(text)
            at += len(text)
    return "".join(parts), tuple(pages)


def _password_needed(source: Source) -> PasswordRequired:
    what = "the password given does not open it" if source.password else "it needs a password"
    return PasswordRequired(
        f"{source.name}: is encrypted and {what}. Give its password, or save it without one."
    )


class _Second:
    """pypdf's view of the file, opened when it is first asked for."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._reader: pypdf.PdfReader | None = None
        self._error = ""

    def _open(self) -> pypdf.PdfReader:
        if self._reader is None:
            reader = pypdf.PdfReader(self._stream(), strict=False)
            if reader.is_encrypted and not reader.decrypt(self._source.password or ""):
                raise _password_needed(self._source)
            self._reader = reader
        return self._reader

    def _stream(self) -> Path | io.BytesIO:
        content = self._source.content
        return io.BytesIO(content) if isinstance(content, bytes) else content

    def read_all(self, why: str) -> _Read:
        """The whole file, where pdfium failed with `why`."""
        read = _Read()
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


def _title(written: str) -> str:
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
