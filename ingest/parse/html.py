"""HTML: the article with its headings, lists and tables; menus, footers and scripts left out.

The page's own tree gives the structure. trafilatura, which knows thousands of page layouts but flattens what
it finds, is only asked where the article begins and ends: the blocks between the first and the last one that
it keeps are kept with everything between them, so that it can lose no table or list item from the middle.
Where it keeps too little (many short pages, tables, reference pages), the whole body is taken, without what
its mark-up declares to be navigation.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Sequence
from typing import cast
from unicodedata import normalize

import lxml.html
from lxml import etree

from ingest.errors import EmptyDocument, ParseError
from ingest.parse.blocks import Block, assemble
from ingest.parse.encoding import decode
from ingest.parse.html_blocks import blocks_of, collapse, text_of
from ingest.parse.source import MIB, Source
from ingest.parse.tidy import one_line, tidy
from ingest.types import Document

TRAFILATURA_LIMIT = 4 * MIB  #: longer pages are dumps and tables, no articles, and would take it long
KEPT_SHARE = 0.4  #: of the characters outside links that trafilatura must keep to be believed
_LONG_ENOUGH = 12  #: shorter lines ("Home", "More") stand in menus and articles alike
_SPACES = re.compile(r"\s+")

_CHARSET = re.compile(
    rb"<(?:meta|\?xml)[^>]{0,300}?(?:charset|encoding)\s*=\s*[\"']?\s*([A-Za-z0-9_:.\-]{1,40})", re.IGNORECASE
)
_MAIN = ("//main", "//*[@role='main']", "//article")
_META = {
    "author": "author", "description": "description", "keywords": "keywords", "generator": "generator",
    "article:published_time": "created", "article:modified_time": "modified", "dcterms.created": "created",
    "og:site_name": "site",
}  # fmt: skip

logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it logs what it gives up on; we fall back


def parse(source: Source) -> Document:
    """One HTML file.

    Raises:
        ParseError: it cannot be read, or there is no element in it.
        EmptyDocument: no text outside scripts and menus.
    """
    data = source.read()
    declared = _CHARSET.search(data[:8192])
    decoded = decode(data, declared[1].decode("ascii") if declared else None)
    warnings = list(decoded.warnings)
    markup = tidy(decoded.text)[0]
    root, cut = _tree(markup, source.name)
    warnings += cut
    metadata = {"encoding": decoded.encoding, **_metadata(root)}
    blocks = blocks_of(_main(root))
    if not any(block.text.strip() for block in blocks):
        blocks = blocks_of(root)
    blocks = _article(blocks, markup)
    text, sections = assemble(blocks)
    if not text:
        raise EmptyDocument(
            f"{source.name}: there is no text in it outside scripts and menus. Nothing to ingest."
        )
    return Document(
        text, _title(root, blocks) or one_line(source.stem), sections, (), metadata, tuple(warnings)
    )


def _tree(markup: str, name: str) -> tuple[etree._Element, list[str]]:
    """The page's tree, and a warning where libxml2 gave up in the middle (it limits depth and memory)."""
    # The declared encoding is dealt with; libxml2 gets UTF-8 whatever the page says. huge_tree stays off.
    parser = lxml.html.HTMLParser(encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True)
    try:
        root = lxml.html.document_fromstring(markup.encode("utf-8"), parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError) as error:
        if not isinstance(error, etree.XMLSyntaxError) or not parser.error_log:
            raise EmptyDocument(f"{name}: there is no element in it. Nothing to ingest.") from error
        raise ParseError(f"{name}: cannot be read as HTML ({error}). Save it anew from a browser.") from error
    fatal = [entry for entry in parser.error_log if entry.level == etree.ErrorLevels.FATAL]
    if not fatal:
        return root, []
    why = f"the page was read only up to line {fatal[0].line}: {fatal[0].message.split(', use')[0]}"
    if not text_of(root).strip():
        raise ParseError(f"{name}: {why}. Save it anew from a browser, or leave it out.")
    return root, [why]


def _main(root: etree._Element) -> etree._Element:
    """The element declared to be the main content, if it holds a good part of the text."""
    body = root.find("body")
    if body is None:
        return root
    whole = _length(body)
    for path in _MAIN:
        found = cast(list[etree._Element], root.xpath(path))
        if len(found) == 1 and _length(found[0]) >= 0.25 * whole:
            return found[0]
    return body


def _length(element: etree._Element) -> int:
    """Characters of text outside links and scripts."""
    texts = element.xpath(".//text()[not(ancestor::script or ancestor::style or ancestor::a)]")
    return sum(len(piece.strip()) for piece in cast(list[str], texts))


def _article(blocks: list[Block], markup: str) -> list[Block]:
    """The blocks between the first and the last that trafilatura keeps, or all of them."""
    if len(markup) > TRAFILATURA_LIMIT:
        return blocks
    from trafilatura import extract

    try:
        kept = extract(markup, favor_recall=True, include_comments=False, include_tables=True) or ""
    except Exception:  # it fails in many ways on odd trees (RecursionError among them); the body is there
        return blocks
    lines = {_fold(line) for line in kept.replace("|", "\n").split("\n")}
    hits = [i for i, block in enumerate(blocks) if any(_fold(line) in lines for line in _pieces(block))]
    own = sum(len(block.text) - block.link_characters for block in blocks)
    if not hits or sum(len(blocks[i].text) - blocks[i].link_characters for i in hits) < KEPT_SHARE * own:
        return blocks
    first, last = hits[0], hits[-1]
    while last + 1 < len(blocks):
        # A heading goes with the table or list below it.
        step = 2 if blocks[last + 1].kind == "heading" and last + 2 < len(blocks) else 1
        if not _goes_on(blocks[last + step - 1], blocks[last + step], lines):
            break
        last += step
    # Headings above the first paragraph, and what is as short as a menu's line but was kept.
    while first and (blocks[first - 1].kind == "heading" or _goes_on(None, blocks[first - 1], lines)):
        first -= 1
    headline = [b for b in blocks[:first] if b.kind == "heading" and b.level == 1][-1:]
    return [*headline, *blocks[first : last + 1]]


def _goes_on(before: Block | None, block: Block, lines: Collection[str]) -> bool:
    """Whether a block beside what was kept belongs to it: a table, short lines that were kept, list items."""
    if 2 * block.link_characters > len(block.text):
        return False
    told = [_fold(line) for line in block.text.replace("|", "\n").split("\n")]
    return (
        block.kind == "table"
        or all(line in lines for line in told if line)
        or (block.kind == "item" and before is not None and before.kind in ("heading", "item"))
    )


def _pieces(block: Block) -> list[str]:
    text = block.text.replace("|", "\n") if block.kind == "table" else block.text
    return [line for line in text.split("\n") if len(line.strip()) >= _LONG_ENOUGH]


def _fold(line: str) -> str:
    return _SPACES.sub("", normalize("NFKC", line)).lstrip("-•*").casefold()


def _title(root: etree._Element, blocks: Sequence[Block]) -> str:
    """The only top heading where the title repeats it ("Duck" of "Duck - Wikipedia"), else the title."""
    titles = cast(list[etree._Element], root.xpath("//title[not(ancestor::svg)]"))
    written = collapse(text_of(titles[0])) if titles else ""
    tops = [collapse(block.text) for block in blocks if block.kind == "heading" and block.level == 1]
    if tops and (not written or (len(tops) == 1 and tops[0] and tops[0] in written)):
        return one_line(tops[0])
    return one_line(written)


def _metadata(root: etree._Element) -> dict[str, str]:
    found: dict[str, str] = {}
    if language := root.get("lang") or root.get("{http://www.w3.org/XML/1998/namespace}lang"):
        found["language"] = one_line(language)
    for meta in root.iter("meta"):
        key = _META.get((meta.get("name") or meta.get("property") or "").lower())
        if key and (value := one_line(meta.get("content") or "")):
            found.setdefault(key, value)
    return found
