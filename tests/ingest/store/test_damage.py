"""Damage is found or harmless, and never served."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from ingest.errors import IngestError
from ingest.store.schema import checksum
from ingest.store.sqlite_faiss import SqliteFaissStore
from tests.ingest.making import EMBEDDER, TEXT, everything, new_store, put


def test_flipped_bits_are_found_or_harmless_never_served(tmp_path: Path) -> None:
    """Oracle: what was read before.

    After a flip, verify finds it, or a read raises, or everything reads the same.
    """
    with new_store(tmp_path) as store:
        for name in "abc":
            put(store, name, f"{name} {TEXT}")
        before = everything(store)
        query = EMBEDDER.encode_queries(["tortoise garden"])[0]
        near = store.nearest(query, 99)
    content = store.file.read_bytes()
    random.seed(20261122)
    bits = [random.randrange(len(content) * 8) for _ in range(250)]
    found = harmless = 0
    for bit in bits:
        store.file.write_bytes(flipped(content, bit))
        try:
            with SqliteFaissStore.open(store.folder) as damaged:
                problems = damaged.verify().problems
                if not problems:
                    assert everything(damaged) == before, bit
                    assert damaged.nearest(query, 99) == near, bit
                    harmless += 1
                else:
                    found += 1
                    served(damaged, before)
        except IngestError:
            found += 1
    assert found > 25 and harmless > 25  # both outcomes were met, or this test proves nothing


def served(store: SqliteFaissStore, before: dict[str, tuple[object, ...]]) -> None:
    """Whatever a damaged store still hands out is what was stored; everything else raises."""
    for path, (document, parsed, chunks, _) in before.items():
        for read, expected in ((store.document, document), (store.parsed, parsed), (store.chunks, chunks)):
            with contextlib.suppress(IngestError):
                assert read(path) == expected


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


TAMPERING = {
    "text": "UPDATE texts SET text = replace(text, 'tortoise', 'hare')",
    "passage": "UPDATE chunks SET text = replace(text, 'tortoise', 'hare')",
    "passage offset": "UPDATE chunks SET char_start = char_start + 1 WHERE position = 1",
    "passage of another document": "UPDATE chunks SET document = 2, position = position + 100 WHERE document "
    "= 1",
    "lost passage": "DELETE FROM chunks WHERE chunk_id = 2",
    "lost words": "DELETE FROM words WHERE rowid = 2",
    "other words": "UPDATE words SET terms = 'hare' WHERE rowid = 2",
    "lost text": "DELETE FROM texts WHERE document = 1",
    "path": "UPDATE documents SET path = 'z' WHERE number = 1",
    "swapped vectors": "UPDATE chunks SET vector_id = CASE vector_id WHEN 1 THEN 2 ELSE 1 END WHERE "
    "vector_id IN (1, 2)",
    "vector": "UPDATE vectors SET vector = (SELECT vector FROM vectors WHERE vector_id = 3) WHERE vector_id "
    "= 1",
    "short vector": "UPDATE vectors SET vector = substr(vector, 1, 100) WHERE vector_id = 1",
    "count": "UPDATE collection SET chunks = chunks + 1",
    "keyword index": "DELETE FROM words_data WHERE id > 10",
}


@pytest.mark.parametrize("how", TAMPERING)
def test_verify_finds_what_does_not_agree(tmp_path: Path, how: str) -> None:
    with new_store(tmp_path) as store:
        put(store, "a", TEXT)
        put(store, "b", "b " + TEXT)
    connection = sqlite3.connect(store.file)
    connection.execute(TAMPERING[how])
    connection.commit()
    connection.close()
    with SqliteFaissStore.open(store.folder) as store:
        assert store.verify().problems


def test_a_vector_that_is_no_direction_is_found_even_with_a_right_checksum(tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        put(store, "a", TEXT)
    connection = sqlite3.connect(store.file)
    key, blob = connection.execute("SELECT key, vector FROM vectors WHERE vector_id = 1").fetchone()
    blob = np.full(len(blob) // 4, np.nan, np.float32).tobytes()
    connection.execute(
        "UPDATE vectors SET vector = ?, checksum = ? WHERE vector_id = 1", (blob, checksum(key, blob))
    )
    connection.commit()
    connection.close()
    with SqliteFaissStore.open(store.folder) as store:
        assert any("unit length" in p for p in store.verify().problems)


def test_truncated_files_are_refused_or_found(tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        put(store, "a", TEXT * 20)
        before = everything(store)
    content = store.file.read_bytes()
    for part in range(0, 100, 7):
        store.file.write_bytes(content[: len(content) * part // 100])
        try:
            with SqliteFaissStore.open(store.folder) as damaged:
                assert damaged.verify().problems
                served(damaged, before)
        except IngestError:
            pass
