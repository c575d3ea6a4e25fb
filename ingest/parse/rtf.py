"""RTF (Rich Text Format 1.9.1) through striprtf: its text; table rows become lines with bars.

striprtf knows no styles, so there are no headings. Code pages and Unicode escapes are its business; what it
cannot decode is replaced and said.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from striprtf import striprtf

from ingest.errors import EmptyDocument, ParseError
from ingest.parse.blocks import Block, assemble, markdown_table
from ingest.parse.source import Source
from ingest.parse.tidy import one_line, tidy
from ingest.types import Document

#: Pictures and objects are most of a file's bytes: one group of hexadecimal digits each, without groups in it
#: that matter. They are cut out before the text is looked for.
_DIGITS = re.compile(r"[0-9a-fA-F\s]{4096,}")
_INFO = re.compile(r"\{\\(title|author|subject|keywords)\s+([^{}]{1,2000})\}")
_CODE_PAGE = re.compile(r"\\ansicpg\d+")
_BLANKS = re.compile(r"\n(?:[ \t]*\n)+")


def parse(source: Source) -> Document:
    """One RTF file.

    Raises:
        ParseError: it is cut short.
        EmptyDocument: no text in it.
    """
    raw = source.read().decode("cp1252", "replace")
    if not raw.rstrip("\x00\r\n\t ").endswith("}"):
        raise ParseError(f"{source.name}: ends in the middle, it is cut short. Get the file again.")
    raw = _DIGITS.sub("", raw)
    text = tidy(_plain(raw))[0].replace("\xad", "")
    warnings = []
    if lost := text.count("\ufffd"):
        warnings.append(f"{lost} characters could not be decoded")
    text, sections = assemble(_blocks(text))
    if not text:
        raise EmptyDocument(f"{source.name}: there is no text in it. Nothing to ingest.")
    metadata: dict[str, str] = {}
    page = found[0] if (found := _CODE_PAGE.search(raw[:4096])) else ""
    for key, value in _INFO.findall(raw[: 64 * 1024]):
        if line := one_line(_plain(f"{{\\rtf1\\ansi{page} {value}}}")):
            metadata.setdefault(key, line)
    return Document(
        text, metadata.get("title") or one_line(source.stem), sections, (), metadata, tuple(warnings)
    )


def _plain(raw: str) -> str:
    convert: Callable[..., str] = striprtf.rtf_to_text
    # A character beyond U+FFFF is written as two numbers, its halves in UTF-16.
    halves = convert(raw, errors="replace").encode("utf-16-le", "surrogatepass")
    return halves.decode("utf-16-le", "replace")


def _blocks(text: str) -> list[Block]:
    """Paragraphs, and as tables the lines that striprtf ends with a bar."""
    blocks: list[Block] = []
    for piece in _BLANKS.split(text):
        rows: list[list[str]] = []
        for line in [*piece.split("\n"), ""]:
            if line.rstrip().endswith("|"):
                rows.append(line.rstrip().removesuffix("|").split("|"))
                continue
            if rows:
                blocks.append(Block(markdown_table(rows), "table"))
                rows = []
            if line.strip():
                blocks.append(Block(line))
    return blocks
