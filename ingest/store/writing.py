"""What a write transaction does to the tables. Each function runs inside one; its caller commits.

Invariants kept here: a passage, its words and its vector come and go together; a vector that no passage uses
any more goes with the last one (an embedding can be inverted to much of its text, so "forgotten" includes
it); the counters in `collection` equal the rows; the generation counts up whenever what a search can find has
changed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ingest import words
from ingest.errors import IndexMismatch
from ingest.store import Failure, Source, Vectors
from ingest.store.rows import CHUNK, DOCUMENT, TEXT, chunk_row, document_row, embedding_key, one, text_row
from ingest.store.schema import checksum, damaged
from ingest.types import Chunk, Document

#: Removed passages that are remembered; beyond it, indexes in memory compare all ids instead.
MOST_REMOVED = 50_000


def now() -> str:
    """The moment, in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def bump(connection: sqlite3.Connection) -> None:
    """Start the next generation; once a transaction, after its removals, which are entered under it."""
    connection.execute("UPDATE collection SET generation = generation + 1")
    if one(connection, "SELECT count(*) FROM removed") > MOST_REMOVED:
        snapshot = one(connection, "SELECT max(generation) FROM snapshots") or 0
        forget_removed(connection, snapshot)
        if one(connection, "SELECT count(*) FROM removed") > MOST_REMOVED:
            forget_removed(connection, one(connection, "SELECT generation FROM collection"))


def forget_removed(connection: sqlite3.Connection, generation: int) -> None:
    """Throw away which passages went up to this generation: an index older than that compares all ids."""
    connection.execute("DELETE FROM removed WHERE generation <= ?", (generation,))
    connection.execute("UPDATE collection SET removed_since = max(removed_since, ?)", (generation,))


def check(document: Document, chunks: Sequence[Chunk], vectors: Vectors) -> None:
    """Refuse what does not fit together before anything is written. Raises ValueError."""
    if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != len(chunks):
        raise ValueError(
            f"{len(chunks)} chunks need as many float32 vectors, got {vectors.dtype} {vectors.shape}"
        )
    if not np.all(np.abs(np.linalg.norm(vectors, axis=1) - 1.0) < 1e-3):  # also false for NaN
        raise ValueError("vectors must be finite and of unit length")
    for position, chunk in enumerate(chunks):
        if chunk.position != position or chunk.text != document.text[chunk.char_start : chunk.char_end]:
            raise ValueError(f"chunk {position} is not a slice of its document")


def add_embedder(connection: sqlite3.Connection, embedder_id: str, name: str, dimension: int) -> int:
    """The number of an embedder, entered where it is new."""
    connection.execute(
        "INSERT INTO embedders (embedder_id, name, dimension) VALUES (?, ?, ?)"
        " ON CONFLICT (embedder_id) DO UPDATE SET name = excluded.name",
        (embedder_id, name, dimension),
    )
    row = connection.execute(
        "SELECT number, dimension FROM embedders WHERE embedder_id = ?", (embedder_id,)
    ).fetchone()
    if row[1] != dimension:
        raise IndexMismatch(
            f"Embedder {name!r} had {row[1]} dimensions and now has {dimension}: not the same weights."
        )
    return int(row[0])


def add_vectors(
    connection: sqlite3.Connection, embedder: int, keys: Sequence[bytes], vectors: Vectors | Sequence[Vectors]
) -> None:
    """Enter vectors by key; those already there stay as they are."""
    blobs = [np.ascontiguousarray(v, dtype="<f4").tobytes() for v in vectors]
    connection.executemany(
        "INSERT OR IGNORE INTO vectors (embedder, key, vector, checksum) VALUES (?, ?, ?, ?)",
        [(embedder, key, blob, checksum(key, blob)) for key, blob in zip(keys, blobs, strict=True)],
    )


def vector_ids(
    connection: sqlite3.Connection, embedder: int, keys: Iterable[bytes]
) -> dict[bytes, int | None]:
    """Where the vectors of these keys stand; None for one that is not there."""
    sql = "SELECT vector_id FROM vectors WHERE embedder = ? AND key = ?"
    return {key: one(connection, sql, embedder, key) for key in keys}


def add_document(  # noqa: PLR0917 - a row's values
    connection: sqlite3.Connection, document_id: str, source: Source, document: Document, chunks: int, at: str
) -> int:
    """Enter a document and its text; returns its number."""
    values = document_row(document_id, source, document, chunks, at)
    marks = ", ".join("?" * len(values))
    number = connection.execute(
        f"INSERT INTO documents ({DOCUMENT}, checksum) VALUES ({marks})", values
    ).lastrowid
    assert number is not None
    row = text_row(number, document_id, document)
    connection.execute(f"INSERT INTO texts ({TEXT}, checksum) VALUES ({', '.join('?' * len(row))})", row)
    connection.execute("UPDATE collection SET documents = documents + 1")
    return number


def add_chunks(
    connection: sqlite3.Connection,
    number: int,
    document_id: str,
    title: str,
    chunks: Sequence[Chunk],
    *,
    vectors: Mapping[bytes, int | None],
) -> None:
    """Enter a document's passages with their words; `vectors` names the row of each one's vector."""
    # Ids are given here, because the checksum covers them; AUTOINCREMENT's counter says which were ever used.
    used = max(
        one(connection, "SELECT seq FROM sqlite_sequence WHERE name = 'chunks'") or 0,
        one(connection, "SELECT max(chunk_id) FROM chunks") or 0,
    )
    rows = [
        chunk_row(chunk_id, number, document_id, chunk, vectors[embedding_key(chunk, title)] or 0)
        for chunk_id, chunk in enumerate(chunks, start=used + 1)
    ]
    marks = ", ".join("?" * (len(CHUNK.split(",")) + 1))
    connection.executemany(f"INSERT INTO chunks ({CHUNK}, checksum) VALUES ({marks})", rows)
    connection.executemany(
        "INSERT INTO words (rowid, terms) VALUES (?, ?)",
        [(row[0], indexed_terms(chunk, title)) for row, chunk in zip(rows, chunks, strict=True)],
    )
    connection.execute("UPDATE collection SET chunks = chunks + ?", (len(rows),))


def indexed_terms(chunk: Chunk, title: str) -> str:
    """What the keyword index holds of a passage: the terms of the embedded text, headings included."""
    return " ".join(words.indexed(chunk.embedding_text(title)))


def remove_chunks(connection: sqlite3.Connection, number: int) -> list[int]:
    """Remove a document's passages and words; returns the vectors they used, for `drop_unused`."""
    rows = connection.execute(
        "SELECT chunk_id, vector_id FROM chunks WHERE document = ?", (number,)
    ).fetchall()
    connection.executemany("DELETE FROM words WHERE rowid = ?", [(chunk_id,) for chunk_id, _ in rows])
    connection.execute(
        "INSERT INTO removed SELECT chunk_id, (SELECT generation + 1 FROM collection) FROM chunks"
        " WHERE document = ?",
        (number,),
    )
    connection.execute("DELETE FROM chunks WHERE document = ?", (number,))
    connection.execute("UPDATE collection SET chunks = chunks - ?", (len(rows),))
    return [vector_id for _, vector_id in rows]


def remove_document(connection: sqlite3.Connection, path: str) -> list[int] | None:
    """Remove a document and all that was made of it, but the user's fields and its vectors.

    These vectors are returned; None where there is no such document.
    """
    number = one(connection, "SELECT number FROM documents WHERE path = ?", path)
    if number is None:
        return None
    used = remove_chunks(connection, number)
    connection.execute("DELETE FROM documents WHERE number = ?", (number,))  # text and facts go with it
    connection.execute("UPDATE collection SET documents = documents - 1")
    return used


def forget_about(connection: sqlite3.Connection, path: str) -> None:
    """Remove what is kept of a path beside its document."""
    connection.execute("DELETE FROM own WHERE path = ?", (path,))
    connection.execute("DELETE FROM failures WHERE path = ?", (path,))


def read_failures(connection: sqlite3.Connection) -> dict[str, Failure]:
    """Files that could not be read, by path."""
    rows = connection.execute(
        "SELECT path, content_hash, recipe, size, mtime_ns, tries, reason FROM failures"
    )
    return {row[0]: Failure(Source(*row[:5]), row[5], row[6]) for row in rows}


def count_failure(connection: sqlite3.Connection, source: Source, reason: str) -> None:
    """One more try that failed; other bytes or another recipe start from one."""
    connection.execute(
        "INSERT INTO failures VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6) ON CONFLICT (path) DO UPDATE SET"
        " tries = CASE WHEN content_hash = ?2 AND recipe = ?3 THEN tries + 1 ELSE 1 END,"
        " content_hash = ?2, recipe = ?3, size = ?4, mtime_ns = ?5, reason = ?6",
        (source.path, source.content_hash, source.recipe, source.size, source.mtime_ns, reason[:2000]),
    )


def touch(connection: sqlite3.Connection, source: Source) -> None:
    """Note size, time and origin of a document whose content did not change."""
    row = connection.execute(f"SELECT {DOCUMENT} FROM documents WHERE path = ?", (source.path,)).fetchone()
    if row is None:
        return
    fields = list(row)
    fields[5:8] = source.size, source.mtime_ns, source.origin
    connection.execute(
        "UPDATE documents SET size = ?, mtime_ns = ?, origin = ?, checksum = ? WHERE path = ?",
        (*fields[5:8], checksum(*fields), source.path),
    )


def drop_unused(connection: sqlite3.Connection, candidates: Iterable[int]) -> None:
    """Remove those of these vectors that no passage uses, also as other embedders saw the same text."""
    for vector_id in set(candidates):
        if one(connection, "SELECT 1 FROM chunks WHERE vector_id = ? LIMIT 1", vector_id) is None:
            connection.execute(
                "DELETE FROM vectors WHERE key = (SELECT key FROM vectors WHERE vector_id = ?)"
                " AND NOT EXISTS (SELECT 1 FROM chunks WHERE chunks.vector_id = vectors.vector_id)",
                (vector_id,),
            )


def replace_all_chunks(
    connection: sqlite3.Connection,
    file: Path,
    embedder: int,
    pieces: Iterable[tuple[str, str, Sequence[Chunk]]],
) -> None:
    """Give every document of `pieces` (document id, recipe, chunks) new passages of this embedder.

    Raises:
        IndexDamaged: a vector is missing, or `pieces` leaves a document out: then nothing may be committed.
    """
    done = 0
    for document_id, recipe, chunks in pieces:
        row = connection.execute(
            f"SELECT number, {DOCUMENT} FROM documents WHERE document_id = ?", (document_id,)
        ).fetchone()
        number, fields = row[0], list(row[1:])
        title = fields[2]
        remove_chunks(connection, number)
        rows = vector_ids(connection, embedder, {embedding_key(c, title) for c in chunks})
        if None in rows.values():
            raise damaged(file, f"vectors of {fields[1]!r} are missing in the middle of a rebuild")
        add_chunks(connection, number, document_id, title, chunks, vectors=rows)
        fields[4], fields[9] = recipe, len(chunks)
        connection.execute(
            "UPDATE documents SET recipe = ?, chunks = ?, checksum = ? WHERE number = ?",
            (recipe, len(chunks), checksum(*fields), number),
        )
        done += 1
    if done != one(connection, "SELECT count(*) FROM documents"):
        raise damaged(file, "a rebuild met more or fewer documents than there are")
    connection.execute("UPDATE collection SET embedder = ?", (embedder,))
    drop_strangers(connection, embedder)
    connection.execute(
        "DELETE FROM vectors"
        " WHERE NOT EXISTS (SELECT 1 FROM chunks WHERE chunks.vector_id = vectors.vector_id)"
    )
    connection.execute("DELETE FROM embedders WHERE number <> ?", (embedder,))
    connection.execute("DELETE FROM snapshots")  # not one of its passages is left
    forget_removed(connection, one(connection, "SELECT generation + 1 FROM collection"))


def drop_strangers(connection: sqlite3.Connection, embedder: int) -> None:
    """Remove what a killed rebuild left of another embedder."""
    connection.execute("DELETE FROM vectors WHERE embedder <> ?", (embedder,))


def rebuild_words(connection: sqlite3.Connection) -> None:
    """Fill the keyword index anew from the passages (`words.VERSION` changed, or it was damaged)."""
    connection.execute("DELETE FROM words")
    rows = connection.execute(
        "SELECT c.chunk_id, c.heading_path, c.prefix, c.text, d.title FROM chunks c"
        " JOIN documents d ON d.number = c.document"
        " ORDER BY c.chunk_id"
    )
    connection.executemany(
        "INSERT INTO words (rowid, terms) VALUES (?, ?)",
        ((row[0], _terms_of(*row[1:])) for row in rows),
    )
    # Until its pages are merged, FTS5 keeps the words of deleted passages and merely marks them.
    connection.execute("INSERT INTO words (words) VALUES ('optimize')")
    connection.execute("UPDATE collection SET words_version = ?", (words.VERSION,))


def _terms_of(headings: str, prefix: str | None, text: str, title: str) -> str:
    chunk = Chunk(0, text, 0, len(text), None, None, tuple(json.loads(headings)), 0, prefix)
    return indexed_terms(chunk, title)
