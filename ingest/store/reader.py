"""Reading one generation of a collection: what `SqliteFaissStore.reading()` hands out."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ingest.errors import IndexMismatch, UnknownDocument
from ingest.store import Match, Source, Vectors
from ingest.store.rows import (
    CHUNK,
    DOCUMENT,
    TEXT,
    chunk_of,
    columns,
    hit_of,
    one,
    parsed_document,
    source_of,
    stored_document,
)
from ingest.store.schema import checksum, damaged
from ingest.store.vectors import VectorIndex
from ingest.types import Chunk, Document, Hit, StoredDocument

VectorSource = Callable[["SqliteReader"], VectorIndex]
#: Columns of a passage in a row that goes on with its document's.
_WIDTH = len(columns(CHUNK, "c").split(","))
#: A longer question is cut to its rarest terms; beyond this, more words cost time and change no ranking.
_MOST_TERMS = 64


class SqliteReader:
    """One generation, inside one read transaction."""

    def __init__(self, connection: sqlite3.Connection, file: Path, vectors: VectorSource) -> None:
        self._connection = connection
        self._file = file
        self._vectors = vectors
        row = connection.execute(
            "SELECT c.generation, c.chunks, c.embedder, e.embedder_id, e.dimension, c.documents, c.name"
            " FROM collection c LEFT JOIN embedders e ON e.number = c.embedder"
        ).fetchone()
        if row is None:
            raise damaged(file, "the row that describes the collection is missing")
        self.generation: int = row[0]
        self.chunk_count: int = row[1]
        self.embedder_number: int | None = row[2]
        self.embedder_id: str | None = row[3]
        self.dimension: int | None = row[4]
        self.document_count: int = row[5]
        self.collection: str = row[6]

    def nearest(self, vector: Vectors, k: int) -> list[Match]:
        """See `Reader`."""
        index = self._index(vector)
        return [] if index is None else [Match(*pair) for pair in index.nearest(vector, k)]

    def cosines(self, vector: Vectors, chunk_ids: Sequence[int]) -> list[float]:
        """See `Reader`."""
        index = self._index(vector)
        if index is None or not chunk_ids:
            return []
        try:
            return index.cosines(vector, chunk_ids)
        except KeyError as error:
            raise damaged(self._file, f"passage {error} has words but no vector") from error

    def _index(self, vector: Vectors) -> VectorIndex | None:
        if self.dimension is None:
            return None
        if vector.shape != (self.dimension,):
            raise IndexMismatch(
                f"The collection in {self._file.parent} holds vectors of {self.dimension} dimensions, "
                "the question has "
                f"{vector.shape}. `python -m ingest rebuild --embedder NAME` moves it to another embedder."
            )
        return self._vectors(self)

    def load_vectors(self, base: VectorIndex) -> VectorIndex:
        """The index of this generation, made from one of an older generation and what came and went since."""
        rows = self._connection.execute("SELECT chunk_id FROM chunks")
        living = np.sort(np.fromiter((row[0] for row in rows), np.int64))
        ids: list[int] = []
        blobs: list[bytes] = []
        for chunk_id, key, blob, stored in self._connection.execute(
            "SELECT c.chunk_id, v.key, v.vector, v.checksum FROM chunks c"
            " JOIN vectors v ON v.vector_id = c.vector_id"
            " WHERE c.chunk_id > ? ORDER BY c.chunk_id",
            (base.highest_id,),
        ):
            if checksum(key, blob) != stored or len(blob) != 4 * base.dimension:
                raise damaged(self._file, f"the vector of passage {chunk_id} does not match its checksum")
            ids.append(chunk_id)
            blobs.append(blob)
        matrix = np.frombuffer(b"".join(blobs), np.float32).reshape(len(ids), base.dimension)
        index = base.advance(self.generation, living, np.asarray(ids, np.int64), matrix)
        if not len(index.ids()) == len(living) == self.chunk_count:
            what = f"{len(living)} passages with {len(index.ids())} vectors, should be {self.chunk_count}"
            raise damaged(self._file, what)
        return index

    def matching(self, terms: Sequence[str], k: int) -> list[Match]:
        """See `Reader`. `bm25()` is lower-is-better: flipped here, and nowhere else."""
        distinct = list(dict.fromkeys(terms))
        if len(distinct) > _MOST_TERMS:
            frequencies = self._frequencies(distinct)
            known = sorted((t for t in distinct if frequencies[t]), key=lambda t: (frequencies[t], t))
            distinct = known[:_MOST_TERMS]
        if not distinct:
            return []
        expression = " OR ".join('"' + term.replace('"', '""') + '"' for term in distinct)
        rows = self._connection.execute(
            "SELECT rowid, -bm25(words) AS score FROM words WHERE words MATCH ?"
            " ORDER BY score DESC, rowid LIMIT ?",
            (expression, k),
        )
        return [Match(chunk_id, score) for chunk_id, score in rows]

    def information(self, terms: Sequence[str]) -> list[float]:
        """See `Reader`: ln((N - n + 1/2) / (n + 1/2)), at least 1e-6, as in SQLite's `bm25()`."""
        frequencies = self._frequencies(terms)
        total = self.chunk_count
        return [
            max(1e-6, math.log((total - n + 0.5) / (n + 0.5))) if total > n else 1e-6
            for n in (frequencies[term] for term in terms)
        ]

    def _frequencies(self, terms: Iterable[str]) -> dict[str, int]:
        return {t: one(self._connection, "SELECT doc FROM words_df WHERE term = ?", t) or 0 for t in terms}

    def hits(self, chunk_ids: Sequence[int]) -> dict[int, Hit]:
        """See `Reader`. Raises IndexDamaged for a passage that an index knows and the tables do not."""
        found: dict[int, Hit] = {}
        for start in range(0, len(chunk_ids), 500):
            batch = chunk_ids[start : start + 500]
            for row in self._connection.execute(
                f"SELECT {columns(CHUNK, 'c')}, {columns(DOCUMENT, 'd')} FROM chunks c"
                " JOIN documents d ON d.number = c.document"
                f" WHERE c.chunk_id IN ({', '.join('?' * len(batch))})",
                list(batch),
            ):
                found[row[0]] = hit_of(row[:_WIDTH], row[_WIDTH:], self._file)
        if missing := set(chunk_ids) - set(found):
            raise damaged(self._file, f"an index names passage {min(missing)}, which does not exist")
        return found

    def documents(self) -> list[StoredDocument]:
        """See `Store`."""
        return [stored_document(row, self._file) for row in self._document_rows()]

    def sources(self) -> dict[str, Source]:
        """See `Store`."""
        return {row[1]: source_of(row, self._file) for row in self._document_rows()}

    def _document_rows(self) -> list[tuple[Any, ...]]:
        sql = f"SELECT {columns(DOCUMENT, 'd')} FROM documents d ORDER BY path"
        rows = self._connection.execute(sql).fetchall()
        if len(rows) != self.document_count:
            raise damaged(self._file, f"{len(rows)} documents, should be {self.document_count}")
        return rows

    def document(self, key: str) -> StoredDocument:
        """See `Store`."""
        return self._find(key)[1]

    def _find(self, key: str) -> tuple[int, StoredDocument]:
        """Number and entry of the document of this id or path; the id goes first."""
        wanted = key.encode("utf-8", "replace").decode()  # a lone surrogate is in no path
        row = self._connection.execute(
            f"SELECT number, {columns(DOCUMENT, 'd')} FROM documents d WHERE document_id = ?1 OR path = ?1"
            " ORDER BY document_id = ?1 DESC LIMIT 1",
            (wanted,),
        ).fetchone()
        if row is None:
            raise UnknownDocument(
                f"Collection {self.collection!r} has no document {key[:300]!r}. "
                "`python -m ingest list` shows their paths."
            )
        document = stored_document(row[1:], self._file)
        if wanted not in (document.document_id, document.path):
            raise damaged(self._file, f"its index of documents leads from {key!r} to {document.path!r}")
        return row[0], document

    def parsed(self, key: str) -> Document:
        """See `Store`."""
        number, document = self._find(key)
        sql = f"SELECT {columns(TEXT, 't')} FROM texts t WHERE document = ?"
        row = self._connection.execute(sql, (number,)).fetchone()
        if row is None:
            raise damaged(self._file, f"the text of {document.path!r} is missing")
        return parsed_document(row, document, self._file)

    def chunks(self, key: str) -> tuple[Chunk, ...]:
        """See `Store`."""
        number, document = self._find(key)
        sql = f"SELECT {columns(CHUNK, 'c')} FROM chunks c WHERE document = ? ORDER BY position"
        rows = self._connection.execute(sql, (number,)).fetchall()
        if len(rows) != document.chunks:
            what = f"{document.path!r} has {len(rows)} passages, should be {document.chunks}"
            raise damaged(self._file, what)
        chunks = tuple(chunk_of(row, document.document_id, self._file) for row in rows)
        if [chunk.position for chunk in chunks] != list(range(len(chunks))):
            raise damaged(self._file, f"the passages of {document.path!r} are not in order")
        return chunks
