"""`verify` on Milvus: every checksum, every count, and whether passages, words and facts say the same."""

from __future__ import annotations

from collections import Counter

import numpy as np

from ingest import words
from ingest.errors import IngestError
from ingest.fields import document_facts
from ingest.store import Verification
from ingest.store.milvus import expressions, tables
from ingest.store.milvus.reader import MilvusReader
from ingest.store.milvus.state import Entry, State
from ingest.store.milvus.tables import KnowledgeBase

_MOST = 100  #: problems that are told


def verify(kb: KnowledgeBase, state: State) -> Verification:
    """What is wrong with the collection of this state, as sentences."""
    reader = MilvusReader(kb, state)
    problems: list[str] = []
    documents = chunks = 0
    keys: set[str] = set()
    words_total = 0
    versions: set[int] = set()
    try:
        entries = reader.entries()
    except IngestError as error:
        return Verification(0, 0, 0, (str(error),))
    for entry in entries:
        documents += 1
        versions.add(entry.version)
        try:
            found, total = _check(reader, entry)
            problems += found
            rows = reader.rows_of(entry)
        except IngestError as error:
            problems.append(str(error))
            continue
        chunks += len(rows)
        words_total += total
        keys |= {row["key"] for row in rows}
    if state.passages is not None:
        held = Counter(
            row["version"] for row in kb.server.rows(state.passages, state.visible, ["row", "version"])
        )
        for version in sorted(set(held) - versions):
            problems.append(f"{held[version]} passages of version {version} belong to no document")
    for what, counted, told in (("passages", chunks, state.chunks), ("words", words_total, state.words)):
        if counted != told and not problems:
            problems.append(f"{counted} {what}, should be {told}")
    return Verification(documents, chunks, len(keys), tuple(problems[:_MOST]))


def _check(reader: MilvusReader, entry: Entry) -> tuple[list[str], int]:
    """What is wrong with one document, and how many words its passages have."""
    path = entry.source.path
    text = reader.parsed(entry.document.document_id).text
    problems = (
        [] if len(text) == entry.document.characters else [f"document {path!r}: its text has another length"]
    )
    facts, total = expressions.known(document_facts(entry.document)), 0
    rows = reader.rows_of(entry)
    if rows:
        known = {row["row"]: row for row in reader.facts_of(entry)}
    for row in rows:
        chunk = tables.chunk_of(row)
        where = f"document {path!r}, passage {chunk.position}"
        total += tables.length(row)
        if chunk.text != text[chunk.char_start : chunk.char_end]:
            problems.append(f"{where}: it is not a slice of the text")
        if abs(float(np.linalg.norm(np.asarray(row["vector"], np.float64))) - 1.0) >= 1e-3:
            problems.append(f"{where}: its vector is not of unit length")
        if row["document"] != entry.document.document_id:
            problems.append(f"{where}: it says that it is of another document")
        if reader.state.words_version == words.VERSION:
            terms = words.indexed(chunk.embedding_text(entry.document.title))
            same = row["terms"] == tables.spaced(terms)
            if not same or known[row["row"]]["codes"] != " ".join(map(tables.code, terms)):
                problems.append(f"{where}: its words are not those of its text")
        if known[row["row"]]["facts"] != facts:
            problems.append(f"{where}: what filters compare is not what is known about the document")
    return problems, total
