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

from ingest.errors import IngestError, ParseError
from ingest.parse.formats import BY_SUFFIX, FORMATS, Format, choose
from ingest.parse.source import MIB, Source, check_size
from ingest.types import Document

__all__ = ["FORMATS", "Format", "parse_file", "recipe", "supported"]


def supported(path: Path | str) -> bool:
    """Whether a parser is listed for the suffix; the file is not opened."""
    return Path(path).suffix.lower() in BY_SUFFIX


def recipe(path: Path | str) -> str:
    """Parser and version for the suffix, such as "pdf/1"; "content/1" where only the content can tell."""
    row = BY_SUFFIX.get(Path(path).suffix.lower())
    return row.recipe if row else "content/1"


def parse_file(
    file: Path, *, name: str | None = None, password: str | None = None, max_bytes: int
) -> Document:
    """Parse one file by its content.

    Args:
        file: where the bytes are.
        name: what the user calls the file, where that is not `file` (an upload); its suffix counts.
        password: opens an encrypted PDF.
        max_bytes: larger files are refused before they are read; formats that have to be held in memory whole
            have a lower limit of their own (`Format.max_mib`).

    Raises:
        UnsupportedFormat: no parser for what the file contains.
        PasswordRequired: encrypted, and no or a wrong password was given.
        ParseError: missing, unreadable, too large, damaged or truncated.
        EmptyDocument: read, but there is no text in it.
    """
    called = name or file.name
    check_size(file, called, max_bytes, "(setting max_file_mb)")
    row, warnings = choose(file, called)
    limit = min(max_bytes, row.max_mib * MIB)
    check_size(file, called, limit, f"for a {row.name} file; split it")
    source = Source(file, called, limit, password, Path(called).suffix.lower())
    parse = cast(Callable[[Source], Document], importlib.import_module(row.module).parse)
    try:
        document = parse(source)
    except (IngestError, MemoryError):
        raise
    except RecursionError as error:
        raise ParseError(
            f"{called}: nested too deeply to be read as {row.name}. Open and save it anew, or leave it out."
        ) from error
    except Exception as error:
        raise ParseError(
            f"{called}: cannot be read as {row.name}; it seems damaged "
            f"({type(error).__name__}: {str(error)[:200]}). "
            "Open and save it anew in its own program, or leave it out."
        ) from error
    return replace(document, warnings=(*warnings, *document.warnings), parser=row.recipe)
