"""One file on its way through a parser: where it is, what it is called, what may be read of it."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from ingest.errors import EmptyDocument, ParseError

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """What `parse_file` hands to a parser. The file is a regular one and no larger than `max_bytes`."""

    file: Path  #: where the bytes are
    name: str  #: what the user calls it (an upload lies under another name); used in messages and titles
    max_bytes: int
    password: str | None = None
    suffix: str = ""  #: lower case, of `name`

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
            with self.file.open("rb") as stream:
                data = stream.read(self.max_bytes + 1)
        except OSError as error:
            raise ParseError(
                f"{self.name}: cannot be read ({error.strerror}). Check that you may open it."
            ) from error
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
