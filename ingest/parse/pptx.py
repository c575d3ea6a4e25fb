"""PowerPoint through python-pptx: every slide a page and a section under its title, with tables and notes.

Shapes come in the order in which they are stored, which is the order a screen reader takes; groups are read
through. Text that python-pptx has no view of (diagrams, alternate content) is taken from the XML. Footers,
dates and slide numbers that only repeat a template's fields are left out, other text in such placeholders is
kept: authors do write into them.
"""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pptx
from lxml import etree
from pptx.exc import PackageNotFoundError
from pptx.opc.constants import RELATIONSHIP_TYPE

from ingest.errors import EmptyDocument, ParseError
from ingest.parse.blocks import Block, assemble_parts, markdown_table
from ingest.parse.container import guard, xml_root
from ingest.parse.source import Source
from ingest.parse.tidy import one_line
from ingest.types import Document

MOST_SLIDES = 5_000
DEEPEST = 20  #: groups within groups
_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_C = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_DIAGRAM = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}relIds"
_TITLES = ("title", "ctrTitle")
_NO_TITLES = ("", "powerpoint presentation", "powerpoint-präsentation", "powerpoint 演示文稿")
_FURNITURE = ("sldNum", "dt", "ftr", "hdr", "sldImg")  #: ECMA-376 part 1, 19.7.10


@dataclass(slots=True)
class _Seen:
    """What a run over the slides counted."""

    pictures: int = 0
    unread: int = 0


def parse(source: Source) -> Document:
    """One presentation.

    Raises:
        ParseError: damaged, or larger once unpacked than a presentation can be.
        EmptyDocument: no text on any slide.
    """
    data = source.read()
    guard(data, source.name)
    try:
        opened = pptx.Presentation(io.BytesIO(data))
        slides = list(opened.slides)
    except (KeyError, ValueError, PackageNotFoundError, zipfile.BadZipFile) as error:
        raise ParseError(
            f"{source.name}: is no presentation that python-pptx can read ({str(error)[:150]}). "
            "Save it anew as an ordinary .pptx."
        ) from error
    warnings: list[str] = []
    if len(slides) > MOST_SLIDES:
        raise ParseError(
            f"{source.name}: has {len(slides):,} slides, over the limit of {MOST_SLIDES:,}. Split it."
        )
    seen = _Seen()
    parts: list[list[Block]] = []
    titles: list[str] = []
    for number, slide in enumerate(slides, 1):
        try:
            title, blocks = _slide(slide, number, seen)
            parts.append(blocks)
            titles.append(title)
        except (KeyError, ValueError, AttributeError, etree.LxmlError) as error:
            parts.append([])
            warnings.append(f"slide {number} could not be read ({type(error).__name__})")
    if not any(parts):
        held = f"only {seen.pictures} picture(s), no text" if seen.pictures else "no text"
        raise EmptyDocument(f"{source.name}: there is {held} on its {len(slides)} slide(s).")
    text, sections, pages = assemble_parts(parts)
    if seen.unread:
        warnings.append(f"{seen.unread} embedded object(s) were not read")
    metadata = _metadata(opened)
    title = metadata.get("title", "")
    if title.casefold() in _NO_TITLES:
        title = next(filter(None, titles), "") or one_line(source.stem)
    metadata["pages"] = str(len(pages))
    return Document(text, title, sections, pages, metadata, tuple(warnings))


def _slide(slide: Any, number: int, seen: _Seen) -> tuple[str, list[Block]]:
    """The title ("" for none), and as blocks: title, the other shapes, the notes.

    A slide without a title is headed by its number, so that its text does not hang below the one before.
    """
    title = ""
    blocks: list[Block] = []
    for kind, shape in _shapes(slide.shapes._spTree, 0):
        if kind in _TITLES and not title:
            title = one_line(" ".join(_paragraph(p) for p in shape.iter(f"{_A}p")))
        else:
            blocks += _shape(slide, shape, kind, seen)
    if slide.has_notes_slide:
        notes = [
            _paragraph(paragraph)
            for kind, shape in _shapes(slide.notes_slide.shapes._spTree, 0)
            if kind == "body"
            for paragraph in shape.iter(f"{_A}p")
        ]
        if said := "\n".join(line for line in notes if line.strip()):
            blocks.append(Block(f"Notes: {said}"))
    if not title and not any(block.text.strip() for block in blocks):
        return "", []
    return title, [Block(title or f"Slide {number}", "heading", 1), *blocks]


def _shapes(tree: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """(placeholder type or "", element) of every shape, groups read through.

    Of alternate content the first choice is taken: it is what the program that wrote it shows.
    """
    if depth > DEEPEST:
        return
    for element in tree.iterchildren(
        f"{_P}sp", f"{_P}grpSp", f"{_P}graphicFrame", f"{_P}pic", f"{_MC}AlternateContent"
    ):
        if element.tag == f"{_P}grpSp":
            yield from _shapes(element, depth + 1)
        elif element.tag == f"{_MC}AlternateContent":
            for choice in element.iterchildren(f"{_MC}Choice"):
                yield from _shapes(choice, depth + 1)
                break
        else:
            placeholder = next(element.iter(f"{_P}ph"), None)
            # A type that is missing means "obj" (19.3.1.36), a body; a wrong one is only a name to us.
            kind = "" if placeholder is None else (placeholder.get("type") or "obj")
            yield kind, element


def _shape(slide: Any, element: Any, kind: str, seen: _Seen) -> list[Block]:
    if element.tag == f"{_P}pic":
        seen.pictures += 1
        return []
    if element.tag == f"{_P}graphicFrame":
        return _frame(slide, element, seen)
    blocks: list[Block] = []
    for paragraph in element.iter(f"{_A}p"):
        fields = list(paragraph.iter(f"{_A}fld"))
        if kind in _FURNITURE and (fields or kind in ("sldNum", "sldImg")):
            continue
        line = _paragraph(paragraph)
        if not line.strip():
            continue
        level, marked = _list_level(paragraph, kind)
        if marked:
            indent = "  " * level
            blocks.append(Block(f"{indent}- " + line.replace("\n", f"\n{indent}  "), "item"))
        else:
            blocks.append(Block(line))
    return blocks


def _list_level(paragraph: Any, kind: str) -> tuple[int, bool]:
    """Depth of a paragraph in its list, and whether it is an item: bodies are lists unless they say not."""
    properties = paragraph.find(f"{_A}pPr")
    level, marks = 0, set[str]()
    if properties is not None:
        written = properties.get("lvl") or "0"
        level = min(int(written), 8) if written.isdecimal() else 0
        marks = {etree.QName(child).localname for child in properties if isinstance(child.tag, str)}
    if "buNone" in marks:
        return level, False
    return level, bool(marks & {"buChar", "buAutoNum", "buBlip"}) or kind in ("body", "obj")


def _paragraph(paragraph: Any) -> str:
    """Runs, fields and line breaks of a paragraph."""
    parts: list[str] = []
    for element in paragraph.iter(f"{_A}t", f"{_A}br"):
        parts.append("\n" if element.tag == f"{_A}br" else element.text or "")
    return "".join(parts)


def _frame(slide: Any, frame: Any, seen: _Seen) -> list[Block]:
    """A table, a chart's figures, or the words of a diagram."""
    blocks: list[Block] = []
    for table in frame.iter(f"{_A}tbl"):
        rows = [
            ["" if _covered(cell) else "\n".join(_paragraph(p) for p in cell.iter(f"{_A}p"))
             for cell in row.iterchildren(f"{_A}tc")]
            for row in table.iterchildren(f"{_A}tr")
        ]  # fmt: skip
        if text := markdown_table(rows):
            blocks.append(Block(text, "table"))
    for chart in frame.iter(f"{_C}chart"):
        with contextlib.suppress(KeyError, ValueError, AttributeError, etree.LxmlError):
            blocks += _chart(slide.part.related_part(chart.get(f"{_R}id")).chart)
    for diagram in frame.iter(_DIAGRAM):
        with contextlib.suppress(KeyError, ValueError, AttributeError, etree.LxmlError):
            root = xml_root(slide.part.related_part(diagram.get(f"{_R}dm")).blob)
            lines = (_paragraph(p) for p in root.iter(f"{_A}p"))
            blocks += [Block(f"- {line}", "item") for line in lines if line.strip()]
    if not blocks and frame.find(f".//{_P}oleObj") is not None:
        seen.unread += 1
    return blocks


def _covered(cell: Any) -> bool:
    """Whether a cell lies under a merged one."""
    return cell.get("hMerge") in ("1", "true") or cell.get("vMerge") in ("1", "true")


def _chart(chart: Any) -> list[Block]:
    """Categories and series as a table, below the chart's title."""
    blocks: list[Block] = []
    if chart.has_title and chart.chart_title.has_text_frame:
        blocks.append(Block(chart.chart_title.text_frame.text))
    for plot in chart.plots:
        series = list(plot.series)
        rows = [["", *(str(one.name) for one in series)]]
        values = [list(one.values) for one in series]
        for at, category in enumerate(plot.categories):
            cells = [str(v[at]) if at < len(v) and v[at] is not None else "" for v in values]
            rows.append([str(category), *cells])
        if text := markdown_table(rows):
            blocks.append(Block(text, "table"))
    return blocks


def _metadata(opened: Any) -> dict[str, str]:
    if not any(r.reltype == RELATIONSHIP_TYPE.CORE_PROPERTIES for r in opened.part.package._rels.values()):
        return {}  # python-pptx would make some up, with the time of now
    core = opened.core_properties
    found = {
        key: one_line(value)
        for key in ("title", "author", "subject", "keywords", "category", "language")
        if isinstance(value := getattr(core, key, None), str) and value.strip()
    }
    for key in ("created", "modified"):
        with contextlib.suppress(ValueError, TypeError):  # a date that is none
            if (moment := getattr(core, key)) is not None:
                found[key] = cast(str, moment.isoformat())
    return found
