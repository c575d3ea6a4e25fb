"""One knowledge base in a Milvus; see `ingest.store.milvus` for how its promises are kept."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

from ingest import words
from ingest.errors import IndexMismatch, IngestError
from ingest.fields import merged
from ingest.store import Source, Vectors, Verification, writing
from ingest.store.files import make_folder
from ingest.store.lock import WriterLock
from ingest.store.milvus import changes, checks, side, tables
from ingest.store.milvus.address import Address
from ingest.store.milvus.lease import LEASE_S
from ingest.store.milvus.reader import MilvusReader
from ingest.store.milvus.reads import MilvusReads
from ingest.store.milvus.server import Server, borrow, give_back
from ingest.store.milvus.state import KEY, State, read_state
from ingest.store.rows import document_id
from ingest.types import Chunk, Document, StoredDocument, Value


class MilvusStore(MilvusReads):
    """One collection; see `ingest.store.Store` for what each method promises."""

    def __init__(
        self, server: Server, name: str, folder: Path, wait_s: float, lease_s: float = LEASE_S
    ) -> None:
        super().__init__(server, name, folder, lease_s)
        self._wait_s = wait_s
        self._lock = WriterLock(folder)
        self._held: State | None = None  #: the state, as long as this store writes
        self._broken = False  #: whether a write broke off, so that its rows have to go
        self._unsure = False  #: whether `_held` may be older than what was committed
        self._buried = 0.0  #: when this store last took something away

    @classmethod
    def open(
        cls,
        address: Address,
        name: str,
        folder: Path,
        *,
        create: bool = False,
        wait_s: float = 10.0,
        lease_s: float = LEASE_S,
    ) -> MilvusStore:
        """Open the knowledge base of this name; with `create`, make it where there is none.

        `folder` is where this machine keeps what it has of the collection beside Milvus: its writer's lock.

        Raises:
            UnknownCollection: no such collection, and `create` is false.
            StoreUnavailable: Milvus is away or refuses us.
            SchemaTooNew, IndexDamaged: as their names say.
        """
        folder = folder.absolute()
        server = borrow(address)
        try:
            store = cls(server, name, folder, wait_s, lease_s)
            if create:
                make_folder(folder.parent)
                make_folder(folder)
                store._make()
            store._state()
            if not folder.is_dir():
                make_folder(folder.parent)
                make_folder(folder)
            return store
        except BaseException:
            give_back(server)
            raise

    def _make(self) -> None:
        if self._server.call("has_collection", self._kb.records) and self._found() is not None:
            return
        tables.make_records(self._server, self._kb.records)
        with self._lock.hold("making the collection", self._wait_s):
            self._lease.take("making the collection", time.monotonic() + self._wait_s)
            try:
                if self._found() is None:
                    state = State(self.collection, writing.now(), words.VERSION)
                    self._server.upsert(self._kb.records, [state.row()])
            finally:
                self._lease.give_back()

    def close(self) -> None:
        """Delete what this store took away, once no reader can want it, and let go of the connection."""
        if self._closed:
            return
        with suppress(IngestError):  # another writer, or the next one, deletes it
            if self._buried:
                time.sleep(max(0.0, self._buried + self._server.address.grace_s - time.time()))
                with self._transaction():
                    pass
        self._closed = True
        give_back(self._server)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Writing

    @contextmanager
    def writing(self, doing: str = "writing", wait_s: float | None = None) -> Iterator[None]:
        """Hold the collection for writing; re-entrant in one thread.

        Raises:
            CollectionLocked: someone else still writes after `wait_s` (default: the store's own).
            StoreUnavailable: Milvus is away.
        """
        wait_s = self._wait_s if wait_s is None else wait_s
        with self._lock.hold(doing, wait_s):
            if self._held is not None:
                yield
                return
            self._lease.take(doing, time.monotonic() + wait_s)
            try:
                self._held = self._state()
                self._unsure = False
                self._broken = True  # whoever wrote before may have been killed
                yield
            finally:
                self._held = None
                self._lease.give_back()

    @contextmanager
    def _transaction(self) -> Iterator[State]:
        """A copy of the state to change, which is committed after the block."""
        with self.writing():
            held = self._current()
            state = replace(held, dead=[*held.dead], retired=[*held.retired])
            if self._broken:
                changes.clear_unfinished(self._kb, state)
                self._broken = False
            changes.sweep(self._kb, state)
            if state.words_version != words.VERSION:
                changes.rebuild_words(self._kb, state)
            try:
                yield state
                self._lease.check()
                self._server.upsert(self._kb.records, [state.row()])
                self._held = state
                if state.dead or state.retired:
                    self._buried = time.time()
            except BaseException:
                self._broken = self._unsure = True
                raise

    def _current(self) -> State:
        """The state that the next write begins with, or a reader of it."""
        if self._held is None:
            return self._state()
        if self._unsure:  # a commit may have been heard, though its answer was not
            self._held = self._state()
            self._unsure = False
        return self._held

    def compact(self) -> bool:
        """Nothing: Milvus looks after its index itself."""
        return False

    def bind(self, embedder_id: str, name: str, dimension: int) -> None:
        """Fix the embedder of a new collection.

        Raises:
            IndexMismatch: the collection was made with another one.
        """
        state = self._current()
        if state.embedder_id is None:
            with self._transaction() as state:
                if state.embedder_id is None:
                    changes.take_embedder(self._kb, state, embedder_id, name, dimension)
        if (state.embedder_id, state.dimension) != (embedder_id, dimension):
            raise IndexMismatch(
                f"Collection {self.collection!r} was made with embedder {state.embedder_name!r} "
                f"({state.embedder_id}), not with {name!r} ({embedder_id}). Use {state.embedder_name!r}, or "
                f"run `python -m ingest rebuild --embedder {name} --collection {self.collection}`, which "
                "embeds the stored text anew."
            )

    def fix_chunking(self, chunking: str) -> None:
        """Cut documents this way from now on, whatever the settings say."""
        with self._transaction() as state:
            state.chunking = chunking

    def cache_vectors(
        self, embedder_id: str, name: str, dimension: int, vectors: Mapping[bytes, Vectors]
    ) -> None:
        """Keep vectors of an embedder that is not (yet) the collection's: a rebuild's progress."""
        del name, dimension  # a vector knows its own length
        with self.writing():
            side.cache(self._kb, embedder_id, vectors)

    def replace_document(
        self,
        source: Source,
        document: Document,
        chunks: Sequence[Chunk],
        vectors: Vectors,
        own: Mapping[str, Value | None] | None = None,
    ) -> StoredDocument:
        """Add the document, or put it in the place of the one of the same path, at once.

        When this returns, every reader of every process sees it; when it raises, the old one stays.

        Raises:
            IndexMismatch: no embedder is fixed yet, or the vectors do not have its dimension.
            ValueError: chunks and vectors do not fit together, or a chunk is not a slice of the text.
            StoreUnavailable: Milvus is away.
        """
        writing.check(document, chunks, vectors)
        with self._transaction() as state:
            if state.dimension is None or vectors.shape != (len(chunks), state.dimension):
                bound = (
                    "no embedder is fixed yet" if state.dimension is None else f"{state.dimension} dimensions"
                )
                raise IndexMismatch(
                    f"Vectors of shape {vectors.shape} do not fit collection {self.collection!r} ({bound})."
                )
            before = self._reader(state).find(source.path)
            known = before.document.document_id if before else document_id(self.collection, source.path)
            put = changes.Put(known, source, document, chunks, vectors, own or {})
            entry = changes.put(self._kb, state, put, before)
            side.forget_failures(self._kb, [source.path])
            return entry.document

    def take_over(self, documents: Iterable[changes.Put]) -> None:
        """Write documents of another store, all at once: none is seen before all are there."""
        with self._transaction() as state:
            for new in documents:
                changes.put(self._kb, state, new, None)

    def annotate(self, changed: Mapping[str, Mapping[str, Value | None]]) -> tuple[str, ...]:
        """Set and take away (None) the user's fields of documents, by path, at once.

        More than `changes.MOST_AT_ONCE` of them change in several steps.

        Raises:
            InvalidField: a document would have too many; then nothing has changed.
        """
        done: list[str] = []
        with self.writing():
            if len(changed) > changes.MOST_AT_ONCE:  # whatever cannot be is found before the first step
                for path, entry in self._reader(self._current()).at(changed).items():
                    merged(entry.document.own, changed[path])
            for some in _batches(changed):
                with self._transaction() as state:
                    reader = self._reader(state)
                    entries = reader.at(some)
                    changes.annotate(self._kb, state, reader, entries, changed)
                    done += entries
        return tuple(done)

    def note_failures(self, failed: Iterable[tuple[Source, str]]) -> None:
        """Count a failed try for each of these files; the generation stays."""
        if failed := list(failed):
            with self.writing():
                side.count_failures(self._kb, failed)

    def touch(self, sources: Iterable[Source]) -> None:
        """Note new sizes and times of documents whose content did not change; the generation stays."""
        wanted = {source.path: source for source in sources}
        if wanted:
            with self.writing():
                changes.touch(self._kb, self._reader(self._current()).at(wanted), wanted)

    def forget(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Remove documents with all that was made of them, at once; returns the paths that were there.

        More than `changes.MOST_AT_ONCE` of them go in several steps.
        """
        wanted = list(dict.fromkeys(paths))
        gone: list[str] = []
        with self.writing():
            for some in _batches(wanted):
                with self._transaction() as state:
                    entries = self._reader(state).at(some)
                    changes.bury(state, entries.values())
                    state.generation += bool(entries)
                side.forget_failures(self._kb, some)
                gone += entries
        return tuple(gone)

    def recut(
        self, embedder_id: str, name: str, dimension: int, pieces: Iterable[tuple[str, str, Sequence[Chunk]]]
    ) -> None:
        """Give every document new chunks (document id, recipe, chunks), vectors from the cache, at once.

        Raises:
            IndexDamaged: `pieces` is not every document, or a vector is missing; the old state stays.
        """
        with self._transaction() as state:
            changes.recut(
                self._kb,
                state,
                self._reader(state),
                (embedder_id, name, dimension),
                pieces,
            )
        side.drop_cache(self._kb)

    def _reader(self, state: State) -> MilvusReader:
        return MilvusReader(self._kb, state)

    def verify(self) -> Verification:
        """Check every hash and every count; problems are listed, not raised."""
        with self.writing("verify"):
            return checks.verify(self._kb, self._current())

    def drop(self) -> None:
        """Delete the collection; stores that are open on it find it gone at their next use."""
        with self.writing("delete the collection"):
            state = self._current()
            tables_of = [*([state.passages] if state.passages else []), *(t for t, _ in state.retired)]
            self._buried = 0.0
            self._server.call("delete", self._kb.records, filter=f'key == "{KEY}"')  # from here on it is gone
            for table in (*tables_of, self._kb.records):
                self._server.call("drop_collection", table)


def _batches(paths: Iterable[str]) -> Iterator[list[str]]:
    left = list(paths)
    for start in range(0, len(left), changes.MOST_AT_ONCE):
        yield left[start : start + changes.MOST_AT_ONCE]


def names(address: Address) -> list[str]:
    """The knowledge bases of a Milvus, sorted."""
    server = borrow(address)
    try:
        found = []
        for table in server.call("list_collections"):
            if table.startswith(tables.PREFIX) and table.endswith(tables.RECORDS):
                rows = [*server.rows(table, f'key == "{KEY}"', tables.RECORD_FIELDS)]
                found += [read_state(row).name for row in rows]
        return sorted(found)
    finally:
        give_back(server)
