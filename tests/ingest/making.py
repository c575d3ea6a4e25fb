"""Documents, chunks and stores for the tests of store, search and pipeline."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

from ingest.store import Source, Store
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


def put(store: Store, path: str, text: str, title: str = "Title", recipe: str = "r") -> StoredDocument:
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


def watched_publishes(store: Store, writer: Store, publishes: int, readers: int) -> set[int]:
    """Publish versions of one document while others read; fails at a mixed read; gives the generations seen.

    Publish n holds one document that says n in every passage; a mixed read would show two numbers.
    """
    query = EMBEDDER.encode_queries(["version"])[0]

    def text(n: int) -> str:
        return f"version {n:03} of this one passage".ljust(40) * (4 + n % 5)  # each as long as a chunk

    put(writer, "doc", text(0))
    seen: set[int] = set()
    wrong: list[object] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                with store.reading() as reader:
                    found = [m.chunk_id for m in reader.nearest(query, 99)]
                    found += [m.chunk_id for m in reader.matching(["version"], 99)]
                    hits = reader.hits(list(dict.fromkeys(found)))
                    numbers = {int(n) for h in hits.values() for n in h.text.split() if n.isdigit()}
                    if len(numbers) != 1 or len(hits) != reader.chunk_count or len(found) != 2 * len(hits):
                        wrong.append((reader.generation, numbers, len(hits), len(found), reader.chunk_count))
                    seen.add(reader.generation)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=read) for _ in range(readers)]
    for thread in threads:
        thread.start()
    for n in range(1, publishes + 1):
        put(writer, "doc", text(n))
    time.sleep(0.05)
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:3]
    return seen
