"""What an adapter was trained on, written beside its weights, and whether that still stands.

`trained_on.json` names the collection and each document, by id, path and content hash, whose questions were
trained on. An adapter whose documents are no longer there as they were is stale: it answers from what was
deleted or has changed. Nothing is told to anybody when a document goes; who lists adapters compares.

Imports no more than the index needs to list its documents, so listing stays quick.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ingest.collections import open_collection
from ingest.errors import IngestError, UnknownCollection
from ingest.types import StoredDocument
from model import shelf
from model.shelf import TRAINED_ON, Shelved

#: Paths that a remark names before it counts the rest.
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Source:
    """A document as it was when it was trained on."""

    document_id: str
    path: str
    content_hash: str


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """Where an adapter has its knowledge from."""

    collection: str
    kind: str  #: closed-book
    documents: tuple[Source, ...]

    def write(self, folder: Path) -> None:
        """Put it beside the adapter's weights."""
        new = folder / f".{TRAINED_ON}.new"
        new.write_text(json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        new.replace(folder / TRAINED_ON)


def of(documents: Iterable[StoredDocument], collection: str, kind: str) -> TrainedOn:
    """What to write for these documents."""
    sources = (Source(d.document_id, d.path, d.content_hash) for d in documents)
    return TrainedOn(collection, kind, tuple(sources))


def read(folder: Path) -> TrainedOn | None:
    """What an adapter was trained on; None where its folder does not say (or not legibly)."""
    try:
        told = json.loads((folder / TRAINED_ON).read_text(encoding="utf-8"))
        sources = tuple(Source(**document) for document in told["documents"])
        return TrainedOn(str(told["collection"]), str(told["kind"]), sources)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remark(told: TrainedOn, documents: Sequence[StoredDocument] | None) -> str | None:
    """Why what was trained on no longer stands; None where it does.

    Args:
        told: what was trained on.
        documents: those of its collection now; None: the collection is gone.
    """
    if documents is None:
        return f"its collection {told.collection!r} was deleted"
    now = {d.document_id: d.content_hash for d in documents}
    gone = [s.path for s in told.documents if s.document_id not in now]
    changed = [s.path for s in told.documents if now.get(s.document_id, s.content_hash) != s.content_hash]
    parts = [f"{_listed(paths)} {what}" for paths, what in ((gone, "deleted"), (changed, "changed")) if paths]
    return f"since it was trained: {'; '.join(parts)}" if parts else None


def stale(folder: Path, home: Path) -> str | None:
    """Why the adapter in `folder` is stale; None where it is not, or does not say what it was trained on."""
    told = read(folder)
    if told is None:
        return None
    try:
        with open_collection(home, told.collection) as store:
            return remark(told, store.documents())
    except UnknownCollection:
        return remark(told, None)
    except IngestError as error:
        return f"its collection {told.collection!r} cannot be read: {error}"


def current(
    home: Path, collection: str, base: str, kind: str = "closed-book"
) -> list[tuple[Shelved, str | None]]:
    """The adapters that were trained on a collection for a base, latest first, each with why it is stale."""
    found = [
        (adapter, stale(adapter.folder, home))
        for adapter in shelf.adapters(home)
        if adapter.base == base
        and (told := read(adapter.folder)) is not None
        and (told.collection, told.kind) == (collection, kind)
    ]
    return sorted(found, key=lambda pair: -(pair[0].folder / TRAINED_ON).stat().st_mtime)


def _listed(paths: Sequence[str]) -> str:
    shown = ", ".join(paths[:SHOWN])
    return shown + (f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else "")
