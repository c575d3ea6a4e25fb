"""DOCX through python-docx: headings, lists, tables, notes and text boxes in reading order.

The container is looked at before it is unpacked: a small ZIP can declare gigabytes, hold a hundred thousand
entries, or a document of a million empty paragraphs, which costs a kilobyte each once parsed. python-docx
parses without resolving entities and without a network; pictures and linked templates are never followed.
"""

from __future__ import annotations

import io
import re
import zipfile
from typing import Any

import docx
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.opc.exceptions import PackageNotFoundError

from ingest.errors import EmptyDocument, ParseError
from ingest.parse.blocks import assemble
from ingest.parse.docx_blocks import Reader, styles_of
from ingest.parse.docx_numbering import Numbering, W
from ingest.parse.source import MIB, Source
from ingest.parse.tidy import one_line
from ingest.types import Document

MOST_ENTRIES = 10_000
MOST_UNPACKED = 1024 * MIB
MOST_XML = 256 * MIB  #: of one XML part
MOST_TAGS = 3_000_000  #: of one XML part; a page of text has about a thousand
MOST_PARAGRAPHS = 200_000
HIGHEST_RATIO = 200  #: unpacked to packed, of an XML part; real ones stay below 50
_RATIO_COUNTS_FROM = 4 * MIB
_XML = re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?[\s\x00]*<")


def parse(source: Source) -> Document:
    """One Word document.

    Raises:
        ParseError: damaged, or larger once unpacked than a document can be.
        EmptyDocument: no text in it; the message says so if there are pictures.
    """
    data = source.read()
    _guard(data, source.name)
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


def _guard(data: bytes, name: str) -> None:
    """Refuse bombs: by what the directory declares, then by the tags of the unpacked XML parts."""

    def refuse(what: str) -> ParseError:
        return ParseError(
            f"{name}: {what}, which no real document has; it was not unpacked. Check where it comes from."
        )

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if len(entries) > MOST_ENTRIES:
            raise refuse(f"its container has {len(entries):,} entries")
        if (total := sum(entry.file_size for entry in entries)) > MOST_UNPACKED:
            raise refuse(f"it unpacks to {total / MIB:,.0f} MiB")
        for entry in entries:
            with archive.open(entry) as stream:
                if not _XML.match(
                    stream.read(512)
                ):  # whatever its name: names and types are the file's own claim
                    continue
            if entry.file_size > MOST_XML:
                raise refuse(f"{entry.filename[:80]} unpacks to {entry.file_size / MIB:,.0f} MiB")
            if entry.file_size > max(_RATIO_COUNTS_FROM, HIGHEST_RATIO * entry.compress_size):
                times = entry.file_size // max(1, entry.compress_size)
                raise refuse(f"{entry.filename[:80]} unpacks to {times:,} times its size")
            xml = archive.read(entry)  # never more than the declared size; a lie fails its checksum
            if xml.count(b"<") > MOST_TAGS:
                raise refuse(f"{entry.filename[:80]} has {xml.count(b'<'):,} tags")
            if xml.count(b":p>") + xml.count(b":p ") + xml.count(b":p/>") > 2 * MOST_PARAGRAPHS:
                raise refuse(f"{entry.filename[:80]} has more than {MOST_PARAGRAPHS:,} paragraphs")


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
