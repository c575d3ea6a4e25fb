"""Lives of a collection for the durability tests: steps with what must be true after each, and how to look."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ingest.store import Source
from ingest.store.rows import embedding_key
from ingest.store.sqlite_faiss import SqliteFaissStore
from ingest.types import Chunk
from ingest.words import terms
from tests.fakes import HashEmbedder
from tests.ingest.making import EMBEDDER, make_chunks, make_document, new_store

NIGHTLY = "LOREBASE_NIGHTLY" in os.environ
OTHER = HashEmbedder(dimension=16, name="other")
BY_ID = {e.id: e for e in (EMBEDDER, OTHER)}
SMALLEST_LARGE = 256  # passages from which on an approximate index can be had

#: Path -> text, and the embedder's name; None before the collection exists.
State = tuple[dict[str, str], str] | None


@dataclass(frozen=True)
class Step:
    """Something that is done to a collection, and the state that it promises once it has returned."""

    name: str
    do: Callable[[SqliteFaissStore], object]
    after: State


def put(store: SqliteFaissStore, path: str, text: str, embedder: HashEmbedder = EMBEDDER) -> None:
    document, chunks = make_document(text), make_chunks(text)
    vectors = embedder.encode_passages([c.embedding_text(document.title) for c in chunks])
    store.bind(embedder.id, embedder.name, embedder.dimension)
    store.replace_document(
        Source(path, f"sha256:{text}", "r", len(text), 1), document, chunks, vectors.astype(np.float32)
    )


def move(store: SqliteFaissStore, embedder: HashEmbedder) -> None:
    """A rebuild: vectors of another embedder are cached, then all passages are exchanged."""
    pieces = [(d.document_id, "r", store.chunks(d.document_id)) for d in store.documents()]
    texts = {embedding_key(c, "Title"): c.embedding_text("Title") for _, _, cs in pieces for c in cs}
    vectors = dict(zip(texts, embedder.encode_passages(list(texts.values())), strict=True))
    store.cache_vectors(embedder.id, embedder.name, embedder.dimension, vectors)
    store.recut(embedder.id, embedder.name, embedder.dimension, pieces)


def small_life(times: int = 1) -> list[Step]:
    """Ingest, replace, the same again, delete, rebuild; `times` makes the texts longer."""
    a, b = "alpha tortoise in the garden " * times, "beta R123-78 乌龟 " * times
    c = "gamma the tortoise again, and longer " * 3 * times
    hash_ = EMBEDDER.name
    return [
        Step("add a", lambda s: put(s, "a", a), ({"a": a}, hash_)),
        Step("add b", lambda s: put(s, "b", b), ({"a": a, "b": b}, hash_)),
        Step("replace a", lambda s: put(s, "a", c), ({"a": c, "b": b}, hash_)),
        Step("same a again", lambda s: put(s, "a", c), ({"a": c, "b": b}, hash_)),
        Step(
            "touch",
            lambda s: s.touch([Source("a", f"sha256:{c}", "r", len(c), 99)]),
            ({"a": c, "b": b}, hash_),
        ),
        Step("forget b", lambda s: s.forget(["b"]), ({"a": c}, hash_)),
        Step("rebuild", lambda s: move(s, OTHER), ({"a": c}, OTHER.name)),
        Step("add b again", lambda s: put(s, "b", b, OTHER), ({"a": c, "b": b}, OTHER.name)),
    ]


def long_text(seed: int, passages: int) -> str:
    return "".join(f"passage {n} of {seed} says {n * seed % 17}".ljust(40) for n in range(passages))


def large_life(made: dict[str, str]) -> list[Step]:
    """What publishes index snapshots, beginning with a collection of these documents that has one."""
    new = long_text(7, 60)
    less = {path: text for path, text in made.items() if path != "0"}
    hash_ = EMBEDDER.name
    return [
        Step("forget 0", lambda s: s.forget(["0"]), (less, hash_)),
        Step("compact", lambda s: s.compact(), (less, hash_)),
        Step("add new", lambda s: put(s, "new", new), (less | {"new": new}, hash_)),
        Step("compact again", lambda s: s.compact(), (less | {"new": new}, hash_)),
    ]


def make_large(folder: Path) -> dict[str, str]:
    """A closed collection of 360 passages with a snapshot; returns its documents."""
    made = {str(n): long_text(n + 20, 60) for n in range(6)}
    with open_store(folder, large=True) as store:
        for path, text in made.items():
            put(store, path, text)
        assert store.compact()
    return made


def open_store(folder: Path, large: bool = False) -> SqliteFaissStore:
    options = {"approximate_from": SMALLEST_LARGE} if large else {}
    return new_store(folder, wait_s=0.0, busy_timeout_s=0.0, **options)


def state(store: SqliteFaissStore) -> State:
    """What the collection holds; every passage is read and every search is compared with brute force."""
    found = {d.path: store.text(d.document_id) for d in store.documents()}
    status = store.status()
    agree_with_brute_force(store, found)
    return found, status.embedder_name or EMBEDDER.name


def agree_with_brute_force(store: SqliteFaissStore, documents: dict[str, str]) -> None:
    """The passages that `put` made of these texts are there, and are found as they should be."""
    agree(store, {(path, c.position): (c, "Title") for path, t in documents.items() for c in make_chunks(t)})


def agree(store: SqliteFaissStore, passages: dict[tuple[str, int], tuple[Chunk, str]]) -> None:
    """Dense: all passages with their exact cosines; keyword: exactly those that hold the word.

    `passages` are chunks with their document's title, by path and position.
    """
    with store.reading() as reader:
        assert reader.chunk_count == len(passages)
        if not passages or reader.embedder_id is None:
            return
        query = BY_ID[reader.embedder_id].encode_queries(["tortoise passage"])[0]
        near = reader.nearest(query, len(passages) + 10)
        hits = reader.hits([m.chunk_id for m in near])
        assert {(h.path, h.position): h.text for h in hits.values()} == {
            at: c.text for at, (c, _) in passages.items()
        }
        texts = {at: chunk.embedding_text(title) for at, (chunk, title) in passages.items()}
        vectors = np.stack([_vector(text, reader.embedder_id) for text in texts.values()])
        exact = dict(zip(texts, (vectors * query.astype(float)).sum(axis=1), strict=True))
        for match in near:
            hit = hits[match.chunk_id]
            assert abs(match.score - exact[hit.path, hit.position]) < 1e-6
        assert [m.score for m in near] == sorted((m.score for m in near), reverse=True)
        for word in ("tortoise", "r123-78", "says"):
            (term, *_) = terms(word)
            found = reader.hits([m.chunk_id for m in reader.matching([term], len(passages) + 10)])
            assert {(h.path, h.position) for h in found.values()} == {
                at for at, text in texts.items() if term in _terms(text)
            }


@cache
def _terms(text: str) -> frozenset[str]:
    return frozenset(terms(text))


@cache
def _vector(text: str, embedder_id: str) -> np.ndarray:
    return BY_ID[embedder_id].encode_passages([text])[0].astype(float)


def sound(folder: Path, allowed: list[State], large: bool = False) -> State:
    """Open what is there: it is in one of these states, whole, and `verify` has nothing to say."""
    with open_store(folder, large) as store:
        found = state(store)
        assert found in allowed, f"{_short(found)} is none of {[_short(s) for s in allowed]}"
        problems = [p for p in store.verify().problems if "index snapshot" not in p]
        assert not problems, problems
        return found


def _short(state_: State) -> object:
    return state_ and ({path: text[:12] for path, text in state_[0].items()}, state_[1])


def copied(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target
