"""One file on its way through a parser: where it is, what it is called, what may be read of it."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from ingest.errors import EmptyDocument, ParseError

MIB = 1024 * 1024
OcrMode = Literal["auto", "off", "force"]


@dataclass(slots=True)
class Allowance:
    """What may still come out of one file: archives and mails hold files that hold files."""

    members: int = 2_000
    unpacked: int = 512 * MIB  #: bytes


def _nobody_watches() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Source:
    """What `parse_file` hands to a parser. The file is a regular one and no larger than `max_bytes`."""

    file: Path  #: where the bytes are
    name: str  #: what the user calls it (an upload lies under another name); used in messages and titles
    max_bytes: int
    password: str | None = None
    suffix: str = ""  #: lower case, of `name`
    ocr: OcrMode = "auto"
    data: bytes | None = None  #: the bytes of a member of an archive or mail; `file` is the outermost
    nesting: int = 0  #: archives and mails around it
    allowance: Allowance = field(default_factory=Allowance)
    alive: Callable[[], None] = _nobody_watches  #: called before each page of OCR: the deadline begins anew

    @property
    def content(self) -> Path | bytes:
        """What libraries that open files themselves are given."""
        return self.file if self.data is None else self.data

    def open(self) -> BinaryIO:
        """The bytes, from the beginning.

        Raises:
            ParseError: the file cannot be opened.
        """
        if self.data is not None:
            return io.BytesIO(self.data)
        try:
            return self.file.open("rb")
        except OSError as error:
            raise self.unreadable(error) from error

    def unreadable(self, error: OSError) -> ParseError:
        """What is raised where the file cannot be read."""
        return ParseError(f"{self.name}: cannot be read ({error.strerror}). Check that you may open it.")

    @property
    def stem(self) -> str:
        """The name without folders and suffix: the title of a document that has none."""
        return Path(self.name).stem or self.name

    def read(self) -> bytes:
        """The whole file, never more than `max_bytes` even if it grows while it is read.

        Raises:
            ParseError: it cannot be read, or it grew past the limit.
        """
        try:
            with self.open() as stream:
                data = stream.read(self.max_bytes + 1)
        except OSError as error:
            raise self.unreadable(error) from error
        if len(data) > self.max_bytes:
            raise ParseError(f"{self.name}: grew while it was read. Ingest it again when it is complete.")
        return data


def check_size(file: Path, name: str, limit: int, why: str) -> int:
    """The file's size in bytes, before anything of it is read.

    Raises:
        ParseError: it is missing, no regular file, or larger than `limit`.
        EmptyDocument: it has no bytes.
    """
    try:
        status = file.stat()
    except OSError as error:
        raise ParseError(
            f"{name}: cannot be read ({error.strerror}). Check the path and that you may open it."
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise ParseError(f"{name}: is no regular file (a folder, pipe or device). Name the file itself.")
    if status.st_size > limit:
        raise ParseError(
            f"{name}: {status.st_size / MIB:,.1f} MiB is over the limit of {limit / MIB:,.0f} MiB {why}. "
            "Nothing of it was read."
        )
    if not status.st_size:
        raise EmptyDocument(f"{name}: the file is empty (0 bytes). Nothing to ingest.")
    return status.st_size
