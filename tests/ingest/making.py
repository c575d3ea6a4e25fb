"""Documents, chunks and stores for the tests of store, search and pipeline."""

from __future__ import annotations

import shutil
from pathlib import Path

from ingest.store import Source
from ingest.store.sqlite_faiss import SqliteFaissStore
from ingest.types import Chunk, Document, Page, Section, StoredDocument
from tests.fakes import HashEmbedder

EMBEDDER = HashEmbedder()
TEXT = "The tortoise lives in the garden. 乌龟住在花园里。 Part R123-78 costs 4.50. 😀 " * 3


def make_document(text: str, title: str = "Title") -> Document:
    half = len(text) // 2
    return Document(
        text=text,
        title=title,
        sections=(Section((), 0, half), Section(("Second", "Third"), half, len(text), "table")),
        pages=(Page(1, 0, half), Page(2, half, len(text))),
        metadata={"author": "Ünï"},
        warnings=("page 9 has no text",),
        parser="plain/1",
    )


def make_chunks(text: str, size: int = 40) -> list[Chunk]:
    starts = range(0, len(text), size)
    return [
        Chunk(n, text[at : at + size], at, min(at + size, len(text)), 1, 2, ("Second",) * (n % 2), 7, None)
        for n, at in enumerate(starts)
    ]


def put(
    store: SqliteFaissStore, path: str, text: str, title: str = "Title", recipe: str = "r"
) -> StoredDocument:
    document, chunks = make_document(text, title), make_chunks(text)
    vectors = EMBEDDER.encode_passages([c.embedding_text(title) for c in chunks])
    store.bind(EMBEDDER.id, EMBEDDER.name, EMBEDDER.dimension)
    return store.replace_document(
        Source(path, f"sha256:{hash(text)}", recipe, len(text), 1), document, chunks, vectors
    )


def new_store(folder: Path, **options: float) -> SqliteFaissStore:
    return SqliteFaissStore.open(folder / "collections" / "test", create=True, **options)  # type: ignore[arg-type]


def everything(store: SqliteFaissStore) -> dict[str, tuple[object, ...]]:
    """All that can be read of a store, by path."""
    return {
        d.path: (d, store.parsed(d.document_id), store.chunks(d.document_id), store.sources()[d.path])
        for d in store.documents()
    }


def copy_closed(store: SqliteFaissStore, target: Path) -> Path:
    """A copy of a closed collection's folder."""
    shutil.copytree(store.folder, target)
    return target
