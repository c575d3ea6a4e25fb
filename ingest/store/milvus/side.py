"""What stands beside the documents and belongs to no generation: files that failed, vectors of a rebuild."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ingest.store import Failure, Source, Vectors
from ingest.store.milvus.tables import (
    RECORD_FIELDS,
    KnowledgeBase,
    body_of,
    damaged,
    listed,
    path_key,
    record,
)

_BATCH = 500
_FAILURE, _VECTOR = "failure", "vector"


def failures(kb: KnowledgeBase) -> dict[str, Failure]:
    """Files that could not be read, by path."""
    found = {}
    for row in kb.server.rows(kb.records, f'kind == "{_FAILURE}"', RECORD_FIELDS):
        path, content_hash, recipe, size, mtime_ns, tries, reason = json.loads(body_of(row))
        found[path] = Failure(Source(path, content_hash, recipe, size, mtime_ns), tries, reason)
    return found


def count_failures(kb: KnowledgeBase, failed: Iterable[tuple[Source, str]]) -> None:
    """One more try that failed for each; other bytes or another recipe start from one."""
    known, rows = failures(kb), []
    for source, reason in failed:
        before = known.get(source.path)
        same = before is not None and (before.source.content_hash, before.source.recipe) == (
            source.content_hash,
            source.recipe,
        )
        tries = before.tries + 1 if before is not None and same else 1
        told = [
            source.path,
            source.content_hash,
            source.recipe,
            source.size,
            source.mtime_ns,
            tries,
            reason[:2000],
        ]
        body = json.dumps(told, ensure_ascii=False)
        rows.append(record(f"f{path_key(source.path)}", _FAILURE, body, path=source.path))
    kb.server.upsert(kb.records, rows)


def forget_failures(kb: KnowledgeBase, paths: Sequence[str]) -> None:
    """No longer count tries of these files."""
    for start in range(0, len(paths), _BATCH):
        keys = [f"f{path_key(path)}" for path in paths[start : start + _BATCH]]
        kb.server.call("delete", kb.records, ids=keys)


def _key(embedder_id: str, key: bytes) -> str:
    return f"v{path_key(embedder_id)}{key.hex()}"


def cache(kb: KnowledgeBase, embedder_id: str, vectors: Mapping[bytes, Vectors]) -> None:
    """Keep vectors by the hash of what was embedded."""
    rows = []
    for key, vector in vectors.items():
        body = base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()
        rows.append(record(_key(embedder_id, key), _VECTOR, body))
    kb.server.upsert(kb.records, rows)


def cached(kb: KnowledgeBase, embedder_id: str, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
    """Those of them that are kept. Raises IndexDamaged."""
    found: dict[bytes, Vectors] = {}
    for start in range(0, len(keys), _BATCH):
        wanted = {_key(embedder_id, key): key for key in keys[start : start + _BATCH]}
        for row in kb.server.rows(kb.records, f"key in {listed(list(wanted))}", RECORD_FIELDS):
            try:
                found[wanted[row["key"]]] = np.frombuffer(base64.b64decode(body_of(row)), "<f4")
            except ValueError as error:
                raise damaged(f"the vector {row['key']!r} cannot be read") from error
    return found


def drop_cache(kb: KnowledgeBase) -> None:
    """Forget the vectors that were kept."""
    kb.server.call("delete", kb.records, filter=f'kind == "{_VECTOR}"')
