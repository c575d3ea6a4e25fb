"""The approximate index of a large collection against exact search; what is wrong with it is never served."""

from __future__ import annotations

import logging
import os
import random
import shutil
import sqlite3
from pathlib import Path

import faiss
import numpy as np
import pytest

from ingest.store import Source, approximate, snapshots
from ingest.store.sqlite_faiss import SqliteFaissStore
from ingest.store.vectors import Vectors
from tests.fakes import HashEmbedder
from tests.ingest.making import make_chunks, make_document, new_store

FROM = 500  # passages from which on the collections of these tests have an approximate index
EMBEDDER = HashEmbedder(dimension=24)
TOPICS = [f"topic{n} word{n % 7} thing{n % 11}" for n in range(30)]


def put(store: SqliteFaissStore, path: str, chunks: int, seed: int) -> None:
    """A document of so many passages, each about one of a few topics, so that vectors lie in clusters."""
    draw = random.Random(seed)
    lines = [
        f"{draw.choice(TOPICS)} {draw.randrange(900)} {draw.randrange(9)}".ljust(40)[:40]
        for _ in range(chunks)
    ]
    document, pieces = make_document("".join(lines)), make_chunks("".join(lines))
    vectors = EMBEDDER.encode_passages([piece.text for piece in pieces])
    store.bind(EMBEDDER.id, EMBEDDER.name, EMBEDDER.dimension)
    store.replace_document(Source(path, f"sha256:{seed}", "r"), document, pieces, vectors)


def open_large(folder: Path, **options: float) -> SqliteFaissStore:
    return new_store(folder, approximate_from=FROM, **options)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed collection with a snapshot of 800 passages."""
    folder = tmp_path_factory.mktemp("large")
    with open_large(folder) as store:
        for n in range(8):
            put(store, f"{n}.md", 100, n)
        assert store.compact()
        assert not store.compact()  # and it is current
    return folder


@pytest.fixture
def large(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def truth(store: SqliteFaissStore, query: Vectors) -> list[tuple[int, float]]:
    """Exact search straight from the tables, best first."""
    return ranked(*stored(store), query)


def stored(store: SqliteFaissStore) -> tuple[list[int], np.ndarray]:
    connection = sqlite3.connect(store.file)
    rows = connection.execute(
        "SELECT c.chunk_id, v.vector FROM chunks c JOIN vectors v USING (vector_id)"
    ).fetchall()
    connection.close()
    return [i for i, _ in rows], np.stack([np.frombuffer(v, "<f4") for _, v in rows]).astype(float)


def ranked(ids: list[int], matrix: np.ndarray, query: Vectors) -> list[tuple[int, float]]:
    scores = (matrix * query.astype(float)).sum(axis=1).tolist()
    return sorted(zip(ids, scores, strict=True), key=lambda pair: (-pair[1], pair[0]))


def questions(count: int = 40, embedder: HashEmbedder = EMBEDDER) -> Vectors:
    draw = random.Random(1)
    return embedder.encode_queries([f"{draw.choice(TOPICS)} {draw.randrange(900)}" for _ in range(count)])


def agreement(store: SqliteFaissStore, k: int = 10, embedder: HashEmbedder = EMBEDDER) -> float:
    """Mean recall at k against the tables; also: scores are exact and the order is right."""
    found = []
    tables = stored(store)
    for query in questions(embedder=embedder):
        exact = ranked(*tables, query)
        scores = dict(exact)
        matches = store.nearest(query, k)
        assert [m.score for m in matches] == [scores[m.chunk_id] for m in matches]
        assert matches == sorted(matches, key=lambda m: (-m.score, m.chunk_id))
        assert len(matches) == min(k, len(exact))
        found.append(sum(m.score >= exact[min(k, len(exact)) - 1][1] for m in matches) / len(matches))
    return float(np.mean(found))


def serves_snapshot(store: SqliteFaissStore) -> bool:
    with store.reading() as reader:
        return reader._vectors(reader).snapshot is not None


def files(store: SqliteFaissStore) -> list[str]:
    return sorted(f.name for f in (store.folder / "index").glob("*.faiss*"))


def test_a_large_collection_finds_nearly_what_exact_search_finds_with_the_same_scores(large: Path) -> None:
    with open_large(large) as store:
        assert agreement(store) >= approximate.LEAST_RECALL
        assert serves_snapshot(store)
        with store.reading() as reader:
            manifest = reader.snapshot()
        assert manifest and manifest.accepted and manifest.lists > 1 and manifest.probes < manifest.lists
        assert agreement(store, k=300) >= 0.9  # deeper than the lists that are usually read
        assert store.verify().problems == ()
    with new_store(large) as store:  # the usual threshold: this collection is small
        assert not serves_snapshot(store)
        assert agreement(store) == 1.0


def test_newer_rows_are_searched_exactly_and_deleted_ones_are_not_found(large: Path) -> None:
    with open_large(large) as store, open_large(large) as other:
        assert serves_snapshot(store)
        put(store, "new.md", 7, 99)
        store.forget(["3.md"])
        put(store, "5.md", 60, 77)
        for one in (store, other):
            assert serves_snapshot(one)
            assert agreement(one) >= approximate.LEAST_RECALL
            everything = one.nearest(questions(1)[0], 10_000)
            assert len(everything) == one.status().chunks == 667
            assert [m.chunk_id for m in everything] == [i for i, _ in truth(one, questions(1)[0])]
            with one.reading() as reader:
                ids = [m.chunk_id for m in everything[::7]]
                assert reader.cosines(questions(1)[0], ids) == [m.score for m in everything[::7]]


def test_what_went_is_remembered_or_compared(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ingest.store import writing

    monkeypatch.setattr(writing, "MOST_REMOVED", 0)
    with open_large(large) as store:
        for n in (1, 2):
            store.forget([f"{n}.md"])
            with store.reading() as reader:
                assert reader.removed_after(8) is None  # thrown away
            assert serves_snapshot(store)
            assert len(store.nearest(questions(1)[0], 10_000)) == 800 - n * 100
            assert agreement(store) >= approximate.LEAST_RECALL


def test_a_new_snapshot_is_published_when_the_old_one_is_behind_and_open_stores_move_to_it(
    large: Path,
) -> None:
    with open_large(large) as store, open_large(large) as other:
        assert serves_snapshot(other)
        first = files(store)
        put(store, "few.md", 30, 5)
        assert not store.compact()
        store.forget(["1.md"])
        assert store.compact()
        with other.reading() as reader:
            assert reader._vectors(reader).snapshot.generation == reader.generation == 10
        assert agreement(other) >= approximate.LEAST_RECALL
        assert len(files(store)) == 2 and set(first) < set(files(store))  # a reader may be about to open it
        store.forget(["2.md"])
        assert store.compact()
        assert len(files(store)) == 2 and not set(first) & set(files(store))
        assert store.verify().problems == ()


def test_a_low_recall_is_never_served(large: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(approximate._Best, "recall", lambda *_: 0.979)
    with open_large(large) as store:
        store.forget(["1.md", "2.md"])
        with caplog.at_level(logging.WARNING):
            assert not store.compact()
        assert "97.9 %" in caplog.text
        assert not store.compact()  # tried, and not again for the same passages
        assert not serves_snapshot(store)
        assert agreement(store) == 1.0
        assert store.verify().problems == ()


DAMAGE = {
    "missing": lambda file: file.unlink(),
    "header": lambda file: flip(file, 5),
    "body": lambda file: flip(file, file.stat().st_size // 2),
    "cut short": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"x"),
    "open to others": lambda file: file.chmod(0o644),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 16
    file.write_bytes(content)


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_snapshot_never_reaches_faiss_and_is_made_anew(
    large: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "open to others" and os.name == "nt":
        pytest.skip("POSIX modes")
    with open_large(large) as store:
        (name,) = files(store)
        DAMAGE[how](store.folder / "index" / name)
        assert any(name in problem for problem in store.verify().problems)
        with monkeypatch.context() as patched:
            patched.setattr(faiss, "read_index", lambda *_: pytest.fail("FAISS was given a damaged file"))
            assert agreement(store) == 1.0  # exactly, from the vectors in the database
        assert not serves_snapshot(store)
    with open_large(large) as store:
        assert store.compact()
        assert serves_snapshot(store)
        assert agreement(store) >= approximate.LEAST_RECALL
        assert store.verify().problems == ()


@pytest.mark.parametrize(
    "change", ["generation = 99", "embedder_id = 'x'", "sha256 = 'x'", "probes = 1", "name = 'x'"]
)
def test_a_manifest_that_is_not_what_was_written_is_not_followed(large: Path, change: str) -> None:
    connection = sqlite3.connect(large / "collections" / "test" / "kb.sqlite")
    connection.execute(f"UPDATE snapshots SET {change}")
    connection.commit()
    connection.close()
    with open_large(large) as store:
        assert store.verify().problems
        assert not serves_snapshot(store)
        assert agreement(store) == 1.0
        assert store.compact() and serves_snapshot(store)
        assert store.verify().problems == ()


def test_a_manifest_made_by_a_stranger_leads_to_no_other_file(large: Path) -> None:
    """Its checksum is no secret: one that is right must not move or open a file elsewhere."""
    from dataclasses import astuple, replace

    from ingest.store.schema import checksum

    file = large / "collections" / "test" / "kb.sqlite"
    with open_large(large) as store, store.reading() as reader:
        manifest = reader.snapshot()
        assert manifest is not None
    stranger = astuple(replace(manifest, name="../kb.sqlite"))
    connection = sqlite3.connect(file)
    connection.execute("UPDATE snapshots SET name = ?, checksum = ?", (stranger[0], checksum(*stranger)))
    connection.commit()
    connection.close()
    with open_large(large) as store:
        assert store.verify().problems
        assert not serves_snapshot(store)
        assert agreement(store) == 1.0
    assert file.exists()


def test_a_snapshot_of_another_history_is_unknown(large: Path) -> None:
    """A backup that is put back does not know what came after it, even when it reaches the same generation."""
    file = large / "collections" / "test" / "kb.sqlite"
    backup = file.read_bytes()
    with open_large(large) as store:
        put(store, "9.md", 300, 9)
        assert store.compact()
        later = files(store)[-1] if files(store)[-1].startswith("9-") else files(store)[0]
    file.write_bytes(backup)
    with open_large(large) as store:
        put(store, "other.md", 300, 4711)
        with store.reading() as reader:
            manifest = reader.snapshot()
        assert manifest and manifest.name != later and manifest.generation == 8
        assert serves_snapshot(store)
        assert agreement(store) >= approximate.LEAST_RECALL
        assert len(store.nearest(questions(1)[0], 10_000)) == 1100
        assert store.compact()
        assert later not in files(store)  # rubbish is swept


def test_a_rebuild_leaves_no_snapshot_of_what_was(large: Path) -> None:
    with open_large(large) as store:
        assert serves_snapshot(store)
        pieces = [(d.document_id, "new", store.chunks(d.document_id)) for d in store.documents()]
        from ingest.store.rows import embedding_key

        other = HashEmbedder(dimension=24, name="other")
        texts = {embedding_key(c, "Title"): c.embedding_text("Title") for _, _, cs in pieces for c in cs}
        vectors = dict(zip(texts, other.encode_passages(list(texts.values())), strict=True))
        store.cache_vectors(other.id, other.name, 24, vectors)
        store.recut(other.id, other.name, 24, pieces)
        assert not serves_snapshot(store)
        assert agreement(store) == 1.0
        assert store.compact() and serves_snapshot(store)
        assert agreement(store, embedder=other) >= approximate.LEAST_RECALL
        assert store.verify().problems == ()


def test_a_full_disk_costs_the_snapshot_and_nothing_else(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_large(large) as store:
        put(store, "9.md", 300, 9)
        before = files(store)
        with monkeypatch.context() as full:
            full.setattr(snapshots, "publish", _no_space)
            assert not store.compact()
        assert files(store) == before
        assert agreement(store) >= approximate.LEAST_RECALL
        assert store.compact()


def _no_space(*_: object) -> None:
    from ingest.errors import StorageFull

    raise StorageFull("no space")


def test_filters_hold_and_find_all_that_may_be_found(large: Path) -> None:
    """Few passages may be found: more lists are read, so that none of them is missed."""
    with open_large(large) as store, store.reading() as reader:
        index = reader._vectors(reader)
        random.seed(3)
        for share in (0.01, 0.1, 0.9):
            only = np.sort(np.array(random.sample(range(1, 801), int(800 * share)), np.int64))
            right = total = 0
            for query in questions(20):
                allowed = [pair for pair in truth(store, query) if pair[0] in set(only.tolist())][:10]
                found = index.nearest(query, 10, only, reader.vectors)
                assert {i for i, _ in found} <= set(only.tolist()) and len(found) == len(allowed)
                right += sum(score >= allowed[-1][1] for _, score in found)
                total += len(allowed)
            assert right / total >= approximate.LEAST_RECALL


def test_an_ingest_ends_with_a_snapshot_where_the_setting_asks_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ingest import sandbox
    from ingest.collections import open_collection
    from ingest.pipeline import ingest_text, rebuild
    from ingest.settings import IngestSettings
    from tests.ingest.test_durability_machine import InProcess

    monkeypatch.setattr(sandbox, "ParserPool", InProcess)
    settings = IngestSettings(chunk_tokens=32, chunk_overlap_tokens=0, approximate_from=256)  # type: ignore[call-arg]
    text = "\n\n".join(f"paragraph {n} about {TOPICS[n % 30]} and what follows from it" for n in range(800))
    options = {"approximate_from": settings.approximate_from}
    with open_collection(tmp_path, "c", create=True, **options) as store:
        ingest_text(text, store, EMBEDDER, settings, path="long.txt")
        assert store.status().chunks >= 256 and serves_snapshot(store)
        (first,) = files(store)
        ingest_text(text, store, EMBEDDER, settings, path="long.txt")
        assert files(store) == [first]
        other = HashEmbedder(dimension=8, name="other")
        rebuild(store, other, settings)
        assert serves_snapshot(store) and agreement(store, embedder=other) >= approximate.LEAST_RECALL
        assert store.verify().problems == ()
