"""Which parser reads which file: one table, and what happens where a name and its content disagree.

A name may lie. The content decides (`ingest.parse.sniff`): a PDF called `notes.txt` is parsed as the PDF it
is, with a warning; a program called `notes.md` is refused. Among text formats, which look alike, the name
decides.

The table can be extended from outside: an installed package names a `Format`, or a sequence of them, in the
entry point group `lorebase.parsers`. Such a row comes before ours, for all of its suffixes, and its parser is
handed the file whatever its content looks like: only its author knows what to expect.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from ingest.errors import UnsupportedFormat

ENTRY_POINTS = "lorebase.parsers"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the table."""

    name: str
    version: (
        int  #: part of the recipe: raised when the parser's output changes, so that files are parsed anew
    )
    module: str  #: imported when the first file of the format comes: a parser's libraries are slow to load
    suffixes: tuple[str, ...]
    media_types: tuple[str, ...]
    max_mib: int  #: what one file may weigh; most parsers hold several copies of a text in memory
    is_text: bool = False  #: looks like any text: only the name tells it from others
    has_pictures: bool = False  #: OCR may read something in it

    @property
    def recipe(self) -> str:
        """Name and version, as stored with each document."""
        return f"{self.name}/{self.version}"


_OPEN = "application/vnd.openxmlformats-officedocument"
_ODF = "application/vnd.oasis.opendocument"
FORMATS: tuple[Format, ...] = (
    Format("pdf", 6, "ingest.parse.pdf", (".pdf",), ("application/pdf",), 1024, False, True),
    Format(
        "picture", 1, "ingest.parse.picture",
        (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"),
        ("image/png", "image/jpeg", "image/tiff", "image/webp", "image/bmp"), 128, False, True,
    ),
    Format("docx", 2, "ingest.parse.docx", (".docx",), (f"{_OPEN}.wordprocessingml.document",), 256),
    Format("pptx", 1, "ingest.parse.pptx", (".pptx",), (f"{_OPEN}.presentationml.presentation",), 256),
    Format("xlsx", 3, "ingest.parse.xlsx", (".xlsx", ".xlsm"), (f"{_OPEN}.spreadsheetml.sheet",), 128),
    Format("odt", 1, "ingest.parse.odf", (".odt",), (f"{_ODF}.text",), 128),
    Format("ods", 2, "ingest.parse.odf", (".ods",), (f"{_ODF}.spreadsheet",), 128),
    Format("odp", 1, "ingest.parse.odf", (".odp",), (f"{_ODF}.presentation",), 128),
    Format("rtf", 2, "ingest.parse.rtf", (".rtf",), ("application/rtf", "text/rtf"), 32),
    Format("epub", 2, "ingest.parse.epub", (".epub",), ("application/epub+zip",), 256),
    Format("zip", 1, "ingest.parse.archive", (".zip",), ("application/zip",), 512, False, True),
    Format(
        "html", 2, "ingest.parse.html",
        (".html", ".htm", ".xhtml"), ("text/html", "application/xhtml+xml"), 16, True,
    ),
    Format(
        "markdown", 3, "ingest.parse.markdown",
        (".md", ".markdown", ".mdown", ".mkd"), ("text/markdown",), 16, True,
    ),
    Format("rst", 1, "ingest.parse.rst", (".rst", ".rest"), ("text/x-rst",), 8, True),
    Format("latex", 1, "ingest.parse.latex", (".tex", ".latex"), ("application/x-tex",), 8, True),
    Format(
        "delimited", 2, "ingest.parse.delimited",
        (".csv", ".tsv"), ("text/csv", "text/tab-separated-values"), 64, True,
    ),
    Format(
        "json", 3, "ingest.parse.jsons",
        (".json", ".jsonl", ".ndjson"), ("application/json", "application/jsonl"), 64, True,
    ),
    Format(
        "mail", 3, "ingest.parse.mail",
        (".eml", ".mbox"), ("message/rfc822", "application/mbox"), 256, True, True,
    ),
    Format(
        "code", 1, "ingest.parse.code",
        (
            ".c", ".cc", ".cpp", ".cs", ".css", ".go", ".h", ".hpp", ".java", ".js", ".jsx", ".kt", ".lua",
            ".php", ".pl", ".ps1", ".py", ".r", ".rb", ".rs", ".scala", ".sh", ".sql", ".swift", ".ts",
            ".tsx",
        ),
        (), 16, True,
    ),
    Format(
        "text", 1, "ingest.parse.plain",
        (
            ".txt", ".text", ".log", ".adoc", ".org", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf",
            ".srt", ".vtt",
        ),
        ("text/plain",), 64, True,
    ),
)  # fmt: skip
BY_NAME = {row.name: row for row in FORMATS}

#: Text by their bytes, something else by their meaning: refused rather than stored as mark-up.
NOT_YET = {
    ".ipynb": "a notebook", ".svg": "a drawing", ".fb2": "an e-book", ".ps": "PostScript",
    ".eps": "PostScript",
}  # fmt: skip


@functools.cache
def added() -> tuple[Format, ...]:
    """The rows of installed packages; one that cannot be loaded is logged and left out."""
    rows: list[Format] = []
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        try:
            loaded = point.load()
            found = (loaded,) if isinstance(loaded, Format) else tuple(loaded)
            if not all(isinstance(row, Format) for row in found):
                raise TypeError("is no Format and no sequence of them")
        except Exception as error:  # whatever a stranger's module raises while it is imported
            log.warning(
                "the parser %s (%s) of group %s is left out: %s", point.name, point.value, ENTRY_POINTS, error
            )
            continue
        rows += found
    return tuple(rows)


@functools.cache
def by_suffix() -> dict[str, Format]:
    """The row of each suffix; where two claim one, the first of the strangers' rows wins, ours never."""
    rows: Sequence[Format] = (*FORMATS, *reversed(added()))
    return {suffix.lower(): row for row in rows for suffix in row.suffixes}


def read_names() -> str:
    """The formats that can be read, for messages."""
    return (
        "PDF, Word, PowerPoint, Excel, OpenDocument, RTF, EPUB, HTML, Markdown, reStructuredText, LaTeX, "
        "CSV, JSON, e-mail, source code, pictures, ZIP archives of these, and plain text"
    )


def unsupported(name: str, what: str) -> UnsupportedFormat:
    """What is raised for a file that no parser here reads."""
    return UnsupportedFormat(f"{name}: is {what}, which Lorebase does not read. It reads {read_names()}.")


def settle(name: str, found: str) -> tuple[Format, tuple[str, ...]]:
    """The parser for a file, and warnings where its name says something else than its content.

    Args:
        name: what the user calls the file.
        found: what `sniff` found: the name of a row, "text" for any kind of text, or "binary".

    Raises:
        UnsupportedFormat: nothing that is read here.
    """
    suffix = Path(name).suffix.lower()
    declared = by_suffix().get(suffix)
    if found == "binary" and suffix == ".pdf":
        found = "pdf"  # its header is lost; the engines may still find their way, or will say what is wrong
    elif found == "binary":
        raise unsupported(name, "binary data of an unknown kind, no text")
    if found in ("text", "html"):
        if suffix in NOT_YET:
            raise unsupported(name, NOT_YET[suffix])
        # Code and Markdown may begin with "<html>"; a text that does is a page that was saved as text.
        is_page = found == "html" and suffix in (".txt", ".text")
        if declared is not None and declared.is_text and not is_page:
            return declared, ()
    actual = BY_NAME[found]
    if actual is declared:
        return actual, ()
    called = f"named {suffix}" if suffix else "without a suffix"
    return actual, (f"{called}, but its content is {actual.name}: read as {actual.name}",)
