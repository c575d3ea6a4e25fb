"""EPUB 2 and 3: chapters in the order of the spine, read as the web pages they are.

The container names the package document, whose spine names the chapters (EPUB 3.3, sections 4 and 5). Each is
read by the walk that HTML files take; a chapter without a heading gets the name that the table of contents
has for it. Nothing outside the container is ever followed. (EbookLib, the usual library, is under the AGPL.)
"""

from __future__ import annotations

import io
import posixpath
import zipfile
from typing import Any
from urllib.parse import unquote

import lxml.html
from lxml import etree

from ingest.errors import EmptyDocument, ParseError, PasswordRequired
from ingest.parse.blocks import Block, assemble_parts
from ingest.parse.container import guard, xml_root
from ingest.parse.encoding import decode
from ingest.parse.html_blocks import blocks_of, collapse, text_of
from ingest.parse.source import Source
from ingest.parse.tidy import one_line, tidy
from ingest.types import Document

MOST_CHAPTERS = 5_000
_CONTAINER = "META-INF/container.xml"
_DC = "{http://purl.org/dc/elements/1.1/}"
_METADATA = {
    "title": "title", "creator": "author", "language": "language", "date": "created", "subject": "keywords",
    "publisher": "publisher",
}  # fmt: skip


def parse(source: Source) -> Document:
    """One e-book.

    Raises:
        PasswordRequired: its chapters are encrypted (DRM).
        ParseError: damaged, or no chapter can be read.
        EmptyDocument: no text in it.
    """
    data = source.read()
    guard(data, source.name)
    warnings: list[str] = []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = set(archive.namelist())
        try:
            place, package = _package(archive)
        except (KeyError, etree.XMLSyntaxError, StopIteration) as error:
            raise ParseError(
                f"{source.name}: its package document is missing or damaged ({str(error)[:150]}). "
                "Get the book again."
            ) from error
        chapters, toc = _spine(package, place)
        titles = _titles(archive, toc) if toc in names else {}
        parts: list[list[Block]] = []
        for chapter in chapters[:MOST_CHAPTERS]:
            if chapter not in names:
                warnings.append(f"chapter {chapter[:100]} is missing")
                continue
            blocks = _chapter(archive.read(chapter), titles.get(chapter, ""))
            if blocks is None:
                warnings.append(f"chapter {chapter[:100]} could not be read")
            else:
                parts.append(blocks)
        encrypted = "META-INF/encryption.xml" in names and any(
            chapter.encode() in archive.read("META-INF/encryption.xml") for chapter in chapters
        )
    text, sections, _ = assemble_parts(parts)
    if encrypted:
        raise PasswordRequired(
            f"{source.name}: its chapters are encrypted (digital rights management). It cannot be read."
        )
    if not text:
        why = f" ({'; '.join(warnings[:5])})" if warnings else ""
        raise EmptyDocument(f"{source.name}: there is no text in its chapters{why}. Nothing to ingest.")
    metadata = _metadata(package)
    return Document(
        text, metadata.get("title") or one_line(source.stem), sections, (), metadata, tuple(warnings)
    )


def _package(archive: zipfile.ZipFile) -> tuple[str, Any]:
    """Path and root of the package document."""
    container = xml_root(archive.read(_CONTAINER))
    place = next(r.get("full-path", "") for r in container.iter("{*}rootfile"))
    return place, xml_root(archive.read(place))


def _spine(package: Any, place: str) -> tuple[list[str], str]:
    """Paths of the chapters in reading order, and that of the table of contents ("" for none)."""
    folder = posixpath.dirname(place)

    def path(href: str) -> str:
        return posixpath.normpath(posixpath.join(folder, unquote(href.partition("#")[0])))

    items = {
        item.get("id", ""): (path(item.get("href", "")), item.get("properties") or "")
        for item in package.iter("{*}item")
    }
    chapters: list[str] = []
    for reference in package.iter("{*}itemref"):
        found = items.get(reference.get("idref", ""))
        if found and "nav" not in found[1].split() and found[0] not in chapters:
            chapters.append(found[0])
    toc = next((where for where, properties in items.values() if "nav" in properties.split()), "")
    spine = next(package.iter("{*}spine"), None)
    if not toc and spine is not None:
        toc = items.get(spine.get("toc", ""), ("", ""))[0]
    return chapters, toc


def _titles(archive: zipfile.ZipFile, toc: str) -> dict[str, str]:
    """What the table of contents (EPUB 3 nav, EPUB 2 NCX) calls each chapter."""
    folder = posixpath.dirname(toc)
    found: dict[str, str] = {}
    try:
        root = xml_root(archive.read(toc))
    except etree.XMLSyntaxError:
        return found
    pairs = [(link.get("href", ""), text_of(link)) for link in root.iter("{*}a")]
    for point in root.iter("{*}navPoint"):
        label, target = point.find("{*}navLabel"), point.find("{*}content")
        if label is not None and target is not None:
            pairs.append((target.get("src", ""), text_of(label)))
    for href, title in pairs:
        where = posixpath.normpath(posixpath.join(folder, unquote(href.partition("#")[0])))
        if title := one_line(title):
            found.setdefault(where, title)
    return found


def _chapter(data: bytes, named: str) -> list[Block] | None:
    """The blocks of one chapter below its name in the table of contents, or its own; None: unreadable."""
    markup = tidy(decode(data).text)[0]
    parser = lxml.html.HTMLParser(encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True)
    try:
        root = lxml.html.document_fromstring(markup.encode("utf-8"), parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError):
        return None
    body = root.find("body")
    blocks = blocks_of(root if body is None else body)
    title = root.find("head/title")
    if blocks and not any(block.kind == "heading" for block in blocks):
        written = named or ("" if title is None else collapse(text_of(title)))
        return [Block(written, "heading", 1), *blocks] if written else blocks
    return blocks


def _metadata(package: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for theirs, ours in _METADATA.items():
        values = [one_line("".join(e.itertext())) for e in package.iter(f"{_DC}{theirs}")]
        if values := [value for value in values if value]:
            found[ours] = values[0] if ours == "title" else ", ".join(values[:20])
    return found
