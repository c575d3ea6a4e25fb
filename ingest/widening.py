"""From a passage to the section it was cut from: a wider context for who reads it.

Small passages are found better, larger ones are understood better. A passage knows its document and its
place, so the section around it needs no index of its own: it is cut from the stored text when it is wanted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace

from ingest.errors import UnknownDocument
from ingest.types import Document, Hit, SearchResult

#: Of a longer section, at most so many characters around the passage.
MOST_CHARACTERS = 4000

#: A document's text and structure, by its id; raises UnknownDocument.
Parsed = Callable[[str], Document]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The section around a passage; `text` is the document's, cut at these offsets."""

    text: str
    char_start: int
    char_end: int
    page_first: int | None
    page_last: int | None


def around(document: Document, start: int, end: int, most: int = MOST_CHARACTERS) -> Surroundings:
    """The section that [start, end) stands in, without white space at its ends; at most `most` characters.

    Of a longer section, whole lines around the passage, as many before it as behind it where there are as
    many. The passage is always in it, whole.
    """
    touched = [s for s in document.sections if s.char_start < end and start < s.char_end]
    first = min([start, *(s.char_start for s in touched)])
    last = max([end, *(s.char_end for s in touched)])
    if last - first > most:
        room = max(0, most - (end - start)) // 2
        first, last = max(first, start - room), min(last, end + room)
        if line := document.text.rfind("\n", first, start) + 1:
            first = document.text.find("\n", first, start) + 1 if line > first else first
        line = document.text.rfind("\n", end, last)
        last = line if line >= 0 else last
    text = document.text[first:last]
    first += len(text) - len(text.lstrip())
    last -= len(text) - len(text.rstrip())
    first, last = min(first, start), max(last, end)
    pages = [page.char_start for page in document.pages]

    def page(at: int) -> int | None:
        return document.pages[max(0, bisect_right(pages, at) - 1)].number if pages else None

    return Surroundings(document.text[first:last], first, last, page(first), page(last - 1))


def surroundings(hit: Hit, parsed: Parsed) -> Surroundings | None:
    """The section around a hit; None where its document has gone or changed since the search."""
    try:
        document = parsed(hit.document_id)
    except UnknownDocument:
        return None
    if document.text[hit.char_start : hit.char_end] != hit.text:
        return None
    return around(document, hit.char_start, hit.char_end)


def widened(found: SearchResult, parsed: Parsed) -> SearchResult:
    """The hits with their sections in place of their passages; of several in one section, the best stays."""
    hits: list[Hit] = []
    for hit in found.hits:
        wide = surroundings(hit, parsed)
        if wide is None:
            hits.append(hit)
        elif not any(
            h.document_id == hit.document_id and h.char_start <= hit.char_start and hit.char_end <= h.char_end
            for h in hits
        ):
            hits.append(
                replace(
                    hit,
                    text=wide.text,
                    char_start=wide.char_start,
                    char_end=wide.char_end,
                    page_first=wide.page_first,
                    page_last=wide.page_last,
                )
            )
    return replace(found, hits=tuple(hits))
