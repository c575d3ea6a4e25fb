"""Documents, their text and passages."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from ingest.types import Chunk, StoredDocument
from service.schemas.filtering import Fields
from service.schemas.wire import CollectionName, Reply, Request, Words, encodable


class TextUpload(Request):
    """`POST /documents` with JSON: a text with its path, or (setting `fetch_urls`) a web page."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"path": "notes/today.md", "text": "# Today\n\nThe server moved to Lyon."}]
        }
    )

    text: Annotated[str, StringConstraints(min_length=1), AfterValidator(encodable)] | None = None
    path: Words | None = Field(
        None,
        description="what the text will be known by; a suffix such as .md decides how it is read",
    )
    url: Annotated[str, StringConstraints(min_length=1, max_length=2000)] | None = Field(
        None, description="a web page instead of text and path; it is known by its URL"
    )
    collection: CollectionName | None = None
    metadata: Fields | None = Field(None, description="fields that come with it, as for PATCH")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.url is None) == (self.text is None) or (self.text is None) != (self.path is None):
            raise ValueError("give text and path, or url alone")
        return self


class DocumentReply(Reply):
    """A document as the index knows it."""

    document_id: str
    path: str
    title: str
    content_hash: str
    characters: int
    chunks: int
    pages: int
    metadata: dict[str, str] = Field(description="what the file says")
    own: dict[str, Any] = Field({}, description="fields that were set; they stand in front of the file's")
    warnings: list[str]
    ingested_at: str

    @classmethod
    def of(cls, document: StoredDocument) -> DocumentReply:
        """From the store's form."""
        return cls.model_validate({name: getattr(document, name) for name in cls.model_fields})


class DocumentsReply(Reply):
    """The documents of a collection, by path."""

    documents: list[DocumentReply]
    collection: str
    total: int


class TextReply(Reply):
    """A document's text, whole, or a window around a span: then `before + passage + after` is that window.

    The window is cut by the service, because offsets are code points and JavaScript slices UTF-16 units.
    """

    document_id: str
    path: str
    title: str
    characters: int
    text: str | None = None
    char_start: int | None = None
    char_end: int | None = None
    before: str | None = None
    passage: str | None = None
    after: str | None = None


class ChunkReply(Reply):
    """One passage of a document."""

    position: int
    text: str
    char_start: int
    char_end: int
    page_first: int | None
    page_last: int | None
    heading_path: list[str]
    tokens: int

    @classmethod
    def of(cls, chunk: Chunk) -> ChunkReply:
        """From the index's form."""
        return cls.model_validate({name: getattr(chunk, name) for name in cls.model_fields})


class ChunksReply(Reply):
    """The passages of a document, in order."""

    document_id: str
    chunks: list[ChunkReply]


class DeletedReply(Reply):
    """What was removed; no later search finds it."""

    document_id: str
    path: str
    deleted: Literal[True] = True
