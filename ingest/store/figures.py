"""What is read of the tables outside a search: the figures of a collection, and vectors by key."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ingest.store import Vectors
from ingest.store.rows import one
from ingest.store.schema import checksum, damaged


def cached_vectors(
    connection: sqlite3.Connection, file: Path, embedder_id: str, keys: Iterable[bytes]
) -> dict[bytes, Vectors]:
    """Vectors known for these keys; one that does not match its checksum raises IndexDamaged."""
    found: dict[bytes, Vectors] = {}
    number = one(connection, "SELECT number FROM embedders WHERE embedder_id = ?", embedder_id)
    for key in keys:
        row = connection.execute(
            "SELECT key, vector, checksum FROM vectors WHERE embedder = ? AND key = ?", (number, key)
        ).fetchone()
        if row is not None:
            if checksum(*row[:2]) != row[2]:
                raise damaged(file, "a vector does not match its checksum")
            found[key] = np.frombuffer(row[1], np.float32)
    return found


def figures(connection: sqlite3.Connection) -> tuple[Any, ...]:
    """What `status` says of the tables."""
    row: tuple[Any, ...] = connection.execute(
        "SELECT c.name, c.generation, e.embedder_id, e.name, e.dimension, c.documents, c.chunks,"
        " c.created_at, (SELECT coalesce(sum(characters), 0) FROM documents), c.chunking"
        " FROM collection c LEFT JOIN embedders e ON e.number = c.embedder"
    ).fetchone()
    return row
