"""What goes between us and a parser's process: JSON messages behind their lengths, and documents in them."""

from __future__ import annotations

import json
import struct
from typing import IO, Any

from ingest import errors
from ingest.errors import IngestError, ParseError
from ingest.types import Document, Page, Section

_HEADER = struct.Struct(">Q")


def send(pipe: IO[bytes] | None, message: dict[str, Any]) -> None:
    """Write a message. Raises OSError where nobody reads."""
    assert pipe is not None
    body = json.dumps(message).encode("ascii")  # escapes carry file names that are no UTF-8, too
    pipe.write(_HEADER.pack(len(body)) + body)
    pipe.flush()


def receive(pipe: IO[bytes] | None, largest: int) -> dict[str, Any] | None:
    """The next message, None at the end of the pipe or where it is cut short.

    Raises:
        ValueError: the message is too large or no JSON object.
    """
    assert pipe is not None
    try:
        header = pipe.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return None
        (length,) = _HEADER.unpack(header)
        if length > largest:
            raise ValueError(f"a message of {length} bytes")
        body = pipe.read(length)
    except OSError:
        return None
    if len(body) < length:
        return None
    message = json.loads(body)
    if not isinstance(message, dict):
        raise ValueError("no JSON object")
    return message


def encoded(document: Document) -> dict[str, Any]:
    """A document as plain data."""
    return {
        "text": document.text,
        "title": document.title,
        "sections": [[s.heading_path, s.char_start, s.char_end, s.kind] for s in document.sections],
        "pages": [[p.number, p.char_start, p.char_end] for p in document.pages],
        "metadata": document.metadata,
        "warnings": document.warnings,
        "parser": document.parser,
    }


def decoded(reply: dict[str, Any]) -> Document:
    """What `encoded` made; raises the error of our tree that came in its place."""
    if "error" in reply:
        kind = getattr(errors, str(reply["error"]), ParseError)
        is_ours = isinstance(kind, type) and issubclass(kind, IngestError)
        raise (kind if is_ours else ParseError)(str(reply["message"]))
    return Document(
        text=str(reply["text"]),
        title=str(reply["title"]),
        sections=tuple(
            Section(tuple(map(str, p)), int(a), int(b), kind) for p, a, b, kind in reply["sections"]
        ),
        pages=tuple(Page(int(n), int(a), int(b)) for n, a, b in reply["pages"]),
        metadata={str(key): str(value) for key, value in reply["metadata"].items()},
        warnings=tuple(map(str, reply["warnings"])),
        parser=str(reply["parser"]),
    )
