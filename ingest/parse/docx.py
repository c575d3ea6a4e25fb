"""DOCX through python-docx: headings, lists, tables, notes and text boxes in reading order.

The container is looked at before it is unpacked (`ingest.parse.container`). python-docx parses without
resolving entities and without a network; pictures and linked templates are never followed.
"""

from __future__ import annotations

import io
from typing import Any

import docx
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.opc.exceptions import PackageNotFoundError

from ingest.errors import EmptyDocument, ParseError
from ingest.parse.blocks import assemble
from ingest.parse.container import guard
from ingest.parse.docx_blocks import Reader, styles_of
from ingest.parse.docx_numbering import Numbering, W
from ingest.parse.source import Source
from ingest.parse.tidy import one_line
from ingest.types import Document


def parse(source: Source) -> Document:
    """One Word document.

    Raises:
        ParseError: damaged, or larger once unpacked than a document can be.
        EmptyDocument: no text in it; the message says so if there are pictures.
    """
    data = source.read()
    guard(data, source.name)
    try:
        opened = docx.Document(io.BytesIO(data))
    except (KeyError, ValueError, PackageNotFoundError) as error:
        raise ParseError(
            f"{source.name}: is no document that python-docx can read ({str(error)[:150]}). "
            "Save it anew as an ordinary .docx (not with macros, not as Strict Open XML)."
        ) from error
    part = opened.part
    styles = opened.styles.element
    defaults = (s for s in styles.iterchildren(f"{W}style") if s.get(f"{W}default") in ("1", "true"))
    default = next((s.get(f"{W}styleId", "") for s in defaults if s.get(f"{W}type") == "paragraph"), "")
    reader = Reader(
        styles_of(styles), default, Numbering(_part_xml(part, RELATIONSHIP_TYPE.NUMBERING)), _notes(part)
    )
    text, sections = assemble(list(reader.blocks(opened.element.body)))
    if not text:
        held = f"only {reader.pictures} picture(s), no text: OCR is needed" if reader.pictures else "no text"
        raise EmptyDocument(f"{source.name}: there is {held} in it. Nothing to ingest.")
    metadata = _metadata(opened.core_properties)
    return Document(
        text, one_line(metadata.get("title") or reader.title or source.stem), sections, (), metadata
    )


def _part_xml(part: Any, kind: str) -> Any | None:
    """The parsed element of the first related part of a kind, None where there is none."""
    from docx.oxml.parser import parse_xml

    for relation in part.rels.values():
        if relation.reltype == kind and not relation.is_external:
            target = relation.target_part
            return target.element if hasattr(target, "element") else parse_xml(target.blob)
    return None


def _notes(part: Any) -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {}
    for kind, reference, name in (
        (RELATIONSHIP_TYPE.FOOTNOTES, "footnoteReference", "footnote"),
        (RELATIONSHIP_TYPE.ENDNOTES, "endnoteReference", "endnote"),
    ):
        root = _part_xml(part, kind)
        for note in root.iterchildren(f"{W}{name}") if root is not None else ():
            found[reference, note.get(f"{W}id", "")] = note
    return found


def _metadata(core: Any) -> dict[str, str]:
    found = {
        key: one_line(value)
        for key in ("title", "author", "subject", "keywords", "category", "language")
        if isinstance(value := getattr(core, key, None), str) and value.strip()
    }
    for key in ("created", "modified"):
        try:
            moment = getattr(core, key)
        except (ValueError, TypeError):  # a date that is none
            continue
        if moment is not None:
            found[key] = moment.isoformat()
    return found
