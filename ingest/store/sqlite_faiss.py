"""The default store: one SQLite file a collection is the truth, FAISS in memory a cache of it.

Thread-safe: any number of threads and processes may read, each reading transaction on a connection of its
own; writers queue on `WriterLock`. A commit is the only commit point. `generation` counts the commits that
changed what a search can find, and the FAISS index that answers a reader is always the one of the reader's
own generation, so hits, deletions and texts of one `reading()` agree. Every document is replaced whole in one
transaction.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from ingest import words
from ingest.errors import IndexMismatch, IngestError, UnknownCollection
from ingest.store import (
    Failure,
    Source,
    StoreStatus,
    Vectors,
    Verification,
    beside,
    facts,
    snapshots,
    writing,
)
from ingest.store.checks import verify
from ingest.store.connections import Connections, make_file
from ingest.store.figures import cached_vectors, figures
from ingest.store.indexes import APPROXIMATE_FROM, Indexes
from ingest.store.lock import WriterLock
from ingest.store.questions import Questions
from ingest.store.reader import SqliteReader
from ingest.store.rows import document_id, embedding_key, one
from ingest.store.schema import FILE_NAME, SCHEMA
from ingest.types import Chunk, Document, StoredDocument, Value

log = logging.getLogger(__name__)


class SqliteFaissStore(Questions):
    """One collection in one folder; see `ingest.store.Store` for what each method promises."""

    def __init__(self, folder: Path, connections: Connections, wait_s: float, approximate_from: int) -> None:
        self.folder = folder
        self.file = folder / FILE_NAME
        self._connections = connections
        self._lock = WriterLock(folder)
        self._wait_s = wait_s
        self._indexes = Indexes(folder, approximate_from)
        with self.reading():  # fails early on a damaged file
            pass
        with connections.reading() as connection:
            self.collection: str = one(connection, "SELECT name FROM collection")

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        create: bool = False,
        embedder_id: str | None = None,
        embedder_name: str | None = None,
        dimension: int | None = None,
        wait_s: float = 10.0,
        busy_timeout_s: float = 10.0,
        approximate_from: int = APPROXIMATE_FROM,
    ) -> SqliteFaissStore:
        """Open the collection in `folder`; with `create`, make it where there is none.

        `wait_s` is how long a writer waits for another one. An `embedder_id` is checked against the
        collection's, and fixed for a new one. From `approximate_from` passages on, searches use an
        approximate index, see `compact`.

        Raises:
            UnknownCollection: nothing there, and `create` is false.
            IndexMismatch: made with another embedder.
            SchemaTooNew, IndexDamaged, StorageFull: as their names say.
        """
        folder = folder.absolute()
        file = folder / FILE_NAME
        if create:
            make_file(file)
        elif not file.is_file():
            raise UnknownCollection(
                f"There is no collection in {folder}. `python -m ingest collections` lists what there is; "
                f"`python -m ingest PATH --collection {folder.name}` makes one."
            )
        connections = Connections(file, busy_timeout_s)
        try:
            if create:
                connections.describe(folder.name)
            store = cls(folder, connections, wait_s, approximate_from)
            if embedder_id is not None and dimension is not None:
                store.bind(embedder_id, embedder_name or embedder_id, dimension)
            return store
        except BaseException:
            connections.close()
            raise

    def close(self) -> None:
        """Close the connections and drop the vectors."""
        self._connections.close()
        self._indexes.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Reading

    @contextmanager
    def reading(self) -> Iterator[SqliteReader]:
        """One generation for several questions.

        Raises IndexDamaged as soon as a row does not match its checksum.
        """
        with self._connections.reading() as connection:
            yield SqliteReader(connection, self.file, self._indexes.at)

    def cached_vectors(self, embedder_id: str, keys: Iterable[bytes]) -> dict[bytes, Vectors]:
        """Vectors known for these keys; one that does not match its checksum raises IndexDamaged."""
        with self._connections.reading() as connection:
            return cached_vectors(connection, self.file, embedder_id, keys)

    def status(self) -> StoreStatus:
        """Figures, without loading vectors."""
        with self._connections.reading() as connection:
            row = figures(connection)
        files = (f for f in self.folder.glob("**/*") if f.is_file())
        return StoreStatus(
            collection=row[0],
            folder=str(self.folder),
            generation=row[1],
            embedder_id=row[2],
            embedder_name=row[3],
            dimension=row[4],
            documents=row[5],
            chunks=row[6],
            characters=row[8],
            bytes_on_disk=sum(f.stat().st_size for f in files),
            schema=SCHEMA,
            created_at=row[7],
            writer=self._lock.holder(),
            chunking=row[9],
        )

    def verify(self) -> Verification:
        """Check every hash and every count; problems are listed, not raised.

        Waits for a writer, as a writer does.
        """
        with self.writing("verify"), self._connections.transaction() as connection:
            return verify(connection, self.file)

    # Writing

    @contextmanager
    def writing(self, doing: str = "writing", wait_s: float | None = None) -> Iterator[None]:
        """Hold the collection for writing; re-entrant in one thread.

        Raises:
            CollectionLocked: someone else still writes after `wait_s` (default: the store's own).
        """
        with self._lock.hold(doing, self._wait_s if wait_s is None else wait_s):
            yield

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self.writing(), self._connections.transaction() as connection:
            if one(connection, "SELECT words_version FROM collection") != words.VERSION:
                writing.rebuild_words(connection)
            yield connection

    def compact(self) -> bool:
        """Publish a new index snapshot where a large collection has none or the last one is far behind.

        Reads, and then holds the collection for a moment; searches go on. An index is a cache: where it
        cannot be made (no space, somebody else is making it), that is logged, and searches stay exact.
        """
        try:
            with self.reading() as reader:
                if not self._indexes.is_stale(reader):
                    return False
            with WriterLock(self._indexes.make_folder()).hold("building the search index", 0.0):
                with self.reading() as reader:
                    if not self._indexes.is_stale(reader):
                        return False
                    manifest = self._indexes.make(reader)
                with self._transaction() as connection:
                    before = snapshots.registered_name(connection)
                    snapshots.register(connection, manifest)
                    writing.forget_removed(connection, manifest.generation)
                snapshots.collect(self.folder, {manifest.name, before or ""})
                return manifest.accepted
        except IngestError as error:
            log.warning("no new search index for %s: %s", self.folder, error)
            return False

    def bind(self, embedder_id: str, name: str, dimension: int) -> None:
        """Fix the embedder of a new collection.

        Raises:
            IndexMismatch: the collection was made with another one.
        """
        bound = self._bound()
        if bound is None:
            with self._transaction() as connection:
                bound = self._bound(connection)
                if bound is None:
                    number = writing.add_embedder(connection, embedder_id, name, dimension)
                    connection.execute("UPDATE collection SET embedder = ?", (number,))
                    return
        if bound[:2] != (embedder_id, dimension):
            raise IndexMismatch(
                f"Collection {self.collection!r} was made with embedder {bound[2]!r} ({bound[0]}), "
                f"not with {name!r} ({embedder_id}). Use {bound[2]!r}, or run "
                f"`python -m ingest rebuild --embedder {name} --collection "
                f"{self.collection}`, which embeds the stored text anew."
            )

    def fix_chunking(self, chunking: str) -> None:
        """Cut documents this way from now on, whatever the settings say."""
        with self._transaction() as connection:
            connection.execute("UPDATE collection SET chunking = ?", (chunking,))

    def _bound(self, connection: sqlite3.Connection | None = None) -> tuple[str, int, str] | None:
        sql = (
            "SELECT e.embedder_id, e.dimension, e.name FROM collection c"
            " JOIN embedders e ON e.number = c.embedder"
        )
        if connection is not None:
            row: tuple[str, int, str] | None = connection.execute(sql).fetchone()
            return row
        with self._connections.reading() as reader:
            return self._bound(reader)

    def cache_vectors(
        self, embedder_id: str, name: str, dimension: int, vectors: Mapping[bytes, Vectors]
    ) -> None:
        """Keep vectors of an embedder that is not (yet) the collection's: a rebuild's progress."""
        with self._transaction() as connection:
            number = writing.add_embedder(connection, embedder_id, name, dimension)
            writing.add_vectors(connection, number, list(vectors), list(vectors.values()))

    def replace_document(
        self,
        source: Source,
        document: Document,
        chunks: Sequence[Chunk],
        vectors: Vectors,
        own: Mapping[str, Value | None] | None = None,
        *,
        known_as: tuple[str, str] | None = None,
    ) -> StoredDocument:
        """Add the document, or put it in the place of the one of the same path, in one transaction.

        `vectors` is (n, d) float32 of unit length, one row a chunk. When this returns, the document survives
        a power cut; when it raises, the old version is untouched. The user's fields stay, changed by `own`.
        `known_as` are id and time of one that comes from another store.

        Raises:
            IndexMismatch: no embedder is fixed yet, or the vectors do not have its dimension.
            ValueError: chunks and vectors do not fit together, or a chunk is not a slice of the text.
        """
        writing.check(document, chunks, vectors)
        with self._transaction() as connection:
            known = one(connection, "SELECT document_id FROM documents WHERE path = ?", source.path)
            named, at = known_as or (known or document_id(self.collection, source.path), writing.now())
            bound = connection.execute(
                "SELECT e.number, e.dimension FROM collection c JOIN embedders e ON e.number = c.embedder"
            ).fetchone()
            if bound is None or vectors.shape != (len(chunks), bound[1]):
                raise IndexMismatch(
                    f"Vectors of shape {vectors.shape} do not fit collection {self.collection!r} "
                    f"({'no embedder is fixed yet' if bound is None else f'{bound[1]} dimensions'})."
                )
            used = writing.remove_document(connection, source.path) or []
            number = writing.add_document(connection, named, source, document, len(chunks), at)
            keys = [embedding_key(chunk, document.title) for chunk in chunks]
            writing.add_vectors(connection, bound[0], keys, vectors)
            rows = writing.vector_ids(connection, bound[0], keys)
            writing.add_chunks(connection, number, named, document.title, chunks, vectors=rows)
            writing.drop_unused(connection, used)
            connection.execute("DELETE FROM failures WHERE path = ?", (source.path,))
            facts.annotate(connection, {source.path: own or {}}, self.file)
            writing.bump(connection)
            return SqliteReader(connection, self.file, self._indexes.at).document(named)

    def annotate(self, changes: Mapping[str, Mapping[str, Value | None]]) -> tuple[str, ...]:
        """Set and take away (None) the user's fields of documents, by path, in one transaction.

        Returns the paths that are there.

        Raises:
            InvalidField: a document would have too many; then nothing has changed.
        """
        with self._transaction() as connection:
            changed = facts.annotate(connection, changes, self.file)
            if changed:
                writing.bump(connection)
        return tuple(changed)

    def failures(self) -> dict[str, Failure]:
        """Files that could not be read, by path."""
        with self._connections.reading() as connection:
            return writing.read_failures(connection)

    def note_failures(self, failed: Iterable[tuple[Source, str]]) -> None:
        """Count a failed try for each of these files; the generation stays."""
        failed = list(failed)
        if not failed:
            return
        with self._transaction() as connection:
            for source, reason in failed:
                writing.count_failure(connection, source, reason)

    def touch(self, sources: Iterable[Source]) -> None:
        """Note new sizes and times of documents whose content did not change; the generation stays."""
        sources = list(sources)
        if not sources:
            return
        with self._transaction() as connection:
            for source in sources:
                writing.touch(connection, source)

    def forget(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Remove documents with all that was made of them, at once; returns the paths that were there."""
        gone: list[str] = []
        with self.writing():
            self._forget(paths, gone)
            if gone:
                beside.sweep(self.folder, [document.content_hash for document in self.documents()])
        if gone:
            try:
                self._connections.empty_log()
            except IngestError as error:  # it is forgotten all the same
                log.warning("what was forgotten may still stand in the log of %s: %s", self.file, error)
        return tuple(gone)

    def _forget(self, paths: Iterable[str], gone: list[str]) -> None:
        with self._transaction() as connection:
            used: list[int] = []
            for path in dict.fromkeys(paths):
                vectors = writing.remove_document(connection, path)
                writing.forget_about(connection, path)
                if vectors is not None:
                    gone.append(path)
                    used += vectors
            if gone:
                writing.drop_unused(connection, used)
                writing.bump(connection)

    def recut(
        self, embedder_id: str, name: str, dimension: int, pieces: Iterable[tuple[str, str, Sequence[Chunk]]]
    ) -> None:
        """Give every document new chunks (document id, recipe, chunks), vectors from the cache, at once.

        Words are indexed anew too, so this also mends a keyword index that `verify` found wrong.

        Raises:
            IndexDamaged: `pieces` is not every document, or a vector is missing; the old state stays.
        """
        with self._transaction() as connection:
            number = writing.add_embedder(connection, embedder_id, name, dimension)
            writing.replace_all_chunks(connection, self.file, number, pieces)
            writing.rebuild_words(connection)
            writing.bump(connection)
