"""ZIP containers of Office files and e-books, looked at before anything in them is parsed.

A small ZIP can declare gigabytes, hold a hundred thousand entries, or a document of a million empty
paragraphs, which costs a kilobyte each once parsed; XML can multiply itself through entities. What no real
document has is refused by what the directory declares, then by the tags of the unpacked XML parts.
"""

from __future__ import annotations

import io
import re
import zipfile

from lxml import etree

from ingest.errors import ParseError
from ingest.parse.source import MIB

MOST_ENTRIES = 10_000
MOST_UNPACKED = 1024 * MIB
MOST_XML = 256 * MIB  #: of one XML part
MOST_TAGS = 3_000_000  #: of one XML part; a page of text has about a thousand
MOST_PARAGRAPHS = 200_000
HIGHEST_RATIO = 200  #: unpacked to packed, of an XML part; real ones stay below 50
_RATIO_COUNTS_FROM = 4 * MIB
_XML = re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?[\s\x00]*<")


def guard(data: bytes, name: str, *, most_tags: int = MOST_TAGS) -> None:
    """Refuse what no real document has.

    Raises:
        ParseError: a bomb.
        zipfile.BadZipFile: damaged.
    """

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
            if xml.count(b"<") > most_tags:
                raise refuse(f"{entry.filename[:80]} has {xml.count(b'<'):,} tags")
            if xml.count(b":p>") + xml.count(b":p ") + xml.count(b":p/>") > 2 * MOST_PARAGRAPHS:
                raise refuse(f"{entry.filename[:80]} has more than {MOST_PARAGRAPHS:,} paragraphs")


def xml_root(data: bytes) -> etree._Element:
    """The root of an XML part, parsed without entities, document types or a network.

    Raises:
        etree.XMLSyntaxError: it is not well formed, or libxml2's limits on depth and size are passed.
    """
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
    )
    return etree.fromstring(data, parser=parser)
