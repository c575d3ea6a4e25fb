"""Markdown: the stored text is the file's own, with its marks; headings give the sections.

Block structure comes from markdown-it-py (CommonMark 0.31 with tables), so that `#` in fenced code is no
heading and underlined (setext) headings are one. Only headings at the outermost level count: one inside a
quotation or a list item is part of it. Inline parsing is off for the body: nothing needs it, and it is where
hostile input costs time.
"""

from __future__ import annotations

import re
from itertools import pairwise

from markdown_it import MarkdownIt

from ingest.parse.plain import read_text
from ingest.parse.source import Source
from ingest.parse.tidy import one_line, sections_of
from ingest.types import Document

_FRONT_MATTER = re.compile(r"\A(---|\+\+\+)[ \t]*\n(.*?)^\1[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_ENTRY = re.compile(r"^([A-Za-z_][\w-]*)[ \t]*[:=][ \t]*(.+)$", re.MULTILINE)
_FRONT_MATTER_LIMIT = 64 * 1024

_FOLDED = (">", ">-", ">+", "|", "|-", "|+")  #: YAML's signs for a value on the lines below
_blocks = MarkdownIt("commonmark").enable("table").disable("inline", ignoreInvalid=True)
_inline = MarkdownIt("commonmark")


def parse(source: Source) -> Document:
    """One Markdown file.

    Raises:
        ParseError: it cannot be read.
        EmptyDocument: no text in it.
    """
    text, metadata, warnings = read_text(source)
    body = 0
    if matter := _FRONT_MATTER.match(text[:_FRONT_MATTER_LIMIT]):
        body = matter.end()
        for key, value in _ENTRY.findall(matter[2]):
            if value.strip() in _FOLDED:
                continue
            metadata[key.lower()] = one_line(value.strip().strip("\"'"))
    headings = _headings(text, body)
    named = metadata.get("title") or next((t for _, level, t in headings if level == 1 and t), None)
    return Document(
        text, one_line(named or source.stem), sections_of(headings, len(text)), (), metadata, tuple(warnings)
    )


def _headings(text: str, body: int) -> list[tuple[int, int, str]]:
    """(char_start, level, title) of every outermost heading after `body`."""
    starts = [body]
    starts += (m.end() for m in re.compile("\n").finditer(text, body))
    found: list[tuple[int, int, str]] = []
    tokens = _blocks.parse(text[body:])
    for token, inline in pairwise(tokens):
        if token.type == "heading_open" and token.level == 0 and token.map:
            found.append((starts[token.map[0]], int(token.tag[1]), _plain(inline.content)))
    return found


def _plain(heading: str) -> str:
    """A heading without its marks: emphasis, links and code spans leave their text."""
    if len(heading) > 1000:
        return one_line(heading)
    parts: list[str] = []
    for token in _inline.parseInline(heading)[0].children or ():
        if token.type in ("text", "code_inline") or token.type == "image":
            parts.append(token.content)
        elif token.type in ("softbreak", "hardbreak"):
            parts.append(" ")
    return one_line("".join(parts))
