"""What the service needs of `ingest`: collections by name, their search, and a way in for uploads.

`Library` is the protocol that routes and conductor code against; `service.shelves` implements it over real
collections, tests over memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ingest.embed import Embedder
from ingest.filters import Filter
from ingest.types import Chunk, FileReport, StoredDocument, Value
from service.answer import Source


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """One collection in figures."""

    name: str
    documents: int
    chunks: int
    characters: int
    generation: int
    embedder: str | None  #: None until something was ingested
    bytes_on_disk: int
    chunking: str  #: how documents are cut, TOKENS-OVERLAP
    problem: str | None = None  #: why it cannot be used; its figures are 0 then


@dataclass(frozen=True, slots=True)
class Upload:
    """One file or text on its way in."""

    path: str  #: what it will be known by within the collection
    file: Path  #: where its bytes wait
    url: str | None = None  #: a web page that was fetched: it is known by this, and `path` names its file
    own: Mapping[str, Value | None] | None = None  #: fields that come with it; None takes one away

    @property
    def known_by(self) -> str:
        """What the document's path will be."""
        return self.url or self.path


OnFile = Callable[[FileReport], None]


class Library(Protocol):
    """The collections of one home. Calls block; all are safe from several threads."""

    def collections(self) -> list[CollectionInfo]:
        """All collections, by name."""
        ...

    def collection(self, collection: str) -> CollectionInfo:
        """One collection in figures. Raises UnknownCollection."""
        ...

    def create(
        self, collection: str, embedder: str | None = None, chunking: str | None = None
    ) -> CollectionInfo:
        """Make an empty collection; what is None is as the settings say. Its embedder and cut are fixed now.

        Raises:
            NameTaken: there is one of that name.
            InvalidName, SettingsError, InvalidRequest: of the name, the cut, the embedder; nothing was made.
            EmbedderError: the embedder's weights are missing or damaged; nothing was made.
        """
        ...

    def delete(self, collection: str) -> None:
        """Remove a collection with its documents, originals and pictures; it does not come back.

        Raises:
            UnknownCollection: no collection of that name.
            CollectionLocked: somebody is writing to it; nothing was removed.
        """
        ...

    def export(self, collection: str, target: Path) -> None:
        """Write a collection as it is now into one file, for `python -m ingest import`.

        Raises:
            UnknownCollection, StorageFull: no file was left.
        """
        ...

    def embedders(self) -> list[str]:
        """What a new collection can be made with: the usual embedder first, then the others by name."""
        ...

    def source(self, collection: str) -> Source:
        """Search and similarity; an empty `Source` for the default collection before the first ingest.

        Raises:
            UnknownCollection: no collection of that name.
        """
        ...

    def documents(self, collection: str, where: Filter | None = None) -> list[StoredDocument]:
        """Its documents, or those that pass the filter, by path."""
        ...

    def document(self, collection: str, document_id: str) -> StoredDocument:
        """One document. Raises UnknownDocument."""
        ...

    def text(self, collection: str, document_id: str) -> str:
        """The stored text that citations point into. Raises UnknownDocument."""
        ...

    def chunks(self, collection: str, document_id: str) -> Sequence[Chunk]:
        """Its passages in order. Raises UnknownDocument."""
        ...

    def failing(self) -> Mapping[str, str]:
        """What kept collections from being opened when they were last wanted, by name."""
        ...

    def original(self, collection: str, document_id: str) -> Path:
        """The file that a document was made of. Raises UnknownDocument, NoOriginal."""
        ...

    def page_picture(self, collection: str, document_id: str, page: int) -> Path:
        """A page of it as a PNG. Raises UnknownDocument, NoOriginal, UnknownName, UnreadablePage."""
        ...

    def annotate(
        self, collection: str, document_id: str, changes: Mapping[str, Value | None]
    ) -> StoredDocument:
        """Set fields of a document (None takes one away); searches that filter see them at once.

        Raises:
            UnknownDocument, InvalidField: nothing was changed.
        """
        ...

    def forget(self, collection: str, document_id: str) -> None:
        """Remove a document; the next search no longer finds it. Raises UnknownDocument."""
        ...

    def add(
        self,
        collection: str,
        uploads: Sequence[Upload],
        on_file: OnFile,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Ingest files, reporting each, into a collection that is made if need be; bad files stop nothing.

        Once `cancelled` says so, no further file is begun; what was reported as added stays.
        """
        ...

    def embedder(self) -> Embedder:
        """The embedder of new collections, shared with those that have the same one.

        Raises:
            EmbedderError: it is not installed; names the command that fetches it.
        """
        ...

    def warm(self) -> None:
        """Load what the first question would otherwise wait for.

        Raises:
            EmbedderError: the embedder's weights are missing or damaged.
        """
        ...

    def close(self) -> None:
        """Release files and processes."""
        ...
