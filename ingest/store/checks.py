"""`verify`: every hash and every count of a collection, read from the tables and nothing else.

It looks for what the code cannot do and a disk can: flipped bits, lost pages, an index out of step. Problems
are collected as sentences; only a file so broken that SQLite stops reading it ends the list early.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ingest import words
from ingest.errors import IndexDamaged
from ingest.store import Verification, snapshots
from ingest.store.facts import check_facts
from ingest.store.rows import (
    CHUNK,
    DOCUMENT,
    TEXT,
    chunk_of,
    columns,
    embedding_key,
    one,
    parsed_document,
    stored_document,
)
from ingest.store.schema import checksum
from ingest.store.writing import indexed_terms
from ingest.types import Chunk, StoredDocument

_UNIT = 1e-3  #: how far from 1 the length of a stored vector may be
_MOST = 50  #: problems that are listed; a badly damaged file has one a row


def verify(connection: sqlite3.Connection, file: Path) -> Verification:
    """Check the collection; the connection is inside a write transaction, though nothing is changed."""
    problems: list[str] = []
    counts = [
        one(connection, f"SELECT count(*) FROM {table}") for table in ("documents", "chunks", "vectors")
    ]
    for problem in _problems(connection, file):
        problems.append(problem)
        if len(problems) == _MOST:
            problems.append("... and more; the list ends here")
            break
    return Verification(counts[0], counts[1], counts[2], tuple(problems))


def _problems(connection: sqlite3.Connection, file: Path) -> Iterator[str]:
    for check in (_structure, _counts, _vectors, _documents, check_facts, _words, _snapshot):
        try:
            yield from check(connection, file)
        except (sqlite3.DatabaseError, IndexDamaged, ValueError, TypeError) as error:
            yield str(error)


def _structure(connection: sqlite3.Connection, file: Path) -> Iterator[str]:  # noqa: ARG001
    for (line,) in connection.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield f"SQLite: {line}"
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        yield f"row {row} of {table} points to a row of {parent} that does not exist"


def _counts(connection: sqlite3.Connection, file: Path) -> Iterator[str]:  # noqa: ARG001
    row = connection.execute("SELECT documents, chunks, embedder FROM collection").fetchone()
    if row is None:
        yield "the row that describes the collection is missing"
        return
    pairs = {
        "documents": (row[0], one(connection, "SELECT count(*) FROM documents")),
        "passages": (row[1], one(connection, "SELECT count(*) FROM chunks")),
        "texts": (row[0], one(connection, "SELECT count(*) FROM texts")),
        "passages in the keyword index": (row[1], one(connection, "SELECT count(*) FROM words")),
        "passages with words": (
            row[1],
            one(connection, "SELECT count(*) FROM chunks WHERE chunk_id IN (SELECT rowid FROM words)"),
        ),
        "passages with vectors": (
            row[1],
            one(
                connection,
                "SELECT count(*) FROM chunks JOIN vectors USING (vector_id) WHERE embedder = ?",
                row[2],
            ),
        ),
    }
    for what, (stated, found) in pairs.items():
        if stated != found:
            yield f"{what}: {found}, should be {stated}"
    used = one(connection, "SELECT seq FROM sqlite_sequence WHERE name = 'chunks'") or 0
    highest = one(connection, "SELECT max(chunk_id) FROM chunks") or 0
    if highest > used:
        yield f"passage {highest} has an id that was never given out (the last one was {used})"


def _vectors(connection: sqlite3.Connection, file: Path) -> Iterator[str]:  # noqa: ARG001
    for vector_id, key, blob, stored, dimension in connection.execute(
        "SELECT v.vector_id, v.key, v.vector, v.checksum, e.dimension FROM vectors v"
        " LEFT JOIN embedders e ON e.number = v.embedder"
    ):
        if checksum(key, blob) != stored:
            yield f"vector {vector_id} does not match its checksum"
        elif dimension is None or len(blob) != 4 * dimension:
            yield f"vector {vector_id} has {len(blob) // 4} dimensions, its embedder {dimension}"
        elif not abs(float(np.linalg.norm(np.frombuffer(blob, "<f4"))) - 1.0) < _UNIT:
            yield f"vector {vector_id} is not of unit length"


def _documents(connection: sqlite3.Connection, file: Path) -> Iterator[str]:
    for (number,) in connection.execute("SELECT number FROM documents ORDER BY path").fetchall():
        try:
            yield from _one_document(connection, file, number)
        except (sqlite3.DatabaseError, IndexDamaged, ValueError, TypeError) as error:
            yield str(error)


def _one_document(connection: sqlite3.Connection, file: Path, number: int) -> Iterator[str]:
    row = connection.execute(
        f"SELECT {columns(DOCUMENT, 'd')} FROM documents d WHERE number = ?", (number,)
    ).fetchone()
    document = stored_document(row, file)
    where = f"document {document.path!r}"
    row = connection.execute(
        f"SELECT {columns(TEXT, 't')} FROM texts t WHERE document = ?", (number,)
    ).fetchone()
    if row is None:
        yield f"{where}: its text is missing"
        return
    text = parsed_document(row, document, file).text
    if len(text) != document.characters:
        yield f"{where}: {len(text)} characters, should be {document.characters}"
    rows = connection.execute(
        f"SELECT v.key, w.terms, {columns(CHUNK, 'c')} FROM chunks c"
        " LEFT JOIN vectors v ON v.vector_id = c.vector_id"
        " LEFT JOIN words w ON w.rowid = c.chunk_id WHERE c.document = ? ORDER BY c.position",
        (number,),
    ).fetchall()
    if len(rows) != document.chunks:
        yield f"{where}: {len(rows)} passages, should be {document.chunks}"
    current = one(connection, "SELECT words_version FROM collection") == words.VERSION
    for expected, (key, terms, *fields) in enumerate(rows):
        chunk = chunk_of(fields, document.document_id, file)
        for problem in _one_chunk(chunk, expected, document, text, key=key, terms=terms if current else None):
            yield f"{where}, passage {fields[0]}: {problem}"


def _one_chunk(
    chunk: Chunk, expected: int, document: StoredDocument, text: str, *, key: bytes | None, terms: str | None
) -> Iterator[str]:
    if chunk.position != expected:
        yield f"is number {chunk.position}, should be {expected}"
    if chunk.text != text[chunk.char_start : chunk.char_end]:
        yield f"its text is not the document's text at {chunk.char_start} to {chunk.char_end}"
    if key != embedding_key(chunk, document.title):
        yield "its vector belongs to another text"
    if terms is not None and terms != indexed_terms(chunk, document.title):
        yield "its words in the keyword index are not those of its text"


def _words(connection: sqlite3.Connection, file: Path) -> Iterator[str]:  # noqa: ARG001
    try:
        connection.execute("INSERT INTO words (words) VALUES ('integrity-check')")
    except sqlite3.DatabaseError as error:
        yield (
            f"the keyword index disagrees with its content ({error}); "
            "`python -m ingest rebuild` makes it anew"
        )


def _snapshot(connection: sqlite3.Connection, file: Path) -> Iterator[str]:
    manifest = snapshots.registered(connection, file)
    if manifest is not None and manifest.accepted and (wrong := snapshots.check(file.parent, manifest)):
        yield f"index snapshot {manifest.name} {wrong}; searches are exact until an ingest makes a new one"
    revived = one(connection, "SELECT count(*) FROM removed WHERE chunk_id IN (SELECT chunk_id FROM chunks)")
    if revived:
        yield f"{revived} passages are there that are noted as gone"
