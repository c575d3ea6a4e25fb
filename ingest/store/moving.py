"""A collection from one kind of store into another, with ids, times, fields and vectors as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ingest.errors import IndexDamaged
from ingest.store import Store, Vectors
from ingest.store.milvus.changes import Put
from ingest.store.milvus.store import MilvusStore
from ingest.store.rows import embedding_key
from ingest.store.sqlite_faiss import SqliteFaissStore
from ingest.types import Chunk


def into_milvus(source: Store, target: MilvusStore) -> None:
    """Fill an empty knowledge base; it is empty as long as not everything is there."""
    _describe(source, target)
    target.take_over(put for put, _ in _documents(source))
    target.note_failures((failure.source, failure.reason) for failure in source.failures().values())


def into_folder(source: Store, folder: Path) -> SqliteFaissStore:
    """Make an embedded collection in a folder that is not there yet."""
    target = SqliteFaissStore.open(folder, create=True)
    try:
        _describe(source, target)
        with target.writing("import"):
            for put, at in _documents(source):
                target.replace_document(
                    put.source, put.document, put.chunks, put.vectors, put.own, known_as=(put.document_id, at)
                )
    except BaseException:
        target.close()
        raise
    return target


def _describe(source: Store, target: Store) -> None:
    status = source.status()
    if status.embedder_id is not None and status.dimension is not None:
        target.bind(status.embedder_id, status.embedder_name or status.embedder_id, status.dimension)
    if status.chunking is not None:
        target.fix_chunking(status.chunking)


def _documents(source: Store) -> Iterator[tuple[Put, str]]:
    """Every document by path, and when it was ingested. Raises IndexDamaged."""
    status, sources = source.status(), source.sources()
    for known in source.documents():
        chunks = source.chunks(known.document_id)
        vectors = _vectors(source, known.title, chunks, status.embedder_id or "", status.dimension or 0)
        put = Put(
            known.document_id,
            sources[known.path],
            source.parsed(known.document_id),
            chunks,
            vectors,
            known.own,
            known.ingested_at,
        )
        yield put, known.ingested_at


def _vectors(source: Store, title: str, chunks: Sequence[Chunk], embedder_id: str, dimension: int) -> Vectors:
    keys = [embedding_key(chunk, title) for chunk in chunks]
    known = source.cached_vectors(embedder_id, keys)
    if missing := [n for n, key in enumerate(keys) if key not in known]:
        raise IndexDamaged(f"Passage {missing[0]} of {title!r} has no vector; nothing was moved.")
    return np.array([known[key] for key in keys], np.float32).reshape(len(keys), dimension)
