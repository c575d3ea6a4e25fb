"""The nouns of the index: what a parser yields, what the store keeps, what a search returns.

All offsets are code points into the document's stored text, half-open `[char_start, char_end)`; pages count
from 1. A chunk's text is always `document.text[char_start:char_end]`, byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

SearchMode = Literal["hybrid", "dense", "keyword"]
FileStatus = Literal["added", "updated", "unchanged", "forgotten", "skipped", "failed"]
Scalar = str | int | float
#: What the user can set a field to; a date is a text in ISO 8601. See `ingest.fields`.
Value = Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of text below one heading; sections are ordered, do not overlap and cover the whole text."""

    heading_path: tuple[str, ...]  #: titles from the outermost heading inwards; () before the first one
    char_start: int
    char_end: int
    kind: Literal["text", "table", "code"] = "text"


@dataclass(frozen=True, slots=True)
class Page:
    """Where one page of a paged format stands in the text."""

    number: int  #: counts from 1
    char_start: int
    char_end: int


@dataclass(frozen=True, slots=True)
class Document:
    """What a parser makes of one file: its whole text with the structure that citations need."""

    text: str
    title: str
    sections: tuple[Section, ...]
    pages: tuple[Page, ...] = ()  #: empty where the format has no pages
    #: author, created, language, ... whatever the file says
    metadata: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()  #: what could not be read; kept in the report and shown by `show`
    parser: str = ""  #: name and version, part of the recipe


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage: the unit that is embedded, searched, read by the generator and cited."""

    position: int  #: 0, 1, 2 ... within its document
    text: str
    char_start: int
    char_end: int
    page_first: int | None
    page_last: int | None
    heading_path: tuple[str, ...]
    tokens: int  #: of `embedding_text`, counted by the embedder's own tokenizer
    #: set by the chunker where title and heading path had to be shortened, or a table's header goes with them
    prefix: str | None = None

    def embedding_text(self, title: str) -> str:
        """What the embedder reads: title and headings, then the passage. Citations have only the passage."""
        prefix = heading_prefix(title, self.heading_path) if self.prefix is None else self.prefix
        return f"{prefix}\n{self.text}" if prefix else self.text


def heading_prefix(title: str, heading_path: tuple[str, ...]) -> str:
    """Title and heading path on one line, the title not twice."""
    return " > ".join(part for part in (title, *(h for h in heading_path if h != title)) if part)


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as the store knows it (its text is fetched apart, with `Store.text`)."""

    document_id: str  #: opaque and stable: derived from collection and path, never from the content
    path: str
    title: str
    content_hash: str  #: "sha256:..." of the file's bytes
    recipe: str  #: versions of parser, chunker and embedder that made it
    characters: int
    chunks: int
    pages: int
    metadata: dict[str, str]
    warnings: tuple[str, ...]
    ingested_at: str  #: ISO 8601, UTC
    #: fields that the user set; they outlive a changed file, and stand in front of `metadata`
    own: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that a search found. Scores: higher is better, always."""

    chunk_id: int
    document_id: str
    path: str
    title: str
    position: int
    text: str
    char_start: int
    char_end: int
    page_first: int | None
    page_last: int | None
    heading_path: tuple[str, ...]
    score: float  #: in [0, 1]; what the list is ordered by
    dense_score: float | None  #: cosine, None where the dense arm did not look or did not find
    keyword_score: float | None  #: BM25 turned higher-is-better, None likewise

    @classmethod
    def of(cls, document: StoredDocument, chunk: Chunk, chunk_id: int, score: float = 0.0) -> Hit:
        """A stored passage that neither arm has scored."""
        return cls(
            chunk_id=chunk_id,
            document_id=document.document_id,
            path=document.path,
            title=document.title,
            position=chunk.position,
            text=chunk.text,
            char_start=chunk.char_start,
            char_end=chunk.char_end,
            page_first=chunk.page_first,
            page_last=chunk.page_last,
            heading_path=chunk.heading_path,
            score=score,
            dense_score=None,
            keyword_score=None,
        )


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits of one query, all from one generation of the index."""

    hits: tuple[Hit, ...]
    generation: int
    search_ms: float


@dataclass(frozen=True, slots=True)
class FileReport:
    """What became of one file in a run."""

    path: str
    status: FileStatus
    reason: str = ""  #: why it failed, or what could not be read of it
    chunks: int = 0
    pages: int = 0


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one run did. `failed` non-empty means exit code 1."""

    files: tuple[FileReport, ...]
    parsed: int
    embedded: int  #: chunks that went through the embedder (a cached vector is not embedded again)
    pages: int
    seconds: float
    collection: str
    generation: int
    cancelled: bool = False  #: stopped on request; what is in `files` was done and stays

    def count(self, status: FileStatus) -> int:
        """Number of files that ended so."""
        return sum(f.status == status for f in self.files)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that the walk found, with the path it is known by (see `ingest.walk.identity`)."""

    path: str
    file: Path  #: where it is; only its name where `remote`
    size: int
    mtime_ns: int = 0
    remote: bool = False  #: `path` is an address, see `ingest.remote`
