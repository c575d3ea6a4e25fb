"""OpenDocument text, spreadsheets and presentations (ODF 1.3), from their own XML through lxml.

One walk reads the three: headings, paragraphs, lists, tables and notes have the same elements in each. In a
spreadsheet every table is a section; its cells hold what the program showed, as text. In a presentation every
`draw:page` is a page. Repeated cells and rows (`number-columns-repeated`) are only laid out where they hold a
value: an empty sheet repeats its last row a million times.

Deleted text of tracked changes, hidden text, tables of contents and page headers are left out.
"""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Iterator
from typing import Any

from lxml import etree

from ingest.errors import EmptyDocument, ParseError, PasswordRequired
from ingest.parse.blocks import Block, assemble_parts, markdown_table
from ingest.parse.container import guard, xml_root
from ingest.parse.source import Source
from ingest.parse.tables import MOST_COLUMNS, Room, sheet_blocks
from ingest.parse.tidy import one_line
from ingest.types import Document

MOST_REPEATED = 1_000  #: times that a row or cell with a value is laid out
DEEPEST = 40  #: lists and tables within each other
MOST_TAGS = 12_000_000
_NS = "urn:oasis:names:tc:opendocument:xmlns:"
OFFICE, TEXT, TABLE, DRAW, PRESENTATION, META, STYLE = (
    f"{{{_NS}{name}:1.0}}" for name in ("office", "text", "table", "drawing", "presentation", "meta", "style")
)
_DC = "{http://purl.org/dc/elements/1.1/}"
_BODIES = (f"{OFFICE}text", f"{OFFICE}spreadsheet", f"{OFFICE}presentation")
#: Not text that a reader sees: declarations, deletions, indexes (they repeat headings), forms, comments.
_UNREAD = frozenset(
    [
        *(f"{TEXT}{name}" for name in (
            "tracked-changes", "sequence-decls", "variable-decls", "user-field-decls", "table-of-content",
            "alphabetical-index", "illustration-index", "table-index", "user-index", "bibliography",
            "hidden-text", "note-citation", "ruby-text",
        )),
        f"{OFFICE}forms", f"{OFFICE}annotation", f"{OFFICE}annotation-end", f"{OFFICE}event-listeners",
        f"{OFFICE}scripts", f"{PRESENTATION}footer-decl", f"{PRESENTATION}date-time-decl", f"{DRAW}image",
        *(f"{{{_NS}svg-compatible:1.0}}{name}" for name in ("title", "desc")),
    ]
)  # fmt: skip
_SPACES = {f"{TEXT}tab": "\t", f"{TEXT}line-break": "\n"}


def parse(source: Source) -> Document:
    """One OpenDocument file.

    Raises:
        PasswordRequired: its parts are encrypted.
        ParseError: damaged, or larger once unpacked than a document can be.
        EmptyDocument: no text in it.
    """
    data = source.read()
    _refuse_encrypted(data, source.name)
    guard(data, source.name, most_tags=MOST_TAGS)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        try:
            content = xml_root(archive.read("content.xml"))
            about = xml_root(archive.read("meta.xml")) if "meta.xml" in archive.namelist() else None
        except (KeyError, etree.XMLSyntaxError) as error:
            raise ParseError(
                f"{source.name}: its content is damaged or missing ({str(error)[:150]}). Save it anew."
            ) from error
    body = next((b for b in content.iter(*_BODIES)), None)
    if body is None:
        raise ParseError(f"{source.name}: there is no text, table or presentation in it.")
    warnings: list[str] = []
    metadata = _metadata(about) if about is not None else {}
    parts = _sheets(body, warnings, metadata) if body.tag == _BODIES[1] else _parts(body)
    text, sections, pages = assemble_parts(parts)
    if not text:
        raise EmptyDocument(f"{source.name}: there is no text in it. Nothing to ingest.")
    if body.tag == _BODIES[2]:
        metadata["pages"] = str(len(pages))
    else:
        pages = ()
    title = metadata.get("title") or next(
        (one_line(b.text) for part in parts for b in part if b.level == -1), ""
    )
    return Document(text, title or one_line(source.stem), sections, pages, metadata, tuple(warnings))


def _refuse_encrypted(data: bytes, name: str) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive, contextlib.suppress(KeyError):
        entry = archive.getinfo("META-INF/manifest.xml")
        if entry.file_size < 16 << 20 and b"encryption-data" in archive.read(entry):
            raise PasswordRequired(
                f"{name}: is encrypted by an Office program, which Lorebase cannot open even with the "
                "password. Save it there without a password and ingest it again."
            )


def _parts(body: Any) -> list[list[Block]]:
    """A text as one part, a presentation as one for each slide."""
    if body.tag == _BODIES[0]:
        titles = {"Title"}
        for style in body.getroottree().iter(f"{STYLE}style"):
            if style.get(f"{STYLE}parent-style-name") == "Title":
                titles.add(style.get(f"{STYLE}name"))
        return [_Walk(frozenset(titles)).read(body)]
    parts: list[list[Block]] = []
    for number, page in enumerate(body.iterchildren(f"{DRAW}page"), 1):
        walk = _Walk()
        title = ""
        rest: list[Block] = []
        for shape in page:
            if not title and shape.get(f"{PRESENTATION}class") == "title":
                title = one_line(" ".join(block.text for block in _Walk().read(shape)))
            elif shape.tag == f"{PRESENTATION}notes":
                frames = (f for f in shape if f.get(f"{PRESENTATION}class") == "notes")
                said = "\n".join(block.text for frame in frames for block in _Walk().read(frame))
                rest += [Block(f"Notes: {said}")] if said.strip() else []
            else:
                rest += walk.read(shape)
        head = [Block(title or f"Slide {number}", "heading", 1)]
        parts.append([*head, *rest] if title or any(block.text.strip() for block in rest) else [])
    return parts


def _sheets(body: Any, warnings: list[str], metadata: dict[str, str]) -> list[list[Block]]:
    room = Room()
    parts: list[list[Block]] = []
    names: list[str] = []
    hidden_styles = {
        style.get(f"{STYLE}name")
        for style in body.getroottree().iter(f"{STYLE}style")
        if any(p.get(f"{TABLE}display") == "false" for p in style)
    }
    for sheet in body.iterchildren(f"{TABLE}table"):
        name = sheet.get(f"{TABLE}name") or f"Sheet {len(names) + 1}"
        names.append(name)
        if sheet.get(f"{TABLE}style-name") in hidden_styles:
            warnings.append(f"hidden sheet was read, too: {name[:100]}")
        if rows := room.take(name, rows_of(sheet)):
            parts.append(sheet_blocks(name, rows))
    warnings += room.cut
    metadata["sheets"] = ", ".join(names)[:1000]
    return parts


def rows_of(table: Any) -> Iterator[list[str]]:
    """Cells of a table as they are shown; repeated ones laid out where they have a value."""
    for row in table.iterdescendants(f"{TABLE}table-row"):
        if next(row.iterancestors(f"{TABLE}table"), None) is not table:
            continue  # of a table inside a cell: its text is in that cell
        cells: list[str] = []
        for cell in row.iterchildren(f"{TABLE}table-cell", f"{TABLE}covered-table-cell"):
            text = "\n".join(block.text for block in _Walk().read(cell)) if len(cell) else ""
            text = text or cell.get(f"{OFFICE}string-value") or cell.get(f"{OFFICE}value") or ""
            times = _number(cell, f"{TABLE}number-columns-repeated")
            cells += [text] * min(times, MOST_REPEATED if text else MOST_COLUMNS)
            if len(cells) > MOST_COLUMNS:
                break
        while cells and not cells[-1]:
            cells.pop()
        times = min(_number(row, f"{TABLE}number-rows-repeated"), MOST_REPEATED) if cells else 1
        for _ in range(times):
            yield cells


def _number(element: Any, name: str) -> int:
    value = element.get(name) or "1"
    return max(1, int(value)) if value.isdecimal() and len(value) < 10 else 1


class _Walk:
    """From elements to blocks, in the order of the XML."""

    def __init__(self, titles: frozenset[str] = frozenset()) -> None:
        """`titles`: names of the paragraph styles that make a title of a paragraph."""
        self.blocks: list[Block] = []
        self._depth = 0
        self._titles = titles

    def read(self, element: Any) -> list[Block]:
        """The blocks below an element."""
        self.blocks = []
        self._children(element, 0)
        return self.blocks

    def _children(self, element: Any, lists: int) -> None:
        self._depth += 1
        if self._depth <= DEEPEST:
            for child in element:
                if isinstance(child.tag, str) and child.tag not in _UNREAD:
                    self._element(child, lists)
        self._depth -= 1

    def _element(self, element: Any, lists: int) -> None:
        tag = element.tag
        if tag == f"{TEXT}h":
            level = _number(element, f"{TEXT}outline-level")
            self.blocks.append(Block(one_line(inline(element)), "heading", min(level, 9)))
        elif tag == f"{TEXT}p":
            line = inline(element)
            style = element.get(f"{TEXT}style-name") or ""
            if lists and line.strip():
                self.blocks.append(Block("  " * (lists - 1) + "- " + line.strip(), "item"))
            elif line.strip():
                self.blocks.append(Block(line, "paragraph", -1 if style in self._titles else 0))
            for frame in element.iter(f"{DRAW}text-box"):  # anchored in the paragraph, shown apart from it
                self._children(frame, 0)
        elif tag == f"{TABLE}table":
            if text := markdown_table(list(rows_of(element))):
                self.blocks.append(Block(text, "table"))
        elif tag == f"{TEXT}list":
            for item in element.iterchildren(f"{TEXT}list-item", f"{TEXT}list-header"):
                self._children(item, lists + 1)
        else:
            self._children(element, lists)


def inline(element: Any) -> str:
    """Text of a paragraph, white space as ODF collapses it (1.3 part 3, 6.1.2); notes in brackets."""
    parts: list[str] = []
    _inline(element, parts, 0)
    return "".join(parts).strip(" ")


def _inline(element: Any, parts: list[str], depth: int) -> None:
    def add(text: str | None) -> None:
        if text:
            words = " ".join(text.replace("\n", " ").split(" ")) if "\n" in text else text
            parts.append(words)

    add(element.text)
    for child in element:
        tag = child.tag
        if not isinstance(tag, str) or tag in _UNREAD or tag == f"{DRAW}text-box" or depth > 200:
            pass
        elif tag == f"{TEXT}s":
            parts.append(" " * min(_number(child, f"{TEXT}c"), 100))
        elif tag in _SPACES:
            parts.append(_SPACES[tag])
        elif tag == f"{TEXT}note":
            notes = [inline(p) for p in child.iter(f"{TEXT}p")]
            parts.append(f" [{' '.join(notes)}]")
        elif tag == f"{TEXT}p":  # a paragraph in a frame inside the paragraph
            parts.append(" ")
            _inline(child, parts, depth + 1)
        else:
            _inline(child, parts, depth + 1)
        add(child.tail)


def _metadata(root: Any) -> dict[str, str]:
    names = {
        f"{_DC}title": "title", f"{META}initial-creator": "author", f"{_DC}creator": "author",
        f"{_DC}subject": "subject", f"{META}keyword": "keywords", f"{_DC}language": "language",
        f"{META}creation-date": "created", f"{_DC}date": "modified",
    }  # fmt: skip
    found: dict[str, str] = {}
    for element in root.iter(*names):
        if value := one_line("".join(element.itertext())):
            key = names[element.tag]
            found[key] = f"{found[key]}, {value}" if key == "keywords" and key in found else value
    return found
