"""A file becomes a `Document`: its text, its structure, its pages, and what could not be read of it.

`parse_file` is the only way in. It looks at size and content before a parser sees a byte, and it raises
nothing but `ingest.errors`: a parser's own surprises (libraries fail in many ways on damaged files) become a
`ParseError` here. Parsers are pure functions of one `Source`; whoever wants deadlines and memory limits runs
them in `ingest.sandbox`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

from ingest.errors import EmptyDocument, IngestError, ParseError
from ingest.parse.formats import FORMATS, Format, by_suffix
from ingest.parse.sniff import choose
from ingest.parse.source import MIB, OcrMode, Source, check_size
from ingest.types import Document

__all__ = ["FORMATS", "Format", "OcrMode", "Source", "parse_file", "parse_source", "recipe", "supported"]


def supported(path: Path | str) -> bool:
    """Whether a parser is listed for the suffix; the file is not opened."""
    return Path(path).suffix.lower() in by_suffix()


def recipe(path: Path | str, ocr: OcrMode = "auto") -> str:
    """Parser and version for the suffix, such as "rtf/1"; "content/1" where only the content can tell.

    With the mode of OCR where it matters, as in "pdf/3-auto".
    """
    row = by_suffix().get(Path(path).suffix.lower())
    if row is None:
        return "content/1"
    return f"{row.recipe}-{ocr}" if row.has_pictures else row.recipe


def parse_file(
    file: Path,
    *,
    name: str | None = None,
    password: str | None = None,
    max_bytes: int,
    ocr: OcrMode = "auto",
    alive: Callable[[], None] | None = None,
) -> Document:
    """Parse one file by its content.

    Args:
        file: where the bytes are.
        name: what the user calls the file, where that is not `file` (an upload); its suffix counts.
        password: opens an encrypted PDF or archive.
        max_bytes: larger files are refused before they are read; formats that have to be held in memory whole
            have a lower limit of their own (`Format.max_mib`).
        ocr: whether text is read off pictures: where a page has no other text, never, or on every page.
        alive: called before each page that OCR reads, which takes seconds.

    Raises:
        UnsupportedFormat: no parser for what the file contains.
        PasswordRequired: encrypted, and no or a wrong password was given.
        ParseError: missing, unreadable, too large, damaged or truncated.
        EmptyDocument: read, but there is no text in it.
    """
    called = name or file.name
    check_size(file, called, max_bytes, "(setting max_file_mb)")
    source = Source(file, called, max_bytes, password, Path(called).suffix.lower(), ocr)
    return parse_source(source if alive is None else replace(source, alive=alive))


def parse_source(source: Source) -> Document:
    """Parse what a source holds; also a member of an archive or an attachment.

    Raises:
        IngestError: as `parse_file`.
    """
    row, warnings = choose(source)
    limit = min(source.max_bytes, row.max_mib * MIB)
    if source.data is None:
        check_size(source.file, source.name, limit, f"for a {row.name} file; split it")
    elif len(source.data) > limit:
        raise ParseError(
            f"{source.name}: {len(source.data) / MIB:,.1f} MiB is over the limit of {limit / MIB:,.0f} MiB "
            f"for a {row.name} file."
        )
    elif not source.data:
        raise EmptyDocument(f"{source.name}: the file is empty (0 bytes). Nothing to ingest.")
    try:
        parse = cast(Callable[[Source], Document], importlib.import_module(row.module).parse)
        document = parse(replace(source, max_bytes=limit))
    except (IngestError, MemoryError):
        raise
    except RecursionError as error:
        raise ParseError(
            f"{source.name}: nested too deeply to be read as {row.name}. Open and save it anew, or leave it "
            "out."
        ) from error
    except Exception as error:
        raise ParseError(
            f"{source.name}: cannot be read as {row.name}; it seems damaged "
            f"({type(error).__name__}: {str(error)[:200]}). "
            "Open and save it anew in its own program, or leave it out."
        ) from error
    return replace(document, warnings=(*warnings, *document.warnings), parser=row.recipe)
