"""What a store on Milvus is asked, and where its state comes from; `milvus.store` adds what changes it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ingest.errors import IngestError, UnknownCollection
from ingest.store import Failure, StoreStatus, Vectors
from ingest.store.lock import FILE_NAME as LOCK_NAME
from ingest.store.milvus import side, tables
from ingest.store.milvus.lease import LEASE_S, Lease
from ingest.store.milvus.reader import MilvusReader
from ingest.store.milvus.server import Server
from ingest.store.milvus.state import KEY, SCHEMA, State, read_state
from ingest.store.questions import Questions

#: A replaced state is there again at once; how often it is looked for.
_LOOKS, _LOOK_S = 20, 0.05


class MilvusReads(Questions):
    """One collection, to be read; see `ingest.store.Store` for what each method promises."""

    def __init__(self, server: Server, name: str, folder: Path, lease_s: float = LEASE_S) -> None:
        self.collection = name
        self.folder = folder
        self._server = server
        self._kb = tables.KnowledgeBase(server, tables.stem(name) + tables.RECORDS)
        self._lease = Lease(self._kb, folder / LOCK_NAME, lease_s)
        self._closed = False

    # Reading

    @contextmanager
    def reading(self) -> Iterator[MilvusReader]:
        """One generation for several questions."""
        yield MilvusReader(self._kb, self._state())

    def _state(self) -> State:
        """The current state. Raises UnknownCollection."""
        if self._closed:
            raise IngestError(f"The collection {self.collection!r} was used after it was closed.")
        for _ in range(_LOOKS):
            if not self._server.call("has_collection", self._kb.records):
                break
            if (state := self._found()) is not None:
                return state
            time.sleep(_LOOK_S)
        raise UnknownCollection(
            f"There is no collection {self.collection!r} in the Milvus at {self._server.address}. "
            f"`python -m ingest collections` lists what there is; `python -m ingest PATH --collection "
            f"{self.collection}` makes one."
        )

    def _found(self) -> State | None:
        rows = [*self._server.rows(self._kb.records, f'key == "{KEY}"', tables.RECORD_FIELDS)]
        return read_state(rows[0]) if rows else None

    def generation(self) -> int:
        """The number of the last commit that changed what can be found."""
        return self._state().generation

    def cached_vectors(self, embedder_id: str, keys: Iterable[bytes]) -> dict[bytes, Vectors]:
        """Vectors known for these keys; one that does not match its checksum raises IndexDamaged."""
        wanted = list(dict.fromkeys(keys))
        with self.reading() as reader:
            found = reader.known_vectors(wanted) if embedder_id == reader.embedder_id else {}
        missing = [key for key in wanted if key not in found]
        return found | side.cached(self._kb, embedder_id, missing)

    def status(self) -> StoreStatus:
        """Figures; Milvus does not tell the bytes that they take."""
        state = self._state()
        return StoreStatus(
            collection=state.name,
            folder=str(self._server.address),
            generation=state.generation,
            embedder_id=state.embedder_id,
            embedder_name=state.embedder_name,
            dimension=state.dimension,
            documents=state.documents,
            chunks=state.chunks,
            characters=state.characters,
            bytes_on_disk=0,
            schema=SCHEMA,
            created_at=state.created_at,
            writer=self._lease.holder(),
            chunking=state.chunking,
        )

    def failures(self) -> dict[str, Failure]:
        """Files that could not be read, by path."""
        self._state()
        return side.failures(self._kb)
