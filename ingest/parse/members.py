"""Files within files: members of archives, attachments of mails.

Each is read by the parser of its own format, from memory: nothing is ever unpacked to a disk, so a name such
as `../../etc/passwd` is only a name. How deep they may nest, how many there may be, and what they may weigh
together is limited by the `Allowance` that all sources within one file share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import PurePosixPath

from ingest.errors import IngestError, ParseError
from ingest.parse import parse_source, supported
from ingest.parse.source import MIB, Source
from ingest.parse.tidy import one_line
from ingest.types import Document, Section

DEEPEST = 3
MOST_WARNINGS = 50


@dataclass(frozen=True, slots=True)
class Part:
    """One member: the line that stands over it, and what was read of it."""

    name: str
    text: str
    sections: tuple[Section, ...]


def label(name: str) -> str:
    """A member's name as a relative path that leads nowhere else, for headings and messages."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return one_line("/".join(part for part in parts if part not in ("/", "..", "."))) or "unnamed"


def readable(name: str) -> bool:
    """Whether a parser is listed for a member's name."""
    return supported(label(name))


def read_member(outer: Source, name: str, data: bytes) -> Document:
    """Parse a file that lies in another one.

    Raises:
        ParseError: too deep, too many, or too much in all.
        IngestError: as `ingest.parse.parse_file`.
    """
    called = label(name)
    if outer.nesting >= DEEPEST:
        raise ParseError(f"{called}: lies more than {DEEPEST} archives or mails deep; it was not read.")
    outer.allowance.members -= 1
    outer.allowance.unpacked -= len(data)
    if outer.allowance.members < 0:
        raise ParseError(f"{called}: there are too many files in the one around it; it was not read.")
    if outer.allowance.unpacked < 0:
        raise ParseError(f"{called}: what was unpacked before it is too much in all; it was not read.")
    inner = replace(
        outer,
        name=PurePosixPath(called).name,
        suffix=PurePosixPath(called).suffix.lower(),
        data=data,
        nesting=outer.nesting + 1,
        max_bytes=512 * MIB,
    )
    return parse_source(inner)


def part_of(name: str, document: Document) -> Part:
    """A member's document as a part; where it has pages but no headings, its pages are sections."""
    sections = document.sections
    if len(document.pages) > 1 and not any(section.heading_path for section in sections):
        starts = [0, *(page.char_start for page in document.pages[1:]), len(document.text)]
        sections = tuple(
            Section((f"page {number}",), start, end)
            for number, (start, end) in enumerate(pairwise(starts), 1)
            if end > start
        )
    return Part(name, document.text, sections)


def join(parts: Sequence[Part]) -> tuple[str, tuple[Section, ...]]:
    """The members one after the other, each below a line with its name, which also heads its sections."""
    pieces: list[str] = []
    sections: list[Section] = []
    at = 0
    for part in parts:
        head = f"\n\n{part.name}\n\n" if pieces else f"{part.name}\n\n"
        pieces += [head, part.text]
        sections.append(Section((part.name,), at, at + len(head)))
        at += len(head)
        sections += [
            Section((part.name, *s.heading_path), at + s.char_start, at + s.char_end, s.kind)
            for s in part.sections
        ]
        at += len(part.text)
    return "".join(pieces), tuple(sections)


def shortened(warnings: Sequence[str]) -> tuple[str, ...]:
    """The first warnings, and how many more there are."""
    if len(warnings) <= MOST_WARNINGS:
        return tuple(warnings)
    return (*warnings[:MOST_WARNINGS], f"and {len(warnings) - MOST_WARNINGS} more")


def why(error: IngestError, called: str) -> str:
    """An error's message as a warning of the file around it."""
    message = str(error)
    name = PurePosixPath(called).name
    return f"{called}: {message.removeprefix(called).removeprefix(name).removeprefix(': ')}"
