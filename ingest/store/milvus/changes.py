"""What a write does to the rows. Each function changes the state that it is handed, which its caller commits.

Rows are written before the commit, under the generation to come and a version of their own, so they are seen
by nobody until then. Deletions come after it, and late: `sweep`.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ingest import words
from ingest.errors import IngestError
from ingest.fields import document_facts, merged
from ingest.store import Source, Vectors, writing
from ingest.store.milvus import expressions, side, tables
from ingest.store.milvus.reader import MilvusReader
from ingest.store.milvus.server import Row
from ingest.store.milvus.state import Entry, State, told_text
from ingest.store.milvus.tables import KnowledgeBase
from ingest.store.rows import embedding_key
from ingest.types import Chunk, Document, StoredDocument, Value

#: Documents that die in one write, and dead versions with which a writer waits until they may be deleted: so
#: a state holds fewer than twice as many.
MOST_AT_ONCE = 1000
_PASSAGES = "_p"


def take_embedder(kb: KnowledgeBase, state: State, embedder_id: str, name: str, dimension: int) -> None:
    """Fix the embedder, and make what holds its passages."""
    state.embedder_id, state.embedder_name, state.dimension = embedder_id, name, dimension
    if state.passages is not None:
        state.retired.append((state.passages, time.time()))
    state.passages = tables.stem(state.name) + _PASSAGES + secrets.token_hex(4)
    tables.make_passages(kb.server, state.passages, dimension)


def clear_unfinished(kb: KnowledgeBase, state: State) -> None:
    """Delete the rows of a write that was never committed, so that no generation brings it to light."""
    kb.server.call("delete", kb.records, filter=f'kind in ["document", "text"] and born > {state.generation}')
    if state.passages is not None:
        kb.server.call("delete", state.passages, filter=f"born > {state.generation}")


def sweep(kb: KnowledgeBase, state: State) -> None:
    """Delete what is dead for so long that no reader can want it; waits where too much is dead."""
    grace_s = kb.server.address.grace_s
    if len(state.dead) >= MOST_AT_ONCE:
        time.sleep(max(0.0, state.dead[-1][1] + grace_s - time.time()))
    before = time.time() - grace_s
    due = [dead for dead in state.dead if dead[1] <= before]
    if due:
        versions = tables.listed([version for version, _, _ in due])
        texts = tables.listed([text for _, _, text in due if text >= 0])
        if state.passages is not None:
            kb.server.call("delete", state.passages, filter=f"version in {versions}")
        kb.server.call("delete", kb.records, filter=f'kind == "document" and version in {versions}')
        kb.server.call("delete", kb.records, filter=f'kind == "text" and version in {texts}')
        state.dead = [dead for dead in state.dead if dead not in due]
    for collection, since in [*state.retired]:
        if since <= before:
            kb.server.call("drop_collection", collection)
            kb.server.call("delete", kb.records, filter=f'kind == "document" and born < {state.floor}')
            state.retired.remove((collection, since))


@dataclass(frozen=True, slots=True)
class Put:
    """A document that is to be written."""

    document_id: str
    source: Source
    document: Document
    chunks: Sequence[Chunk]
    vectors: Vectors
    own: Mapping[str, Value | None]  #: changes of the user's fields
    ingested_at: str = ""  #: where it comes from another store


def put(kb: KnowledgeBase, state: State, new: Put, before: Entry | None) -> Entry:
    """Write a document under a new version, in the place of `before`."""
    source, document, chunks = new.source, new.document, new.chunks
    stored = StoredDocument(
        document_id=new.document_id,
        path=source.path,
        title=document.title,
        content_hash=source.content_hash,
        recipe=source.recipe,
        characters=len(document.text),
        chunks=len(chunks),
        pages=len(document.pages),
        metadata=document.metadata,
        warnings=document.warnings,
        ingested_at=new.ingested_at or writing.now(),
        own=merged(before.document.own if before else {}, new.own),
    )
    version = state.next_version
    parts = tables.pieces(told_text(document))
    rows = _passages(state, stored, version, chunks, new.vectors)
    born = state.generation + 1
    entry = Entry(version, born, version, len(parts), sum(map(tables.length, rows)), source, stored)
    texts = [
        tables.record(f"t{version}.{n}", "text", part, version=version, born=born, part=n)
        for n, part in enumerate(parts)
    ]
    head = entry.row()  # before anything is written: it may be too long
    if rows:
        assert state.passages is not None
        kb.server.upsert(state.passages, rows)
    kb.server.upsert(kb.records, texts, most=100)
    kb.server.upsert(kb.records, [head])
    if before is not None:
        bury(state, [before])
    _count(state, entry)
    state.next_version += 1
    state.generation = born
    return entry


def _passages(
    state: State, stored: StoredDocument, version: int, chunks: Sequence[Chunk], vectors: Vectors
) -> list[Row]:
    facts = expressions.known(document_facts(stored))
    rows = [
        tables.passage(
            chunk,
            stored.title,
            vector,
            row=state.next_row + n,
            chunk_id=state.next_chunk + n,
            document=stored.document_id,
            version=version,
            born=state.generation + 1,
            facts=facts,
        )
        for n, (chunk, vector) in enumerate(zip(chunks, vectors, strict=True))
    ]
    state.next_row += len(rows)
    state.next_chunk += len(rows)
    return rows


def _count(state: State, entry: Entry, sign: int = 1) -> None:
    state.documents += sign
    state.chunks += sign * entry.document.chunks
    state.characters += sign * entry.document.characters
    state.words += sign * entry.words


def bury(state: State, entries: Iterable[Entry]) -> None:
    """Take documents away; their rows are deleted later."""
    for entry in entries:
        state.bury(entry.version, entry.text)
        _count(state, entry, -1)


def annotate(
    kb: KnowledgeBase,
    state: State,
    reader: MilvusReader,
    entries: Mapping[str, Entry],
    changed: Mapping[str, Mapping[str, Value | None]],
) -> None:
    """Change the user's fields: passages are written once more, with the same ids and new facts."""
    own = {path: merged(entry.document.own, changed[path]) for path, entry in entries.items()}
    born = state.generation + 1
    for path, entry in entries.items():
        stored = replace(entry.document, own=own[path])
        new = replace(entry, version=state.next_version, born=born, document=stored)
        facts = expressions.known(document_facts(stored))
        rows = []
        for row in reader.rows_of(entry):
            rows.append(
                tables.passage(
                    tables.chunk_of(row),
                    stored.title,
                    np.asarray(row["vector"], np.float32),
                    row=state.next_row,
                    chunk_id=row["chunk_id"],
                    document=stored.document_id,
                    version=new.version,
                    born=born,
                    facts=facts,
                )
            )
            state.next_row += 1
        if rows:
            assert state.passages is not None
            kb.server.upsert(state.passages, rows)
        kb.server.upsert(kb.records, [new.row()])
        state.next_version += 1
        state.bury(entry.version)  # its text goes on under the new version
    if entries:
        state.generation = born


def touch(kb: KnowledgeBase, entries: Mapping[str, Entry], sources: Mapping[str, Source]) -> None:
    """Write size, time and origin of documents into their entries, in place."""
    rows = []
    for path, entry in entries.items():
        new = sources[path]
        source = replace(entry.source, size=new.size, mtime_ns=new.mtime_ns, origin=new.origin)
        rows.append(replace(entry, source=source).row())
    kb.server.upsert(kb.records, rows)


def recut(
    kb: KnowledgeBase,
    state: State,
    reader: MilvusReader,
    embedder: tuple[str, str, int],
    pieces: Iterable[tuple[str, str, Sequence[Chunk]]],
) -> None:
    """Give every document new passages, in a table of their own, with vectors that were cached.

    Raises:
        IndexDamaged: a document is left out, or a vector is missing.
    """
    embedder_id, name, dimension = embedder
    old = {entry.document.document_id: entry for entry in reader.entries()}
    same = embedder_id == state.embedder_id
    take_embedder(kb, state, embedder_id, name, dimension)
    assert state.passages is not None
    born, done = state.generation + 1, 0
    try:
        for document_id, recipe, chunks in pieces:
            entry = old.pop(document_id)
            keys = [embedding_key(chunk, entry.document.title) for chunk in chunks]
            known = reader.known_vectors(keys) if same else {}
            known |= side.cached(kb, embedder_id, [key for key in keys if key not in known])
            if not known.keys() >= set(keys):
                raise tables.damaged(
                    f"vectors of {entry.source.path!r} are missing in the middle of a rebuild"
                )
            stored = replace(entry.document, recipe=recipe, chunks=len(chunks))
            vectors = np.array([known[key] for key in keys], np.float32).reshape(len(keys), dimension)
            rows = _passages(state, stored, state.next_version, chunks, vectors)
            kb.server.upsert(state.passages, rows)
            new = replace(
                entry,
                version=state.next_version,
                born=born,
                words=sum(map(tables.length, rows)),
                source=replace(entry.source, recipe=recipe),
                document=stored,
            )
            kb.server.upsert(kb.records, [new.row()])
            _count(state, entry, -1)
            _count(state, new)
            state.next_version += 1
            done += 1
        if old or done != reader.state.documents:
            raise tables.damaged("a rebuild met more or fewer documents than there are")
    except BaseException:
        with contextlib.suppress(IngestError):  # away: an unused table stays there, and nothing reads it
            kb.server.call("drop_collection", state.passages)
        raise
    state.generation = state.floor = born
    state.words_version = words.VERSION


def rebuild_words(kb: KnowledgeBase, state: State) -> None:
    """Cut the words of all passages anew (`words.VERSION` changed), in place."""
    reader = MilvusReader(kb, state)
    total = 0
    for entry in reader.entries():
        facts = expressions.known(document_facts(entry.document))
        rows = [
            tables.passage(
                tables.chunk_of(row),
                entry.document.title,
                np.asarray(row["vector"], np.float32),
                row=row["row"],
                chunk_id=row["chunk_id"],
                document=row["document"],
                version=row["version"],
                born=entry.born,
                facts=facts,
            )
            for row in reader.rows_of(entry)
        ]
        if rows:
            assert state.passages is not None
            kb.server.upsert(state.passages, rows)
        counted = replace(entry, words=sum(map(tables.length, rows)))
        kb.server.upsert(kb.records, [counted.row()])
        total += counted.words
    state.words, state.words_version = total, words.VERSION
