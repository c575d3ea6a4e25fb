"""Mails (RFC 5322 with MIME) and mailboxes (mbox, RFC 4155), by the standard library's email package.

Each message is a section under its subject: its headers, its body (of a text and a page that
say the same, the text), its attachments by name, and below them the text of those that have a parser.
"""

from __future__ import annotations

import contextlib
import email
import email.policy
import email.utils
import re
from collections.abc import Iterator
from dataclasses import replace
from email.message import EmailMessage

import lxml.html
from lxml import etree

from ingest.errors import EmptyDocument, IngestError, ParseError
from ingest.parse.blocks import assemble
from ingest.parse.encoding import decode
from ingest.parse.html_blocks import blocks_of
from ingest.parse.members import Part, join, label, part_of, read_member, readable, shortened, why
from ingest.parse.source import Source
from ingest.parse.tidy import one_line, tidy
from ingest.types import Document, Section

MOST_MESSAGES = 20_000
_HEADERS = ("Subject", "From", "To", "Cc", "Date")
#: Inside a box the line must have a time and a year (RFC 4155): a paragraph may begin with "From now on".
_FROM_LINE = re.compile(
    rb"\AFrom [^\n]*\n|(?:(?<=\n\n)|(?<=\n\r\n))From [^\n]*\d:\d\d[^\n]*\b\d{4}\b[^\n]*\n"
)
_HEADER_LINE = re.compile(rb"(?:From [^\n]*\n)?[!-9;-~]{1,200}[ \t]*:")
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)


def parse(source: Source) -> Document:
    """One mail, or all mails of a mailbox.

    Raises:
        ParseError: it does not begin with a header.
        EmptyDocument: no text in any message.
    """
    data = source.read().lstrip(b"\r\n\xef\xbb\xbf")
    if not _HEADER_LINE.match(data):
        raise ParseError(f"{source.name}: does not begin with a mail header. Is it an e-mail?")
    warnings: list[str] = []
    parts: list[Part] = []
    metadata: dict[str, str] = {}
    is_box = data.startswith(b"From ")
    for number, raw in enumerate(_messages(data) if is_box else [data], 1):
        if number > MOST_MESSAGES:
            warnings.append(f"only the first {MOST_MESSAGES:,} messages were read")
            break
        message = email.message_from_bytes(raw, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        subject = header(message, "Subject") or f"Message {number}"
        part, said, has_text = _read(source, message, subject)
        if has_text:
            parts.append(part)
        warnings += [f"{subject}: {warning}" if is_box else warning for warning in said]
        if not is_box:
            metadata = _metadata(message)
    if not parts:
        why_not = f" ({'; '.join(warnings[:3])})" if warnings else ""
        raise EmptyDocument(f"{source.name}: there is no text in it{why_not}. Nothing to ingest.")
    if is_box:
        metadata["messages"] = str(len(parts))
        text, sections = join(parts)
        title = one_line(source.stem)
    else:
        text, title = parts[0].text, metadata.get("title", "")
        sections = tuple(
            replace(section, heading_path=(parts[0].name, *section.heading_path))
            for section in parts[0].sections
        )
    return Document(text, title or one_line(source.stem), sections, (), metadata, shortened(warnings))


def _messages(data: bytes) -> Iterator[bytes]:
    """The messages of a mailbox; a line that begins with From inside one is quoted there by `>`."""
    starts = [found.end() for found in _FROM_LINE.finditer(data)]
    ends = [found.start() for found in _FROM_LINE.finditer(data)][1:]
    for start, end in zip(starts, [*ends, len(data)], strict=True):
        yield _QUOTED_FROM.sub(rb"\1", data[start:end])


def _read(source: Source, message: EmailMessage, subject: str) -> tuple[Part, list[str], bool]:
    """One message, its warnings, and whether it says anything."""
    warnings: list[str] = []
    lines = [f"{name}: {value}" for name in _HEADERS if (value := header(message, name))]
    said: list[str] = []
    attached: list[tuple[str, bytes]] = []
    for part in _leaves(message, 0):
        kind = part.get_content_type()
        name = _filename(part)
        if kind == "message/rfc822":
            # What it is called is its subject; what it is tells how it is read.
            called = name if name.lower().endswith(".eml") else f"{name or 'message'}.eml"
            attached.append((called, _inner(part)))
        elif name or part.get_content_disposition() == "attachment":
            attached.append((name or "unnamed", _payload(part)))
        elif kind == "text/plain" or part.get_content_maintype() == "multipart":
            said.append(_text(part).strip())
        elif kind == "text/html":
            said.append(_from_html(_text(part)).strip())
    body = "\n\n".join(filter(None, said))
    if attached:
        lines.append("Attachments: " + ", ".join(label(name) for name, _ in attached))
    head = tidy("\n".join(lines))[0]
    body = tidy(body)[0].strip()
    text = f"{head}\n\n{body}" if body else head
    inner: list[Part] = []
    for name, data in attached:
        called = label(name)
        if not readable(called):
            continue
        try:
            document = read_member(source, called, data)
        except IngestError as error:
            warnings.append(why(error, called))
            continue
        inner.append(part_of(called, document))
        warnings += [f"{called}: {warning}" for warning in document.warnings]
    sections = [Section((), 0, len(text))]
    if inner:
        below, deeper = join(inner)
        at = len(text) + 2
        sections[0] = Section((), 0, at)
        sections += [replace(s, char_start=at + s.char_start, char_end=at + s.char_end) for s in deeper]
        text = f"{text}\n\n{below}"
    says = bool(body or inner or attached or message.get("Subject"))
    return Part(one_line(subject), text, tuple(sections)), warnings, says


def _leaves(message: EmailMessage, depth: int) -> Iterator[EmailMessage]:
    """The parts that are no multiparts, in order; an attached mail is one part.

    Of alternatives (RFC 2046, 5.1.4) that say the same as plain text and as a page, the page is left out. A
    multipart without its boundary has no parts, and is one: its text stands between no marks.
    """
    if message.is_multipart() and message.get_content_maintype() == "multipart" and depth < 50:
        parts = [part for part in message.iter_parts() if isinstance(part, EmailMessage)]
        leaves = [leaf for part in parts for leaf in _leaves(part, depth + 1)]
        if message.get_content_subtype() == "alternative" and any(
            part.get_content_type() == "text/plain" and _text(part).strip() for part in parts
        ):
            leaves = [leaf for leaf in leaves if leaf.get_content_type() != "text/html" or _filename(leaf)]
        yield from leaves
    else:
        yield message


def header(message: EmailMessage, name: str) -> str:
    """A header decoded, on one line; "" where it is missing or cannot be read."""
    try:
        return one_line(str(message[name] or ""))
    except Exception:  # the email package raises many types on malformed headers
        return ""


def _filename(part: EmailMessage) -> str:
    with contextlib.suppress(Exception):  # see `header`
        return one_line(part.get_filename() or "")
    return ""


def _payload(part: EmailMessage) -> bytes:
    with contextlib.suppress(Exception):  # see `header`
        found = part.get_payload(decode=True)
        return found if isinstance(found, bytes) else b""
    return b""


def _inner(part: EmailMessage) -> bytes:
    with contextlib.suppress(Exception):  # see `header`
        held = part.get_payload(0)
        if isinstance(held, EmailMessage):
            return held.as_bytes()
    return b""


def _text(part: EmailMessage) -> str:
    """A text part by the encoding it declares where that fits, else by what its bytes look like."""
    declared = None
    with contextlib.suppress(Exception):  # see `header`
        declared = part.get_content_charset()
    return decode(_payload(part), declared).text


def _from_html(markup: str) -> str:
    parser = lxml.html.HTMLParser(encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True)
    try:
        root = lxml.html.document_fromstring(tidy(markup)[0].encode("utf-8"), parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError):
        return ""
    return assemble(blocks_of(root))[0]


def _metadata(message: EmailMessage) -> dict[str, str]:
    found = {
        ours: value
        for theirs, ours in (("Subject", "title"), ("From", "author"), ("To", "to"))
        if (value := header(message, theirs))
    }
    with contextlib.suppress(ValueError, TypeError, IndexError):
        found["created"] = email.utils.parsedate_to_datetime(header(message, "Date")).isoformat()
    return found
