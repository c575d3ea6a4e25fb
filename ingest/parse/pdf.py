"""PDF: text and pages by pdfium, metadata and outline by pypdf, and pypdf's text where pdfium finds none.

pdfium is many times faster and reads more fonts; pypdf repairs more broken files (a wrong page count, a
damaged page tree) and reads some text layers that pdfium leaves out. So each page is pdfium's unless it is
empty or unreadable there although it draws something, and the file is pypdf's when pdfium cannot open it.
pdfium must never run in two threads; parsers run in processes.

A page's text is what its reader sees of it: without text that is drawn invisibly, running headers and footers
(`pdf_running`). Headings are the outline's; without an outline they are told by their type (`pdf_headings`).

Invariants: one `Page` for every page of the file, also for an empty one; a page without a text layer is named
in the warnings; a document without any text is an error, never an empty success.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium_c

from ingest.errors import EmptyDocument, ParseError
from ingest.parse.outline import Entry, locate
from ingest.parse.pdf_columns import in_order
from ingest.parse.pdf_headings import headings
from ingest.parse.pdf_layout import LINE_END, Line, Lines, hidden, without
from ingest.parse.pdf_running import running
from ingest.parse.pdf_second import Read, Second, password_needed, title_of
from ingest.parse.pdf_tables import wants_rules, with_tables
from ingest.parse.pdf_text import is_language, mend, ranges
from ingest.parse.source import Source
from ingest.parse.tidy import one_line, sections_of, tidy
from ingest.types import Document, Page

PAGE_BREAK = "\n\n"
_SAMPLED_GLYPHS = 64
_OCR_DPI = 200
MOST_ATTACHED = 50
MOST_DRAWN = 5000  #: shapes of a page that are looked at for the borders of tables
_RULE_LENGTH, _RULE_HEIGHT = 15.0, 2.5  #: points


def parse(source: Source) -> Document:
    """One PDF.

    Raises:
        PasswordRequired: a user password is set and none or a wrong one was given.
        ParseError: neither engine can read it.
        EmptyDocument: no page has readable text; the message says whether OCR is needed.
    """
    warnings: list[str] = []
    second = Second(source)
    try:
        read = _read_pdfium(source)
        why = "" if read.texts else "it finds no pages"
    except pypdfium2.PdfiumError as error:
        if error.err_code == pdfium_c.FPDF_ERR_PASSWORD:
            raise password_needed(source) from error
        read, why = Read(), str(error).rstrip(".")
    if why:
        read = second.read_all(why)
        warnings.append(f"read by pypdf because pdfium cannot read it ({why}); text may be missing")
    else:
        read = _ask_second(read, second)
        if source.ocr != "off":
            warnings += _ocr(source, read)
    warnings += _complaints(source, read)
    by_type = _lay_out(read)
    warnings += read.said
    pages_text = [tidy(text)[0].strip() for text in mend(read.texts)]
    text, pages = _join(pages_text)
    metadata, outline, said = second.about()
    warnings += said
    if read.attached:
        metadata["attachments"] = ", ".join(read.attached)
        warnings.append(f"its attachments are not read: {metadata['attachments']}")
    metadata["pages"] = str(len(pages))
    title = title_of(metadata.get("title", "")) or one_line(source.stem)
    headed = locate(outline or by_type, text, pages)
    return Document(text, title, sections_of(headed, len(text)), pages, metadata, tuple(warnings))


def _read_pdfium(source: Source) -> Read:
    read, lines = Read(), Lines()
    unseen: list[int] = []
    document = pypdfium2.PdfDocument(source.content, password=source.password)
    try:
        read.attached = _attached(document)
        for index in range(len(document)):
            text, readable, kinds = "", True, set[int]()
            laid: list[Line] = []
            rules: list[float] = []
            try:
                page = document[index]
                glyphs = page.get_textpage()
                text = glyphs.get_text_range()
                readable = is_language(text, _unmapped(glyphs))
                if not text.strip() or not readable:
                    kinds = {shape.type for shape in page.get_objects(max_depth=2)}
                elif not page.get_rotation():
                    laid, left = _seen(page, in_order(lines, glyphs, lines.read(glyphs, text)))
                    rules = _rules(page) if wants_rules(laid) else []
                    text = LINE_END.join(line.text for line in laid)
                    if left:
                        unseen.append(index + 1)
                glyphs.close()
                page.close()
            except (pypdfium2.PdfiumError, AssertionError, ValueError):
                read.failed.append(index + 1)
                kinds = {pdfium_c.FPDF_PAGEOBJ_UNKNOWN}
            read.texts.append(text)
            read.readable.append(readable)
            read.draws.append(bool(text.strip() or kinds))
            read.lines.append(laid)
            read.rules.append(rules)
    finally:
        document.close()
    if unseen:
        read.said.append(f"{_pages(unseen)}: text that is drawn invisibly was left out")
    return read


def _seen(page: pypdfium2.PdfPage, lines: list[Line]) -> tuple[list[Line], bool]:
    """The lines without those that nobody sees, and whether there were any."""
    if not any(line.hidden for line in lines):
        return lines, False
    pictured = any(shape.type == pdfium_c.FPDF_PAGEOBJ_IMAGE for shape in page.get_objects(max_depth=2))
    drop = hidden(lines, pictured=pictured)
    return without(lines, drop), bool(drop)


def _rules(page: pypdfium2.PdfPage) -> list[float]:
    """The heights at which lines are drawn across a page: borders of cells, for one."""
    edges = [ctypes.c_float() for _ in range(4)]
    found: list[float] = []
    for index in range(min(MOST_DRAWN, pdfium_c.FPDFPage_CountObjects(page))):
        shape = pdfium_c.FPDFPage_GetObject(page, index)
        if pdfium_c.FPDFPageObj_GetType(shape) != pdfium_c.FPDF_PAGEOBJ_PATH:
            continue
        pdfium_c.FPDFPageObj_GetBounds(shape, *edges)
        left, bottom, right, top = (edge.value for edge in edges)
        if right - left > _RULE_LENGTH and top - bottom < _RULE_HEIGHT:
            found.append((top + bottom) / 2)
    return found


def _attached(document: pypdfium2.PdfDocument) -> list[str]:
    """The names of the files inside the file, the first fifty."""
    names: list[str] = []
    for index in range(min(MOST_ATTACHED, document.count_attachments())):
        with contextlib.suppress(pypdfium2.PdfiumError, ValueError):
            name = document.get_attachment(index).get_name()
            if name.startswith("\u00fe\u00ff"):  # UTF-16 where only bytes are expected, as pypdf writes it
                name = name.encode("latin-1", "ignore").decode("utf-16", "replace")
            names.append(one_line(name) or "unnamed")
    return names


def _lay_out(read: Read) -> list[Entry]:
    """Take running lines out, set tables as such; the headings that the type of the other lines tells."""
    laid = [
        # No lines where OCR or pypdf read the page anew.
        lines if LINE_END.join(line.text for line in lines) == text else []
        for lines, text in zip(read.lines, read.texts, strict=True)
    ]
    kept = [without(lines, drop) for lines, drop in zip(laid, running(laid), strict=True)]
    for index, lines in enumerate(kept):
        if lines:
            tabled, kept[index] = with_tables(lines, read.rules[index])
            read.texts[index] = LINE_END.join(line.text for line in tabled)
        elif laid[index]:
            read.texts[index] = ""
    return headings(kept)


def _pages(numbers: list[int]) -> str:
    return f"page{'s' * (len(numbers) > 1)} {ranges(numbers)}"


def _unmapped(glyphs: Any) -> float:
    """Share of glyphs without a Unicode value, from a sample: each takes a native call."""
    count = glyphs.count_chars()
    step = max(1, count // _SAMPLED_GLYPHS)
    sample = [pdfium_c.FPDFText_HasUnicodeMapError(glyphs, i) == 1 for i in range(0, count, step)]
    return sum(sample) / len(sample) if sample else 0.0


def _ask_second(read: Read, second: Second) -> Read:
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


def _ocr(source: Source, read: Read) -> list[str]:
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
    warnings = [f"{_pages(done)} read by OCR"] if done else []
    return warnings + failed[:3] + ([f"OCR of pages {ranges(late)} would take too long"] if late else [])


def _complaints(source: Source, read: Read) -> list[str]:
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
        f"{_pages(numbers)} {words.format(verbs[len(numbers) > 1])}"
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
