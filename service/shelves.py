"""The library over real collections: opened once, kept open, searched with the embedder they were made with.

A collection that another process made, rebuilt with another embedder or deleted meanwhile is noticed at the
next question. Embedders are shared between collections and loaded once.

Invariant: no lock of all collections is held while a store is opened, asked or closed, or an embedder is
loaded, for a server behind it may be slow. Who opens, makes or deletes a collection has the turn of that one
collection; who asks an open one waits for nobody.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from ingest import pipeline, transfer
from ingest.collections import checked_name, delete_collection, list_collections, open_collection
from ingest.embed import Embedder, SentenceTransformerEmbedder
from ingest.embed.finding import ONNX, is_local
from ingest.errors import (
    EmbedderError,
    IndexDamaged,
    IngestError,
    SchemaTooNew,
    UnknownCollection,
    UnknownDocument,
)
from ingest.filters import Filter
from ingest.search import Searcher, unrelated_cosine
from ingest.settings import IngestSettings, chunked, chunking_of
from ingest.store import Store
from ingest.types import Chunk, FileReport, StoredDocument, Value
from model.errors import UnknownModel
from model.install import installed, kind_of, models_folder
from model.spans.reader import SpanReader
from service.answer import Source
from service.choosing.chooser import Chooser
from service.errors import InvalidRequest, NameTaken
from service.ingesting import IngestProcess
from service.library import CollectionInfo, OnFile, Upload
from service.originals import Originals
from service.spans.quoter import Quoter

FindEmbedder = Callable[[str], Embedder]


@dataclass(frozen=True, slots=True)
class _Shelf:
    """One open collection; without an embedder as long as nothing is in it."""

    store: Store
    searcher: Searcher | None
    embedder: Embedder | None
    embedder_id: str | None


class Shelves:
    """The collections of one home."""

    def __init__(
        self,
        home: Path,
        default: str,
        settings: IngestSettings,
        find_embedder: FindEmbedder,
        bulk: IngestProcess | None = None,
    ) -> None:
        """Open nothing yet; large uploads go to `bulk` where there is one."""
        self._home = home
        self._default = default
        self._settings = settings
        self._find = find_embedder
        self._bulk = bulk
        self._lock = threading.Lock()  #: of the dictionaries below
        self._turns: WeakValueDictionary[tuple[str, str], threading.RLock] = WeakValueDictionary()
        self._shelves: dict[str, _Shelf] = {}
        self._embedders: dict[str, Embedder] = {}
        self._floors: dict[str, float] = {}
        self._failing: dict[str, str] = {}
        self._originals = Originals(home)
        self._quoter = Quoter(self._span_reader, chooser=Chooser())

    def warm(self) -> None:
        """Load the embedder and the default collection's vectors.

        Raises:
            EmbedderError: the embedder's weights are missing or damaged.
            IngestError: the default collection cannot be read.
        """
        try:
            shelf = self._shelf(self._default)
        except UnknownCollection:
            shelf = None
        embedder = (shelf and shelf.embedder) or self._embedder(self._settings.embedder)
        self._floor(embedder)
        if shelf and shelf.searcher:
            shelf.searcher.search("warm", 1)

    def close(self) -> None:
        """Close every collection, and end the process for large uploads."""
        if self._bulk is not None:
            self._bulk.close()
        with self._lock:
            shelves = list(self._shelves.values())
            self._shelves.clear()
        for shelf in shelves:
            shelf.store.close()

    def collections(self) -> list[CollectionInfo]:
        """All collections, by name."""
        found = []
        for name in list_collections(self._home, self._settings.store):
            try:
                found.append(self.collection(name))
            except UnknownCollection:  # deleted meanwhile
                continue
            except (IndexDamaged, SchemaTooNew, EmbedderError) as error:  # one must not hide the others
                cut = chunking_of(self._settings)
                found.append(CollectionInfo(name, 0, 0, 0, 0, None, 0, cut, problem=str(error)))
        return found

    def collection(self, collection: str) -> CollectionInfo:
        """One collection in figures."""
        status = self._shelf(collection).store.status()
        return CollectionInfo(
            status.collection,
            status.documents,
            status.chunks,
            status.characters,
            status.generation,
            status.embedder_name,
            status.bytes_on_disk,
            status.chunking or chunking_of(self._settings),
        )

    def create(
        self, collection: str, embedder: str | None = None, chunking: str | None = None
    ) -> CollectionInfo:
        """Make an empty collection, its embedder and cut fixed; see `Library.create`."""
        name = checked_name(collection)
        cut = chunking_of(chunked(self._settings, chunking))
        source = (embedder or "").removeprefix(ONNX)
        if embedder is not None and is_local(embedder) and source not in (known := self.embedders()):
            raise InvalidRequest(
                f"embedder {embedder!r} is not installed (there: {', '.join(known)}). "
                f"Fetch it with `python -m model pull {embedder}`."
            )
        found = self._embedder(embedder or self._settings.embedder)  # before anything is made: it may fail
        with self._turn("collection", name):
            if name in list_collections(self._home, self._settings.store):
                raise NameTaken(
                    f"there is a collection {name!r} already; delete it first, or take another name"
                )
            with open_collection(self._home, name, create=True, at=self._settings.store) as store:
                store.bind(found.id, found.name, found.dimension)
                store.fix_chunking(cut)
        return self.collection(name)

    def delete(self, collection: str) -> None:
        """Remove a collection with all that is in its folder."""
        with self._turn("collection", collection):
            pass  # an upload that is about to make it has made it now, or sees that it is cancelled
        delete_collection(self._home, collection, at=self._settings.store)
        with self._lock:
            shelf = self._shelves.pop(collection, None)
            self._failing.pop(collection, None)
        if shelf is not None:
            shelf.store.close()

    def failing(self) -> Mapping[str, str]:
        """What kept collections from being opened when they were last wanted, by name."""
        with self._lock:
            return dict(sorted(self._failing.items()))

    def export(self, collection: str, target: Path) -> None:
        """Write it as it is now into one file; who writes to it meanwhile goes on."""
        transfer.export(self._shelf(collection).store, target)

    def embedders(self) -> list[str]:
        """The usual embedder, then the others that are installed."""
        usual = self._settings.embedder
        found = [n for n in installed(self._home) if kind_of(models_folder(self._home) / n) == "embedder"]
        return [usual, *(name for name in found if name != usual)]

    def source(self, collection: str) -> Source:
        """Search and similarity; see `Library.source`."""
        try:
            shelf = self._shelf(collection)
        except UnknownCollection:
            if collection == self._default:
                return Source(None, quoter=self._quoter)
            raise
        if shelf.searcher is None or shelf.embedder is None:
            return Source(None, quoter=self._quoter)
        embedder, store = shelf.embedder, shelf.store

        def similarity(question: str, texts: Sequence[str]) -> list[float]:
            products = embedder.encode_passages(texts) @ embedder.encode_queries([question])[0]
            return [float(p) for p in products]

        def rarity(terms: Sequence[str]) -> list[float]:
            with store.reading() as reader:
                return reader.information(terms)

        return Source(
            shelf.searcher,
            similarity,
            rarity,
            self._floor(embedder),
            self._quoter,
            embedder=shelf.embedder_id,
            parsed=store.parsed,
        )

    def documents(self, collection: str, where: Filter | None = None) -> list[StoredDocument]:
        """Its documents, by path; none in the default collection before the first ingest."""
        try:
            return self._shelf(collection).store.documents(where)
        except UnknownCollection:
            if collection == self._default:
                return []
            raise

    def document(self, collection: str, document_id: str) -> StoredDocument:
        """One document."""
        try:
            return self._shelf(collection).store.document(document_id)
        except UnknownCollection as error:
            if collection == self._default:
                raise UnknownDocument(
                    f"no document {document_id!r}: nothing has been ingested yet"
                ) from error
            raise

    def text(self, collection: str, document_id: str) -> str:
        """The stored text."""
        return self._shelf(collection).store.text(document_id)

    def chunks(self, collection: str, document_id: str) -> Sequence[Chunk]:
        """Its passages in order."""
        return self._shelf(collection).store.chunks(document_id)

    def original(self, collection: str, document_id: str) -> Path:
        """The file that a document was made of."""
        return self._originals.find(collection, self.document(collection, document_id))

    def page_picture(self, collection: str, document_id: str, page: int) -> Path:
        """A page of it as a PNG."""
        return self._originals.picture(collection, self.document(collection, document_id), page)

    def annotate(
        self, collection: str, document_id: str, changes: Mapping[str, Value | None]
    ) -> StoredDocument:
        """Set fields of a document in one transaction."""
        store = self._shelf(collection).store
        store.annotate({store.document(document_id).path: changes})
        return store.document(document_id)

    def forget(self, collection: str, document_id: str) -> None:
        """Remove a document in one transaction, then its original and pictures."""
        store = self._shelf(collection).store
        document = store.document(document_id)
        store.forget([document.path])
        self._originals.forget(collection, document, store.documents())

    def add(
        self,
        collection: str,
        uploads: Sequence[Upload],
        on_file: OnFile,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Ingest files, making the collection where there is none."""
        with self._turn("collection", collection):
            if cancelled():  # perhaps because the collection is being deleted: it must not come back
                return
            try:
                self._shelf(collection)
            except UnknownCollection:  # never made, or gone without our doing
                open_collection(self._home, collection, create=True, at=self._settings.store).close()
        store = self._shelf(collection).store
        name = store.status().embedder_name or self._settings.embedder

        waiting = {upload.known_by: upload.file for upload in uploads}
        before: dict[str, StoredDocument] = {}
        for path in waiting:
            with contextlib.suppress(UnknownDocument):
                before[path] = store.document(path)

        def ended(file: FileReport) -> None:
            if file.status in ("added", "updated", "unchanged"):
                self._originals.keep(collection, waiting[file.path])
                if file.status == "updated" and (old := before.get(file.path)):
                    self._originals.forget(collection, old, store.documents())
            on_file(file)

        if self._bulk is not None and self._bulk.wants(uploads):
            where = (self._home, collection)
            self._bulk.ingest(where, uploads, name, self._settings, ended, cancelled)
            return
        pipeline.ingest_files(
            [pipeline.Upload(u.file, u.path, u.own, u.url) for u in uploads],
            store,
            self._embedder(name),
            self._settings,
            progress=lambda told: None if told.file is None else ended(told.file),
            cancel=cancelled,
        )

    def _shelf(self, collection: str) -> _Shelf:
        """The open collection, opened anew where it was deleted or rebuilt since."""
        before = self._shelves.get(collection)
        if before is not None and _is_current(before):
            return before
        with self._turn("collection", collection):
            shelf = self._shelves.get(collection)
            if shelf is not None and shelf is not before and _is_current(shelf):
                return shelf  # somebody else has opened it meanwhile
            with self._lock:
                self._shelves.pop(collection, None)
            try:
                new = self._opened(collection)
            except IngestError as error:
                with self._lock:
                    self._failing.pop(collection, None)
                    if not isinstance(error, UnknownCollection):
                        self._failing[collection] = str(error)
                raise
            finally:
                if shelf is not None:
                    shelf.store.close()
            with self._lock:
                self._shelves[collection] = new
                self._failing.pop(collection, None)
            return new

    def _opened(self, collection: str) -> _Shelf:
        store = open_collection(
            self._home,
            collection,
            approximate_from=self._settings.approximate_from,
            at=self._settings.store,
        )
        try:
            status = store.status()
            embedder = self._embedder(status.embedder_name) if status.embedder_name else None
        except BaseException:
            store.close()
            raise
        searcher = Searcher(store, embedder) if embedder else None
        return _Shelf(store, searcher, embedder, status.embedder_id)

    def _turn(self, kind: str, name: str) -> threading.RLock:
        """The lock of one collection or embedder; gone when nobody has it."""
        with self._lock:
            return self._turns.setdefault((kind, name), threading.RLock())

    def embedder(self) -> Embedder:
        """The embedder of new collections."""
        return self._embedder(self._settings.embedder)

    def _embedder(self, name: str) -> Embedder:
        with self._turn("embedder", name):
            if name not in self._embedders:
                self._embedders[name] = self._find(name)
            return self._embedders[name]

    def _span_reader(self) -> SpanReader:
        """The span reader that comes with the package, on the encoder that it was trained on."""
        from model.spans import folder

        try:
            encoder = self._embedder(folder.encoder_name())
        except EmbedderError as error:
            raise UnknownModel(str(error)) from error
        if not isinstance(encoder, SentenceTransformerEmbedder):
            raise UnknownModel(f"{encoder.name} has no folder to read the encoder from")
        return folder.load(encoder.folder, cut=encoder.pieces)

    def _floor(self, embedder: Embedder) -> float:
        """The cosine of unrelated texts: what it costs to know is one batch."""
        if embedder.id not in self._floors:
            self._floors[embedder.id] = unrelated_cosine(embedder)
        return self._floors[embedder.id]


def _is_current(shelf: _Shelf) -> bool:
    """Whether the collection is still the one that was opened."""
    try:
        with shelf.store.reading() as reader:
            return reader.embedder_id == shelf.embedder_id
    except UnknownCollection:
        return False
