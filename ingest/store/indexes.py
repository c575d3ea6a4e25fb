"""Which vector index answers a reader: kept in memory, advanced, loaded from a snapshot, or made anew.

Small collections are searched exactly. From `approximate_from` passages on, a snapshot is loaded and newer
rows are searched exactly beside it. Whatever is wrong with a snapshot - missing, another hash, of a history
that this database does not know - costs speed and memory, never an answer: the vectors in the database serve,
searched exactly, until the next ingest publishes a new snapshot.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from ingest.errors import IndexDamaged
from ingest.store import snapshots
from ingest.store.approximate import build
from ingest.store.reader import SqliteReader
from ingest.store.snapshots import Manifest
from ingest.store.vectors import VectorIndex
from ingest.store.writing import now

log = logging.getLogger(__name__)

#: Passages from which on a collection gets an approximate index.
APPROXIMATE_FROM = 100_000
_KEPT = 3  # they share their segments; a reader of a generation just gone still finds its own
_STALE = 0.1  #: share of a snapshot's rows that may have come or gone before a new one is made
_FEWEST = 256  #: below this, no index can be trained


class Indexes:
    """The vector indexes of one collection; thread-safe."""

    def __init__(self, folder: Path, approximate_from: int) -> None:
        self._folder = folder
        self._approximate_from = max(approximate_from, _FEWEST)
        self._kept: list[tuple[int, VectorIndex]] = []  # (embedder number, index), oldest first
        self._lock = threading.Lock()
        self._refused: set[str] = set()

    def at(self, reader: SqliteReader) -> VectorIndex:
        """The vectors of the reader's generation."""
        assert reader.dimension is not None
        assert reader.embedder_number is not None
        number = reader.embedder_number
        with self._lock:
            older = [i for n, i in self._kept if n == number and i.generation <= reader.generation]
            base = max(older, key=lambda i: i.generation, default=VectorIndex(-1, reader.dimension))
            if (loaded := self._newer_snapshot(reader, base)) is not None:
                base = loaded
                self._kept.clear()
            elif base.generation == reader.generation:
                return base
            index = reader.advance(base)
            self._kept.append((number, index))
            self._kept.sort(key=lambda pair: pair[1].generation)
            del self._kept[:-_KEPT]
            return index

    def clear(self) -> None:
        """Drop the vectors."""
        with self._lock:
            self._kept.clear()

    def _newer_snapshot(self, reader: SqliteReader, base: VectorIndex) -> VectorIndex | None:
        """The index of the registered snapshot, where `base` does not stand on it or on a newer one."""
        if reader.chunk_count < self._approximate_from:
            return None
        manifest = self._registered(reader)
        if manifest is None or not manifest.accepted or manifest.name in self._refused:
            return None
        if base.snapshot is not None and base.snapshot.generation >= manifest.generation:
            return None
        try:
            snapshot = snapshots.load(self._folder, manifest)
        except IndexDamaged as error:
            log.warning("%s; searching exactly until the next ingest makes it anew", error)
            self._refused.add(manifest.name)
            snapshots.set_aside(self._folder, manifest)
            return None
        return VectorIndex(manifest.generation, manifest.dimension, (), snapshot)

    def _registered(self, reader: SqliteReader) -> Manifest | None:
        """The collection's snapshot; None where none belongs to what the reader sees."""
        try:
            manifest = reader.snapshot()
        except IndexDamaged as error:
            if str(error) not in self._refused:
                log.warning("%s; searching exactly until the next ingest makes it anew", error)
                self._refused.add(str(error))
            return None
        if (
            manifest is None
            or manifest.generation > reader.generation
            or (manifest.embedder_id, manifest.dimension) != (reader.embedder_id, reader.dimension)
        ):
            return None
        return manifest

    def is_stale(self, reader: SqliteReader) -> bool:
        """Whether a new snapshot is wanted: none that can be used, or too much has come and gone since."""
        if reader.chunk_count < self._approximate_from:
            return False
        manifest = self._registered(reader)
        if manifest is None or manifest.name in self._refused:
            return True
        if manifest.accepted:
            file = manifest.file(self._folder)
            if not file.is_file() or file.stat().st_size != manifest.size:
                return True
        gone = reader.removed_after(manifest.generation)
        if gone is None:
            return True
        new = reader.chunk_count - (manifest.rows - gone)
        return new + gone > _STALE * manifest.rows

    def make_folder(self) -> Path:
        """The folder of snapshots, made where it is missing. Raises StorageFull."""
        return snapshots.make_folder(self._folder)

    def make(self, reader: SqliteReader) -> Manifest:
        """Build an index of the reader's generation and write it beside the database.

        Raises:
            StorageFull, IndexDamaged: as their names say; nothing has changed then.
        """
        assert reader.dimension is not None
        assert reader.embedder_id is not None
        built = build(
            reader.chunk_ids(), reader.dimension, reader.blocks, reader.vectors, seed=reader.generation
        )
        manifest = snapshots.write(
            self._folder,
            built,
            embedder_id=reader.embedder_id,
            generation=reader.generation,
            made_at=now(),
        )
        if not manifest.accepted:
            log.warning(
                "an approximate index of %s would find %.1f %% of the nearest passages; searching exactly",
                self._folder,
                100 * manifest.recall,
            )
        return manifest
