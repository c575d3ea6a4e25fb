"""Markdown: the stored text is the file's own, with its marks; headings give the sections.

Block structure comes from markdown-it-py (CommonMark 0.31 with tables), so that `#` in fenced code is no
heading and underlined (setext) headings are one. Only headings at the outermost level count: one inside a
quotation or a list item is part of it. Inline parsing is off for the body: nothing needs it, and it is where
hostile input costs time.

Front matter is YAML between `---` or TOML between `+++`; the texts and lists of its outermost level are the
document's fields. What is no YAML, such as a title with a colon in it, is read line by line.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import yaml
from markdown_it import MarkdownIt

from ingest.parse.plain import read_text
from ingest.parse.source import Source
from ingest.parse.tidy import one_line, sections_of
from ingest.types import Document

_FRONT_MATTER = re.compile(r"\A(---|\+\+\+)[ \t]*\n(.*?)^\1[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_ENTRY = re.compile(r"^([A-Za-z_][\w-]*)[ \t]*[:=][ \t]*(.+)$", re.MULTILINE)
_FRONT_MATTER_LIMIT = 64 * 1024
_KEY = re.compile(r"[^\W\d][\w-]*")
#: Fields whose names may hold a comma.
_NAMES = ("author", "authors")

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
        metadata |= _entries(matter[1], matter[2])
    headings = _headings(text, body)
    named = metadata.get("title") or next((t for _, level, t in headings if level == 1 and t), None)
    return Document(
        text, one_line(named or source.stem), sections_of(headings, len(text)), (), metadata, tuple(warnings)
    )


def _entries(fence: str, matter: str) -> dict[str, str]:
    """The fields of front matter; a list is written as it is read by `ingest.fields`."""
    try:
        # Every scalar a text, as it stands there: a date is no less a date for that, and `no` stays a word.
        read: Any = (
            tomllib.loads(matter) if fence == "+++" else yaml.load(matter, yaml.BaseLoader)  # noqa: S506  texts only
        )
    except (yaml.YAMLError, tomllib.TOMLDecodeError, ValueError, RecursionError):
        read = None
    if not isinstance(read, Mapping):
        lines = _ENTRY.findall(matter)
        return {
            key.lower(): one_line(value.strip().strip("\"'"))
            for key, value in lines
            if value.strip() not in _FOLDED
        }
    found: dict[str, str] = {}
    for key, value in read.items():
        name = str(key).strip().lower()
        parts = [one for one in value if isinstance(one, str)] if isinstance(value, list) else [value]
        said = any(str(part).strip() for part in parts)
        if not _KEY.fullmatch(name) or isinstance(value, Mapping) or not said:
            continue
        text = "; ".join(parts) if name in _NAMES else ", ".join(map(str, parts))
        found[name] = one_line(text)
    return found


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
