"""Rows of the tables and the objects they stand for; each is checked against its checksum on the way out."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

from ingest.store import Origin, Source
from ingest.store.schema import checksum, damaged
from ingest.types import Chunk, Document, Hit, Page, Section, StoredDocument, Value

DOCUMENT = (
    "document_id, path, title, content_hash, recipe, size, mtime_ns, origin, characters, chunks, pages,"
    " metadata, warnings, ingested_at"
)
CHUNK = (
    "chunk_id, document, position, char_start, char_end, page_first, page_last, heading_path, prefix, tokens,"
    " vector_id, text"
)
_DOCUMENT_NAMES = [name.strip() for name in DOCUMENT.split(",")]
TEXT = "document, parser, sections, pages, text"


def columns(names: str, table: str) -> str:
    """The columns and the checksum, each with its table in front of it."""
    return ", ".join(f"{table}.{name.strip()}" for name in (*names.split(","), "checksum"))


def embedding_key(chunk: Chunk, title: str) -> bytes:
    """SHA-256 of what the embedder reads: equal text is embedded once, wherever it stands."""
    return sha256(chunk.embedding_text(title).encode("utf-8", "surrogatepass")).digest()


def document_id(collection: str, path: str) -> str:
    """The id that a document of this path has: the same whenever and wherever the collection is made."""
    return blake2b(f"{collection}\0{path}".encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()


def intact(row: Sequence[Any], what: str, file: Path, *owner: str) -> Sequence[Any]:
    """The row without its last column: the checksum of the others and of the owner, its document's id.

    The owner is in it because a damaged key could lead to a row that is whole, but another document's.

    Raises:
        IndexDamaged: it is not.
    """
    *fields, stored = row
    if checksum(*fields, *owner) != stored:
        raise damaged(file, f"{what} does not match its checksum")
    return fields


def document_row(
    document_id: str, source: Source, document: Document, chunks: int, now: str
) -> tuple[Any, ...]:
    """Values for `DOCUMENT`, checksum last."""
    fields = (
        document_id,
        source.path,
        document.title,
        source.content_hash,
        source.recipe,
        source.size,
        source.mtime_ns,
        source.origin,
        len(document.text),
        chunks,
        len(document.pages),
        json.dumps(document.metadata, ensure_ascii=False, sort_keys=True),
        json.dumps(document.warnings, ensure_ascii=False),
        now,
    )
    return (*fields, checksum(*fields))


def text_row(number: int, document_id: str, document: Document) -> tuple[Any, ...]:
    """Values for `TEXT`, checksum last."""
    fields = (
        number,
        document.parser,
        json.dumps(
            [[s.heading_path, s.char_start, s.char_end, s.kind] for s in document.sections],
            ensure_ascii=False,
        ),
        json.dumps([[p.number, p.char_start, p.char_end] for p in document.pages]),
        document.text,
    )
    return (*fields, checksum(*fields, document_id))


def chunk_row(chunk_id: int, number: int, document_id: str, chunk: Chunk, vector_id: int) -> tuple[Any, ...]:
    """Values for `CHUNK`, checksum last."""
    fields = (
        chunk_id,
        number,
        chunk.position,
        chunk.char_start,
        chunk.char_end,
        chunk.page_first,
        chunk.page_last,
        json.dumps(chunk.heading_path, ensure_ascii=False),
        chunk.prefix,
        chunk.tokens,
        vector_id,
        chunk.text,
    )
    return (*fields, checksum(*fields, document_id))


def stored_document(
    row: Sequence[Any], file: Path, own: Mapping[str, dict[str, Value]] | None = None
) -> StoredDocument:
    """From the columns `DOCUMENT` and checksum, and the user's fields by path."""
    fields = dict(zip(_DOCUMENT_NAMES, intact(row, f"the entry of document {row[1]!r}", file), strict=True))
    return StoredDocument(
        document_id=fields["document_id"],
        path=fields["path"],
        title=fields["title"],
        content_hash=fields["content_hash"],
        recipe=fields["recipe"],
        characters=fields["characters"],
        chunks=fields["chunks"],
        pages=fields["pages"],
        metadata=json.loads(fields["metadata"]),
        warnings=tuple(json.loads(fields["warnings"])),
        ingested_at=fields["ingested_at"],
        own=(own or {}).get(fields["path"], {}),
    )


def source_of(row: Sequence[Any], file: Path) -> Source:
    """From the columns `DOCUMENT` and checksum."""
    _, path, _, content_hash, recipe, size, mtime_ns, origin, *_ = intact(
        row, f"the entry of {row[1]!r}", file
    )
    kind: Origin = "upload" if origin == "upload" else "file"
    return Source(path, content_hash, recipe, size, mtime_ns, kind)


def parsed_document(text_fields: Sequence[Any], document: StoredDocument, file: Path) -> Document:
    """From the columns `TEXT` and checksum, with what the documents table knows."""
    _, parser, sections, pages, text = intact(
        text_fields, f"the text of {document.path!r}", file, document.document_id
    )
    return Document(
        text=text,
        title=document.title,
        sections=tuple(Section(tuple(h), start, end, kind) for h, start, end, kind in json.loads(sections)),
        pages=tuple(Page(*page) for page in json.loads(pages)),
        metadata=document.metadata,
        warnings=document.warnings,
        parser=parser,
    )


def chunk_of(row: Sequence[Any], document_id: str, file: Path) -> Chunk:
    """From the columns `CHUNK` and checksum."""
    _, _, position, start, end, page_first, page_last, headings, prefix, tokens, _, text = intact(
        row, f"passage {row[0]}", file, document_id
    )
    return Chunk(
        position, text, start, end, page_first, page_last, tuple(json.loads(headings)), tokens, prefix
    )


def hit_of(chunk_fields: Sequence[Any], document_fields: Sequence[Any], file: Path) -> Hit:
    """A hit without scores, from `CHUNK` and `DOCUMENT`, each with its checksum."""
    document = stored_document(document_fields, file)
    chunk = chunk_of(chunk_fields, document.document_id, file)
    return Hit.of(document, chunk, chunk_fields[0])


def one(connection: sqlite3.Connection, sql: str, *values: object) -> Any:
    """The first column of the only row, or None."""
    row = connection.execute(sql, values).fetchone()
    return None if row is None else row[0]
