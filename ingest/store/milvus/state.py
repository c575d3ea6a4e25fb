"""The state of a knowledge base in Milvus: one row, which commits a write; and the entries of documents."""

from __future__ import annotations

import base64
import json
import time
import zlib
from dataclasses import asdict, dataclass, field
from typing import Any

from ingest.errors import SchemaTooNew
from ingest.store import Origin, Source
from ingest.store.milvus.server import Row
from ingest.store.milvus.tables import body_of, damaged, listed, record
from ingest.types import Document, Page, Section, StoredDocument, Value

#: Raised when rows of this program could not be read by an older one.
SCHEMA = 1
KEY = "state"
_LONGEST_PLAIN = 60_000


@dataclass(slots=True)
class State:
    """What is current."""

    name: str
    created_at: str
    words_version: int
    schema: int = SCHEMA
    generation: int = 0
    floor: int = 0  #: what was born before it is gone; a rebuild raises it
    embedder_id: str | None = None
    embedder_name: str | None = None
    dimension: int | None = None
    chunking: str | None = None
    passages: str | None = None  #: the Milvus collection that holds them
    documents: int = 0
    chunks: int = 0
    characters: int = 0
    words: int = 0  #: terms of all passages together; BM25 weighs by their mean
    next_row: int = 1
    next_chunk: int = 1
    next_version: int = 1
    #: What is gone and not yet deleted: version, when it went (seconds since 1970), its text's version or -1.
    dead: list[tuple[int, float, int]] = field(default_factory=list)
    #: Milvus collections that are gone and not yet dropped, and since when.
    retired: list[tuple[str, float]] = field(default_factory=list)

    @property
    def visible(self) -> str:
        """The condition that rows of this generation fulfil."""
        dead = f" and version not in {listed([version for version, _, _ in self.dead])}" if self.dead else ""
        return f"born >= {self.floor} and born <= {self.generation}{dead}"

    def bury(self, version: int, text: int = -1) -> None:
        """Say that a version is gone, its text as well where `text` names it."""
        self.dead.append((version, round(time.time(), 3), text))

    def row(self) -> Row:
        """The row that makes this state the current one."""
        return record(KEY, KEY, _packed(asdict(self)))


def _packed(told: dict[str, Any]) -> str:
    """JSON, compressed where it might outgrow a field: very many warnings, or dead versions."""
    plain = json.dumps(told, ensure_ascii=False)
    if len(plain.encode()) <= _LONGEST_PLAIN:
        return plain
    return "z" + base64.b64encode(zlib.compress(plain.encode())).decode()


def _unpacked(body: str) -> dict[str, Any]:
    if body.startswith("z"):
        body = zlib.decompress(base64.b64decode(body[1:])).decode()
    told: dict[str, Any] = json.loads(body)
    return told


def read_state(row: Row) -> State:
    """The state that its row says. Raises SchemaTooNew, IndexDamaged."""
    told: dict[str, Any] = _unpacked(body_of(row))
    if (schema := told.get("schema", 0)) > SCHEMA:
        raise SchemaTooNew(
            f"The collection {told.get('name')!r} in Milvus has schema {schema}, this Lorebase knows "
            f"{SCHEMA}. Install the newer Lorebase that wrote it."
        )
    if schema != SCHEMA:
        raise damaged(f"it has schema {schema!r}, which no released Lorebase wrote")
    try:
        told["dead"] = [tuple(dead) for dead in told.get("dead", [])]
        told["retired"] = [tuple(retired) for retired in told.get("retired", [])]
        return State(**told)
    except TypeError as error:  # a field too many, or one without a default is missing
        raise damaged(f"its state is not that of schema {SCHEMA} ({error})") from error


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a document beside its text."""

    version: int
    born: int
    text: int  #: the version under which its text stands: that of its last change, not of its fields
    parts: int  #: rows of its text
    words: int  #: terms of its passages
    source: Source
    document: StoredDocument

    def row(self) -> Row:
        """The record of this version."""
        known = self.document
        body = {
            "version": self.version,
            "text": self.text,
            "parts": self.parts,
            "words": self.words,
            "born": self.born,
            "source": [self.source.path, self.source.content_hash, self.source.recipe, self.source.size],
            "mtime_ns": self.source.mtime_ns,
            "origin": self.source.origin,
            "document_id": known.document_id,
            "title": known.title,
            "characters": known.characters,
            "chunks": known.chunks,
            "pages": known.pages,
            "metadata": known.metadata,
            "warnings": known.warnings,
            "ingested_at": known.ingested_at,
            "own": known.own,
        }
        return record(
            f"d{self.version}",
            "document",
            _packed(body),
            version=self.version,
            born=self.born,
            path=known.path,
            document=known.document_id,
        )


def read_entry(row: Row) -> Entry:
    """The entry that a record says. Raises IndexDamaged."""
    told = _unpacked(body_of(row))
    path, content_hash, recipe, size = told["source"]
    if told["version"] != row["version"]:
        raise damaged(f"the entry of {path!r} is not where it belongs")
    origin: Origin = "upload" if told["origin"] == "upload" else "file"
    own: dict[str, Value] = {k: tuple(v) if isinstance(v, list) else v for k, v in told["own"].items()}
    return Entry(
        version=told["version"],
        born=told["born"],
        text=told["text"],
        parts=told["parts"],
        words=told["words"],
        source=Source(path, content_hash, recipe, size, told["mtime_ns"], origin),
        document=StoredDocument(
            document_id=told["document_id"],
            path=path,
            title=told["title"],
            content_hash=content_hash,
            recipe=recipe,
            characters=told["characters"],
            chunks=told["chunks"],
            pages=told["pages"],
            metadata=told["metadata"],
            warnings=tuple(told["warnings"]),
            ingested_at=told["ingested_at"],
            own=own,
        ),
    )


def told_text(document: Document) -> str:
    """A parsed document as it is kept; title, metadata and warnings are in its entry."""
    sections = [[s.heading_path, s.char_start, s.char_end, s.kind] for s in document.sections]
    pages = [[p.number, p.char_start, p.char_end] for p in document.pages]
    return json.dumps([document.parser, sections, pages, document.text], ensure_ascii=False)


def parsed(told: str, document: StoredDocument) -> Document:
    """The document that `told_text` kept."""
    parser, sections, pages, text = json.loads(told)
    return Document(
        text=text,
        title=document.title,
        sections=tuple(Section(tuple(h), start, end, kind) for h, start, end, kind in sections),
        pages=tuple(Page(*page) for page in pages),
        metadata=document.metadata,
        warnings=document.warnings,
        parser=parser,
    )
