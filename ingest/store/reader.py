"""Reading one generation of a collection: what `SqliteFaissStore.reading()` hands out."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ingest.errors import IndexMismatch, UnknownDocument
from ingest.fields import document_facts
from ingest.filters import Filter, fits
from ingest.store import Match, Source, Vectors, facts, keywords
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
from ingest.store.snapshots import Manifest, registered
from ingest.store.vectors import Ids, VectorIndex
from ingest.types import Chunk, Document, Hit, StoredDocument, Value
from ingest.words import Exact

VectorSource = Callable[["SqliteReader"], VectorIndex]
#: Columns of a passage in a row that goes on with its document's.
_WIDTH = len(columns(CHUNK, "c").split(","))
_VECTORS = "SELECT c.chunk_id, v.key, v.vector, v.checksum FROM chunks c JOIN vectors v USING (vector_id)"
_BLOCK = 8192  #: rows that are read at once


class SqliteReader:
    """One generation, inside one read transaction."""

    def __init__(self, connection: sqlite3.Connection, file: Path, vectors: VectorSource) -> None:
        self._connection = connection
        self._file = file
        self._vectors = vectors
        row = connection.execute(
            "SELECT c.generation, c.chunks, c.embedder, e.embedder_id, e.dimension, c.documents, c.name,"
            " c.removed_since, c.chunking FROM collection c LEFT JOIN embedders e ON e.number = c.embedder"
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
        self._removed_since: int = row[7]
        self.chunking: str | None = row[8]

    def nearest(self, vector: Vectors, k: int, where: Filter | None = None) -> list[Match]:
        """See `Reader`."""
        index = self._index(vector)
        if index is None:
            return []
        only = None if where is None else self._chunks_of(where)
        return [Match(*pair) for pair in index.nearest(vector, k, only, self.vectors)]

    def _chunks_of(self, where: Filter) -> Ids:
        """The passages of the documents that pass, ascending."""
        sql, values = _passages_of(where)
        rows = self._connection.execute(f"{sql} ORDER BY chunk_id", values)
        return np.fromiter((row[0] for row in rows), np.int64)

    def confirm(self, where: Filter, document_ids: Iterable[str]) -> None:
        """See `Reader`."""
        for document_id in dict.fromkeys(document_ids):
            self._confirm(where, self.document(document_id))

    def _confirm(self, where: Filter, document: StoredDocument) -> None:
        if not fits(where, document_facts(document)):
            what = f"what filters compare is not what is known about {document.path!r}"
            raise damaged(self._file, what)

    def cosines(self, vector: Vectors, chunk_ids: Sequence[int]) -> list[float]:
        """See `Reader`."""
        index = self._index(vector)
        if index is None or not chunk_ids:
            return []
        try:
            return index.cosines(vector, chunk_ids, self.vectors)
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

    def advance(self, base: VectorIndex) -> VectorIndex:
        """The index of this generation, made from one of an older generation and what came and went since.

        Raises:
            IndexDamaged: passages and vectors do not agree, or a vector does not match its checksum.
        """
        gone = self._removed_after(base)
        index = base.advance(self.generation, gone, self.blocks(after=base.highest_id))
        if len(index) != self.chunk_count:
            index = index.advance(self.generation, np.setdiff1d(index.ids(), self.chunk_ids()), ())
        if len(index) != self.chunk_count:
            what = f"{len(index)} passages with vectors, should be {self.chunk_count}"
            raise damaged(self._file, what)
        return index

    def _removed_after(self, base: VectorIndex) -> Ids:
        """Rows of an older index that are gone in this generation."""
        if not len(base):
            return np.empty(0, np.int64)
        if base.generation < self._removed_since:  # not all of it is remembered
            return np.setdiff1d(base.ids(), self.chunk_ids(), assume_unique=True)
        sql = "SELECT chunk_id FROM removed WHERE generation > ? ORDER BY chunk_id"
        rows = self._connection.execute(sql, (base.generation,))
        return np.fromiter((row[0] for row in rows), np.int64)

    def removed_after(self, generation: int) -> int | None:
        """How many passages of that generation are gone in this one; None where it is not remembered."""
        if generation < self._removed_since:
            return None
        sql = "SELECT count(*) FROM removed WHERE generation > ?"
        return int(one(self._connection, sql, generation))

    def snapshot(self) -> Manifest | None:
        """The manifest of the collection's index snapshot. Raises IndexDamaged."""
        return registered(self._connection, self._file)

    def chunk_ids(self) -> Ids:
        """All chunk ids, ascending."""
        rows = self._connection.execute("SELECT chunk_id FROM chunks")
        return np.sort(np.fromiter((row[0] for row in rows), np.int64))

    def blocks(self, after: int = 0) -> Iterator[tuple[Ids, Vectors]]:
        """Chunk ids above `after`, ascending, with their vectors: (n,) and (n, d), block by block."""
        rows = self._connection.execute(f"{_VECTORS} WHERE c.chunk_id > ? ORDER BY c.chunk_id", (after,))
        while block := rows.fetchmany(_BLOCK):
            yield np.fromiter((row[0] for row in block), np.int64), self._matrix(block)

    def vectors(self, chunk_ids: Sequence[int]) -> Vectors:
        """The stored vectors of these passages, (n, d) in their order.

        Raises:
            IndexDamaged: one is missing or does not match its checksum.
        """
        wanted = list(dict.fromkeys(chunk_ids))
        rows: dict[int, int] = {}
        parts: list[Vectors] = []
        for start in range(0, len(wanted), 500):
            batch = wanted[start : start + 500]
            marks = ", ".join("?" * len(batch))
            block = self._connection.execute(f"{_VECTORS} WHERE c.chunk_id IN ({marks})", batch).fetchall()
            rows |= {row[0]: n for n, row in enumerate(block, len(rows))}
            parts.append(self._matrix(block))
        if missing := set(wanted) - set(rows):
            raise damaged(self._file, f"an index names passage {min(missing)}, which has no vector")
        assert self.dimension is not None
        matrix = np.concatenate(parts) if parts else np.empty((0, self.dimension), np.float32)
        found: Vectors = matrix[[rows[chunk_id] for chunk_id in chunk_ids]]
        return found

    def _matrix(self, rows: Sequence[Any]) -> Vectors:
        """Vectors of rows of `_VECTORS`, each checked."""
        assert self.dimension is not None
        for chunk_id, key, blob, stored in rows:
            if checksum(key, blob) != stored or len(blob) != 4 * self.dimension:
                raise damaged(self._file, f"the vector of passage {chunk_id} does not match its checksum")
        joined = b"".join(row[2] for row in rows)
        return np.frombuffer(joined, "<f4").reshape(len(rows), self.dimension)

    def matching(
        self,
        terms: Sequence[str],
        k: int,
        where: Filter | None = None,
        exact: Sequence[Exact] = (),
        *,
        required: bool = False,
    ) -> list[Match]:
        """See `Reader`."""
        return keywords.matching(
            self._connection,
            self.chunk_count,
            terms,
            k,
            exact=exact,
            required=required,
            only=None if where is None else _passages_of(where),
        )

    def information(self, terms: Sequence[str | Exact]) -> list[float]:
        """See `Reader`."""
        return keywords.information(self._connection, self.chunk_count, terms)

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

    def documents(self, where: Filter | None = None) -> list[StoredDocument]:
        """See `Store`."""
        own = facts.read_all_own(self._connection, self._file)
        found = [stored_document(row, self._file, own) for row in self._document_rows(where)]
        if where is not None:
            for document in found:
                self._confirm(where, document)
        return found

    def sources(self) -> dict[str, Source]:
        """See `Store`."""
        return {row[1]: source_of(row, self._file) for row in self._document_rows()}

    def _document_rows(self, where: Filter | None = None) -> list[tuple[Any, ...]]:
        only, values = ("1", []) if where is None else facts.among(where)
        sql = f"SELECT {columns(DOCUMENT, 'd')} FROM documents d WHERE {only} ORDER BY path"
        rows = self._connection.execute(sql, values).fetchall()
        if where is None and len(rows) != self.document_count:
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
        document = stored_document(row[1:], self._file, self._own_of(row[2]))
        if wanted not in (document.document_id, document.path):
            raise damaged(self._file, f"its index of documents leads from {key!r} to {document.path!r}")
        return row[0], document

    def _own_of(self, path: str) -> dict[str, dict[str, Value]]:
        return {path: facts.read_own(self._connection, path, self._file)}

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


def _passages_of(where: Filter) -> tuple[str, list[Any]]:
    """SQL for the chunk ids of the documents that pass."""
    sql, values = facts.among(where)
    return (
        f"SELECT chunk_id FROM chunks WHERE document IN (SELECT d.number FROM documents d WHERE {sql})",
        values,
    )
