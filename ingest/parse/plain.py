"""Plain text in any encoding, stored as it stands in the file, so that a quote is found there.

Also for formats that are read as the text they are (logs, settings, subtitles): no structure is claimed.
"""

from __future__ import annotations

import re

from ingest.errors import EmptyDocument
from ingest.parse.encoding import decode
from ingest.parse.source import Source
from ingest.parse.tidy import one_line, tidy
from ingest.types import Document, Section

_UNICODE_LINE_ENDS = re.compile("[\x0b\x0c\x85\u2028\u2029]")


def read_text(
    source: Source, declared: str | None = None, *, within_lines: bool = False
) -> tuple[str, dict[str, str], list[str]]:
    """Tidied text, metadata (the encoding) and warnings of a text file.

    Args:
        source: the file.
        declared: the encoding that it claims.
        within_lines: in formats whose lines mean something, Unicode's own line ends are no more than spaces.

    Raises:
        EmptyDocument: there is nothing but white space in it.
    """
    decoded = decode(source.read(), declared)
    written = _UNICODE_LINE_ENDS.sub(" ", decoded.text) if within_lines else decoded.text
    text, dropped = tidy(written)
    warnings = list(decoded.warnings)
    if dropped:
        warnings.append(f"{dropped} control characters were dropped")
    if not text.strip():
        raise EmptyDocument(f"{source.name}: there is no text in it, only white space. Nothing to ingest.")
    return text, {"encoding": decoded.encoding}, warnings


def parse(source: Source) -> Document:
    """The whole file as one section.

    Raises:
        ParseError: it cannot be read.
        EmptyDocument: no text in it.
    """
    text, metadata, warnings = read_text(source)
    return Document(text, one_line(source.stem), (Section((), 0, len(text)),), (), metadata, tuple(warnings))
