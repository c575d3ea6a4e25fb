"""What keeps documents and finds passages: the protocol that pipeline, search and service code against.

A store is one collection. Its promises, whatever stands behind it: what was reported as written survives a
power cut; a document is replaced whole or not at all; everything read inside one `reading()` belongs to one
generation; what was forgotten is not found again; damage raises `IndexDamaged` instead of being served.
Scores are higher-is-better.

Readers may be many, in threads and in processes. Writers queue: `writing()` holds the collection for one of
them. Opening a store imports neither FAISS nor torch; FAISS is imported by the first dense search.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ingest.filters import Filter
from ingest.types import Chunk, Document, Hit, StoredDocument, Value
from ingest.words import Exact

Vectors = NDArray[np.float32]
Origin = Literal["file", "upload"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a document came from and how it was read: what decides next time whether it is still current."""

    path: str  #: identity within the collection
    content_hash: str  #: "sha256:..." of the bytes
    recipe: str  #: versions and settings of parser and chunker; another one means: read again
    size: int = 0
    mtime_ns: int = 0  #: 0 where the time cannot be trusted; then the hash decides
    origin: Origin = "file"  #: `--sync` forgets only files


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be read, and how often that was tried with the same bytes and recipe."""

    source: Source
    tries: int
    reason: str


@dataclass(frozen=True, slots=True)
class Match:
    """One passage found by one arm."""

    chunk_id: int
    score: float  #: cosine, or BM25 turned higher-is-better


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """The collection in figures."""

    collection: str
    folder: str
    generation: int
    embedder_id: str | None  #: None until something was embedded
    embedder_name: str | None  #: what to load it by: catalog name, hub id or folder
    dimension: int | None
    documents: int
    chunks: int
    characters: int
    bytes_on_disk: int
    schema: int
    created_at: str
    writer: str | None  #: who is writing at this moment
    chunking: str | None = None  #: how this collection is cut; None: as the settings say


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` looked at and what is wrong; no problems means every hash and count agrees."""

    documents: int
    chunks: int
    vectors: int
    problems: tuple[str, ...]


class Reader(Protocol):
    """One generation of a collection, as long as its `reading()` block lasts."""

    generation: int
    embedder_id: str | None
    chunk_count: int
    chunking: str | None  #: how the collection is cut; None: as the settings say

    def nearest(self, vector: Vectors, k: int, where: Filter | None = None) -> list[Match]:
        """The k passages of highest cosine to `vector` ((d,), unit length), best first, ties by chunk id.

        With `where`, of the documents that pass it: k are found where there are k.
        """
        ...

    def cosines(self, vector: Vectors, chunk_ids: Sequence[int]) -> list[float]:
        """Cosine of `vector` to each of these passages."""
        ...

    def matching(
        self,
        terms: Sequence[str],
        k: int,
        where: Filter | None = None,
        exact: Sequence[Exact] = (),
        *,
        required: bool = False,
    ) -> list[Match]:
        """The k passages of highest BM25 for these terms (`ingest.words`), best first, ties by chunk id.

        Phrases and beginnings of words (`exact`) weigh like one more term each; where `required`, passages
        without them are not found. With `where`, of the documents that pass it; what a word weighs does not
        depend on it. In a large collection, words that stand in most passages are left out where rarer ones
        are asked for: they weigh nothing.
        """
        ...

    def information(self, terms: Sequence[str | Exact]) -> list[float]:
        """Inverse document frequency of each term, as BM25 weighs it; highest for one that no passage has."""
        ...

    def hits(self, chunk_ids: Sequence[int]) -> dict[int, Hit]:
        """The passages with their text and document; scores are left at 0."""
        ...

    def confirm(self, where: Filter, document_ids: Iterable[str]) -> None:
        """Check that documents pass the filter by what is stored of them. Raises IndexDamaged."""
        ...


class Store(Protocol):
    """One collection."""

    @property
    def collection(self) -> str:
        """Its name."""
        ...

    @property
    def folder(self) -> Path:
        """Where it lives."""
        ...

    def __enter__(self) -> Self:
        """The store, closed at the end of the block."""
        ...

    def __exit__(self, *exc: object) -> None: ...

    def reading(self) -> AbstractContextManager[Reader]:
        """One consistent view for several questions."""
        ...

    def writing(self, doing: str = "writing", wait_s: float | None = None) -> AbstractContextManager[None]:
        """Hold the collection for writing; re-entrant in one thread.

        Raises CollectionLocked after `wait_s`.
        """
        ...

    def generation(self) -> int:
        """Counts up with every change that was committed."""
        ...

    def documents(self, where: Filter | None = None) -> list[StoredDocument]:
        """All documents, or those that pass the filter, by path."""
        ...

    def document(self, document_id_or_path: str) -> StoredDocument:
        """One document. Raises UnknownDocument."""
        ...

    def text(self, document_id: str) -> str:
        """The whole text of a document; offsets of chunks and citations point into it."""
        ...

    def parsed(self, document_id: str) -> Document:
        """What the parser made of it: text, sections, pages, metadata."""
        ...

    def chunks(self, document_id: str) -> tuple[Chunk, ...]:
        """Its passages in order."""
        ...

    def sources(self) -> dict[str, Source]:
        """Source of every document by path: one query decides what is unchanged."""
        ...

    def bind(self, embedder_id: str, name: str, dimension: int) -> None:
        """Fix the embedder of a new collection; raises IndexMismatch where another one is fixed already."""
        ...

    def fix_chunking(self, chunking: str) -> None:
        """Cut documents this way from now on, whatever the settings say; see `ingest.settings.chunked`."""
        ...

    def cached_vectors(self, embedder_id: str, keys: Iterable[bytes]) -> dict[bytes, Vectors]:
        """Vectors known for these `embedding_key`s."""
        ...

    def cache_vectors(
        self, embedder_id: str, name: str, dimension: int, vectors: Mapping[bytes, Vectors]
    ) -> None:
        """Keep vectors of an embedder that is not (yet) the collection's: a rebuild's progress."""
        ...

    def replace_document(
        self,
        source: Source,
        document: Document,
        chunks: Sequence[Chunk],
        vectors: Vectors,
        own: Mapping[str, Value | None] | None = None,
    ) -> StoredDocument:
        """Add the document or put it in the place of the one of the same path, in one transaction.

        The user's fields stay as they are, changed by `own` (None takes a field away).
        """
        ...

    def annotate(self, changes: Mapping[str, Mapping[str, Value | None]]) -> tuple[str, ...]:
        """Set and take away the user's fields of documents, by path, at once; returns the paths there are."""
        ...

    def failures(self) -> dict[str, Failure]:
        """Files that could not be read, by path."""
        ...

    def note_failures(self, failed: Iterable[tuple[Source, str]]) -> None:
        """Count a failed try for each of these files; a document that is written forgets its own."""
        ...

    def touch(self, sources: Iterable[Source]) -> None:
        """Note new sizes and times of documents whose content did not change."""
        ...

    def forget(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Remove documents with all that was made of them, at once; returns the paths that were there."""
        ...

    def recut(
        self, embedder_id: str, name: str, dimension: int, pieces: Iterable[tuple[str, str, Sequence[Chunk]]]
    ) -> None:
        """Give every document new chunks (document id, recipe, chunks), vectors from the cache, at once."""
        ...

    def compact(self) -> bool:
        """Publish a new approximate index where a large collection wants one; True where it did."""
        ...

    def status(self) -> StoreStatus:
        """Figures, without loading vectors."""
        ...

    def verify(self) -> Verification:
        """Check every hash and every count."""
        ...

    def close(self) -> None:
        """Release files; further calls fail."""
        ...
