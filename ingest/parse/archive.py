"""ZIP archives: every member that has a parser is read, each as a section under its path in the archive.

Nothing is unpacked to a disk. What a bomb declares is refused by its ratio before it is inflated, what lies
about its size is stopped at the size it declared, and all members share one allowance
(`ingest.parse.members`). A member that fails costs itself: it is named in the warnings.
"""

from __future__ import annotations

import zipfile
import zlib

from ingest.errors import EmptyDocument, IngestError, ParseError, PasswordRequired, UnsupportedFormat
from ingest.parse.members import Part, join, label, part_of, read_member, readable, shortened, why
from ingest.parse.source import MIB, Source
from ingest.parse.tidy import one_line
from ingest.types import Document

MOST_ENTRIES = 100_000
HIGHEST_RATIO = 200
_RATIO_COUNTS_FROM = 4 * MIB


def parse(source: Source) -> Document:
    """One archive.

    Raises:
        PasswordRequired: its members are encrypted and no or a wrong password was given.
        ParseError: damaged, or with more members than a table of contents can have.
        UnsupportedFormat: there is no member that can be read.
        EmptyDocument: there is no text in any member.
    """
    warnings: list[str] = []
    errors: list[IngestError] = []
    parts: list[Part] = []
    left_out = 0
    with source.open() as stream, zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
        if len(entries) > MOST_ENTRIES:
            raise ParseError(
                f"{source.name}: has {len(entries):,} members, over the limit of {MOST_ENTRIES:,}. Split it."
            )
        for entry in entries:
            called = label(entry.filename)
            if entry.is_dir() or _is_hidden(called):
                continue
            if not readable(called):
                left_out += 1
                continue
            if source.allowance.members <= 0 or source.allowance.unpacked <= 0:
                warnings.append(f"{called} and what follows it was not read: the archive holds too much")
                break
            try:
                document = read_member(source, called, _unpacked(source, archive, entry))
            except IngestError as error:
                errors.append(error)
                warnings.append(why(error, called))
                continue
            parts.append(part_of(called, document))
            warnings += [f"{called}: {warning}" for warning in document.warnings]
    if left_out:
        warnings.append(f"{left_out} member(s) were left out: no parser for their names")
    text, sections = join(parts)
    if not parts:
        raise _nothing(source.name, errors, left_out)
    metadata = {"members": str(len(parts))}
    return Document(text, one_line(source.stem), sections, (), metadata, shortened(warnings))


def _is_hidden(called: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in called.split("/"))


def _unpacked(source: Source, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """The bytes of a member, never more than the allowance or than it declares.

    Raises:
        PasswordRequired, ParseError: it is encrypted, a bomb, or damaged.
    """
    called = label(entry.filename)
    if entry.file_size > source.allowance.unpacked:
        raise ParseError(
            f"{called}: {entry.file_size / MIB:,.1f} MiB is more than may still be unpacked of what holds it."
        )
    if entry.file_size > max(_RATIO_COUNTS_FROM, HIGHEST_RATIO * entry.compress_size):
        times = entry.file_size // max(1, entry.compress_size)
        raise ParseError(
            f"{called}: unpacks to {times:,} times its size, as no real document does; it was not unpacked."
        )
    password = source.password.encode() if source.password else None
    try:
        with archive.open(entry, pwd=password) as stream:
            return stream.read(entry.file_size + 1)
    except RuntimeError as error:  # how zipfile says that a password is wanted or wrong
        what = ", and the password given does not open it" if password else " and needs a password"
        raise PasswordRequired(
            f"{called}: is encrypted{what}. Ingest it with `--password`, or unpack the archive."
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError) as error:
        raise ParseError(f"{called}: is damaged in the archive ({error}). Get the archive again.") from error


def _nothing(name: str, errors: list[IngestError], left_out: int) -> IngestError:
    """What to raise where no member could be read."""
    reasons = "; ".join(str(error) for error in errors[:3])[:600]
    if any(isinstance(error, PasswordRequired) for error in errors):
        return PasswordRequired(f"{name}: {reasons}")
    if errors and not all(isinstance(error, EmptyDocument) for error in errors):
        return ParseError(f"{name}: no member of the archive could be read: {reasons}")
    if errors:
        return EmptyDocument(f"{name}: there is no text in any member: {reasons}")
    return UnsupportedFormat(
        f"{name}: is a ZIP archive without a member that Lorebase reads ({left_out} of other kinds). "
        "Unpack it, or leave it out."
    )
