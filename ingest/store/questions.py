"""What a store is asked in one question: each is put to a reader of the current generation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from ingest.filters import Filter
from ingest.store import Match, Reader, Source, Vectors
from ingest.types import Chunk, Document, StoredDocument


class Whole(Reader, Protocol):
    """A reader that also gives documents as they are stored."""

    def documents(self, where: Filter | None = None) -> list[StoredDocument]:
        """All documents, or those that pass the filter, by path."""
        ...

    def sources(self) -> dict[str, Source]:
        """Sources by path."""
        ...

    def document(self, document_id_or_path: str) -> StoredDocument:
        """One document. Raises UnknownDocument."""
        ...

    def parsed(self, document_id: str) -> Document:
        """What the parser made of it (by id or path). Raises UnknownDocument."""
        ...

    def chunks(self, document_id: str) -> tuple[Chunk, ...]:
        """Its passages in order (by id or path). Raises UnknownDocument."""
        ...


class Questions(ABC):
    """A store that answers single questions by `reading()`; see `ingest.store.Store` for the promises."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[Whole]:
        """One generation for several questions."""

    def generation(self) -> int:
        """The number of the last commit that changed what can be found."""
        with self.reading() as reader:
            return reader.generation

    def nearest(self, vector: Vectors, k: int, where: Filter | None = None) -> list[Match]:
        """The k nearest passages of the current generation."""
        with self.reading() as reader:
            return reader.nearest(vector, k, where)

    def matching(self, terms: Sequence[str], k: int, where: Filter | None = None) -> list[Match]:
        """The k passages of highest BM25 of the current generation."""
        with self.reading() as reader:
            return reader.matching(terms, k, where)

    def documents(self, where: Filter | None = None) -> list[StoredDocument]:
        """All documents, or those that pass the filter, by path."""
        with self.reading() as reader:
            return reader.documents(where)

    def sources(self) -> dict[str, Source]:
        """Sources by path."""
        with self.reading() as reader:
            return reader.sources()

    def document(self, document_id_or_path: str) -> StoredDocument:
        """One document. Raises UnknownDocument."""
        with self.reading() as reader:
            return reader.document(document_id_or_path)

    def text(self, document_id: str) -> str:
        """The whole text of a document (by id or path). Raises UnknownDocument."""
        return self.parsed(document_id).text

    def parsed(self, document_id: str) -> Document:
        """What the parser made of it (by id or path). Raises UnknownDocument."""
        with self.reading() as reader:
            return reader.parsed(document_id)

    def chunks(self, document_id: str) -> tuple[Chunk, ...]:
        """Its passages in order (by id or path). Raises UnknownDocument."""
        with self.reading() as reader:
            return reader.chunks(document_id)
