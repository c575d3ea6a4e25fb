"""Reading one generation of a collection: what `SqliteFaissStore.reading()` hands out."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from ingest.errors import IndexMismatch
from ingest.store import Match, Vectors
from ingest.store.rows import CHUNK, DOCUMENT, columns, hit_of, one
from ingest.store.schema import checksum, damaged
from ingest.store.vectors import VectorIndex
from ingest.types import Hit

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
            "SELECT c.generation, c.chunks, c.embedder, e.embedder_id, e.dimension, c.words_version"
            " FROM collection c LEFT JOIN embedders e ON e.number = c.embedder"
        ).fetchone()
        if row is None:
            raise damaged(file, "the row that describes the collection is missing")
        self.generation: int = row[0]
        self.chunk_count: int = row[1]
        self.embedder_number: int | None = row[2]
        self.embedder_id: str | None = row[3]
        self.dimension: int | None = row[4]

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
                f"The collection in {self._file.parent} holds vectors of {self.dimension} dimensions, the question has "
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
            "SELECT c.chunk_id, v.key, v.vector, v.checksum FROM chunks c JOIN vectors v ON v.vector_id = c.vector_id"
            " WHERE c.chunk_id > ? ORDER BY c.chunk_id",
            (base.highest_id,),
        ):
            if checksum(key, blob) != stored or len(blob) != 4 * base.dimension:
                raise damaged(self._file, f"the vector of passage {chunk_id} does not match its checksum")
            ids.append(chunk_id)
            blobs.append(blob)
        matrix = np.frombuffer(b"".join(blobs), np.float32).reshape(len(ids), base.dimension)
        index = base.advance(self.generation, living, np.asarray(ids, np.int64), matrix)
        if len(index.ids()) != len(living):
            raise damaged(self._file, f"{len(living)} passages have {len(index.ids())} vectors")
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
            "SELECT rowid, -bm25(words) AS score FROM words WHERE words MATCH ? ORDER BY score DESC, rowid LIMIT ?",
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
                f" JOIN documents d ON d.number = c.document WHERE c.chunk_id IN ({', '.join('?' * len(batch))})",
                list(batch),
            ):
                found[row[0]] = hit_of(row[:_WIDTH], row[_WIDTH:], self._file)
        if missing := set(chunk_ids) - set(found):
            raise damaged(self._file, f"an index names passage {min(missing)}, which does not exist")
        return found
