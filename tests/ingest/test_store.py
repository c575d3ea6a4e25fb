"""The store's promises: what is acknowledged stays, what is forgotten goes, what is damaged is not served."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ingest import words
from ingest.collections import InvalidName, checked_name, delete_collection, list_collections, open_collection
from ingest.errors import (
    CollectionLocked,
    IndexDamaged,
    IndexMismatch,
    IngestError,
    SchemaTooNew,
    StorageFull,
    UnknownCollection,
    UnknownDocument,
)
from ingest.store import Source
from ingest.store.schema import APPLICATION_ID, MIGRATIONS, checksum, migrate
from ingest.store.sqlite_faiss import SqliteFaissStore
from ingest.store.vectors import VectorIndex
from tests.ingest.making import EMBEDDER, everything, make_chunks, make_document, new_store, put

TEXT = "The tortoise lives in the garden. 乌龟住在花园里。 Part R123-78 costs 4.50. 😀 " * 3
ROOT = Path(__file__).resolve().parents[2]


def test_a_document_comes_back_as_it_was_given_also_after_reopening(tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        stored = put(store, "a/b.md", TEXT)
        before = everything(store)
    with SqliteFaissStore.open(store.folder) as store:
        assert everything(store) == before
        document, chunks = make_document(TEXT), tuple(make_chunks(TEXT))
        assert store.parsed(stored.document_id) == document
        assert store.text("a/b.md") == TEXT
        assert store.chunks(stored.document_id) == chunks
        assert (stored.characters, stored.chunks, stored.pages) == (len(TEXT), len(chunks), 2)
        with store.reading() as reader:
            hit = reader.hits([1])[1]
        assert TEXT[hit.char_start : hit.char_end] == hit.text
        assert store.verify().problems == ()
        with pytest.raises(UnknownDocument, match="nothing"):
            store.document("nothing")


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        put(store, "a", TEXT)
        for file in store.folder.iterdir():
            assert file.stat().st_mode & 0o077 == 0, file
    assert store.folder.stat().st_mode & 0o077 == 0


def test_equal_text_at_two_paths_is_two_documents_and_one_vector_each_text(tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        put(store, "a", TEXT)
        one = store.verify()
        put(store, "b", TEXT)
        two = store.verify()
        assert (two.documents, two.chunks, two.vectors) == (2, 2 * one.chunks, one.vectors)
        store.forget(["a"])
        assert store.verify() == one
        store.forget(["b"])
        assert store.verify().vectors == 0  # an embedding can be turned back into its text


def test_ids_are_never_given_twice(tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        put(store, "a", TEXT)
        with store.reading() as reader:
            old = {m.chunk_id for m in reader.nearest(EMBEDDER.encode_queries(["x"])[0], 99)}
        store.forget(["a"])
        put(store, "b", TEXT)
        with store.reading() as reader:
            new = {m.chunk_id for m in reader.nearest(EMBEDDER.encode_queries(["x"])[0], 99)}
    assert old and new and not old & new


def test_another_embedder_is_refused_with_the_command_that_helps(tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        put(store, "a", TEXT)
        with pytest.raises(IndexMismatch, match="rebuild --embedder other"):
            store.bind("other-id", "other", EMBEDDER.dimension)
        with pytest.raises(IndexMismatch):
            store.replace_document(
                Source("b", "", ""), make_document("x"), make_chunks("x"), np.ones((1, 1), np.float32)
            )


@pytest.mark.parametrize("bad", ["count", "nan", "length", "slice"])
def test_what_does_not_fit_together_is_refused_and_nothing_changes(tmp_path: Path, bad: str) -> None:
    with new_store(tmp_path) as store:
        put(store, "a", TEXT)
        before = everything(store)
        chunks = make_chunks(TEXT)
        vectors = EMBEDDER.encode_passages([c.text for c in chunks])
        if bad == "count":
            vectors = vectors[:-1]
        elif bad == "nan":
            vectors[0, 0] = np.nan
        elif bad == "length":
            vectors = vectors * np.float32(2)
        else:
            chunks[0] = make_chunks("something else that is forty characters long")[0]
        with pytest.raises(ValueError):
            store.replace_document(Source("a", "", ""), make_document(TEXT), chunks, vectors)
        assert everything(store) == before


def test_a_newer_schema_and_a_foreign_database_are_refused(tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        pass
    connection = sqlite3.connect(store.file)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SchemaTooNew, match="99"):
        SqliteFaissStore.open(store.folder)
    other = tmp_path / "other"
    other.mkdir()
    connection = sqlite3.connect(other / "kb.sqlite")
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(IndexDamaged):
        SqliteFaissStore.open(other, create=True)
    (other / "kb.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(IndexDamaged):
        SqliteFaissStore.open(other)
    with pytest.raises(UnknownCollection):
        SqliteFaissStore.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_migrations_are_applied_in_order_and_once(tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        put(store, "a", TEXT)
    connection = sqlite3.connect(store.file, isolation_level=None)
    more = (
        *MIGRATIONS,
        ("CREATE TABLE extra (x)", "INSERT INTO extra VALUES (1)"),
        ("UPDATE extra SET x = x + 1",),
    )
    for _ in range(2):
        migrate(connection, store.file, more)
    assert connection.execute("SELECT x FROM extra").fetchall() == [(2,)]
    assert connection.execute("PRAGMA user_version").fetchone() == (len(more),)
    bad = (*more, ("CREATE TABLE more (x)", "this is no SQL"))
    with pytest.raises(sqlite3.Error):
        migrate(connection, store.file, bad)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(more),)
    assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'more'").fetchone() == (0,)
    connection.close()


def test_the_keyword_index_is_made_anew_when_words_are_cut_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with new_store(tmp_path) as store:
        put(store, "a", TEXT)
        put(store, "b", TEXT)
        monkeypatch.setattr(words, "VERSION", words.VERSION + 1)
        monkeypatch.setattr(words, "terms", lambda text: [w.upper() for w in text.split()])
        assert store.verify().problems == ()  # old words, known to be old
        store.forget(["a"])
        assert store.verify().problems == ()
        assert store.matching(["TORTOISE"], 9) and not store.matching(["tortois"], 9)


# One writer


def test_a_second_writer_waits_or_is_told_who_writes(tmp_path: Path) -> None:
    with new_store(tmp_path) as store, SqliteFaissStore.open(store.folder, wait_s=0.0) as other:
        put(store, "a", TEXT)
        with store.writing("ingest of things"):
            put(store, "b", TEXT)  # re-entrant
            assert other.generation() == 2  # readers are not kept out
            with pytest.raises(CollectionLocked, match=rf"ingest of things.*{os.getpid()}"):
                other.forget(["a"])
            assert "ingest of things" in (other.status().writer or "")
        assert other.status().writer is None
        assert other.forget(["a"]) == ("a",)


def test_two_threads_of_one_store_take_turns(tmp_path: Path) -> None:
    with new_store(tmp_path, wait_s=30.0) as store:
        threads = [threading.Thread(target=put, args=(store, f"{n}", f"{n} {TEXT}")) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [d.path for d in store.documents()] == [str(n) for n in range(6)]
        assert store.generation() == 6
        assert store.verify().problems == ()


WRITER = """
import sys, pathlib
from tests.ingest.making import new_store, put
store = new_store(pathlib.Path(sys.argv[1]), wait_s=30.0)
with store.writing("a long ingest"):
    n = 0
    while True:
        n += 1
        put(store, f"{n % 7}.md", f"version {n} of a text. " * 40)
        print(n, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 2, 9])
def test_a_killed_writer_loses_nothing_acknowledged_and_leaves_no_lock(
    tmp_path: Path, acknowledged: int
) -> None:
    with new_store(tmp_path, wait_s=0.0) as store:
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert process.stdout is not None
        last = 0
        while last < acknowledged:
            last = int(process.stdout.readline())
        with pytest.raises(CollectionLocked, match="a long ingest"):
            store.forget(["1.md"])
        time.sleep(random.random() * 0.02)
        process.kill()
        last = max([last, *map(int, process.stdout.read().split())])
        process.wait()
        process.stdout.close()
        assert store.verify().problems == ()
        versions = {d.path: int(store.text(d.path).split()[1]) for d in store.documents()}
        newest = max(versions.values())
        assert last <= newest <= last + 1  # the one in the middle is old or new, whole
        assert versions == {f"{n % 7}.md": n for n in range(max(1, newest - 6), newest + 1)}
        put(store, "after", TEXT)  # and the lock is free


def test_no_space_is_said_and_the_old_state_stays(tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        put(store, "a", TEXT)
        before = everything(store)
        with (
            store._connections.reading() as connection
        ):  # the limit belongs to the connection, and there is one
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageFull, match="space"):
            put(store, "b", "a text that needs more room than there is. " * 2000)
        assert everything(store) == before
        assert store.verify().problems == ()
        with store._connections.reading() as connection:
            connection.execute("PRAGMA max_page_count = 1000000")
        put(store, "b", TEXT)


def test_readers_see_one_generation_each_while_another_process_publishes(tmp_path: Path) -> None:
    """Publish n holds one document that says n in every passage; a mixed read would show two numbers."""
    query = EMBEDDER.encode_queries(["version"])[0]
    store, writer = new_store(tmp_path), new_store(tmp_path)

    def text(n: int) -> str:
        return f"version {n:03} of this one passage".ljust(40) * (8 + n % 5)  # as long as a chunk

    put(writer, "doc", text(0))
    seen: set[int] = set()
    wrong: list[object] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                with store.reading() as reader:
                    found = [m.chunk_id for m in reader.nearest(query, 99)]
                    found += [m.chunk_id for m in reader.matching(["version"], 99)]
                    hits = reader.hits(list(dict.fromkeys(found)))
                    numbers = {int(n) for h in hits.values() for n in h.text.split() if n.isdigit()}
                    if len(numbers) != 1 or len(hits) != reader.chunk_count or len(found) != 2 * len(hits):
                        wrong.append((reader.generation, numbers, len(hits), len(found)))
                    seen.add(reader.generation)
            except Exception as error:
                wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in readers:
        thread.start()
    for n in range(1, 51):
        put(writer, "doc", text(n))
    time.sleep(0.05)
    done.set()
    for thread in readers:
        thread.join()
    assert not wrong, wrong[:3]
    assert len(seen) > 3
    assert store.generation() == 51
    store.close()
    writer.close()


def test_a_collection_that_was_deleted_or_replaced_is_not_read_for_ever(tmp_path: Path) -> None:
    store = open_collection(tmp_path, "合同 2026", create=True)
    put(store, "a", TEXT)
    assert list_collections(tmp_path) == ["合同 2026"]
    delete_collection(tmp_path, "合同 2026")
    assert list_collections(tmp_path) == []
    with pytest.raises(UnknownCollection):
        store.documents()
    with open_collection(tmp_path, "合同 2026", create=True) as again:
        put(again, "b", TEXT)
        assert [d.path for d in store.documents()] == ["b"]
        assert store.nearest(EMBEDDER.encode_queries(["tortoise"])[0], 1)
    with pytest.raises(UnknownCollection, match="合同 2026"):
        open_collection(tmp_path, "nothing")
    store.close()
    with pytest.raises(IngestError, match="closed"):
        store.documents()


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        "/x",
        "a\0b",
        "x" * 200,
        "con",
        "-x",
        ".x",
        "x ",
        "x.",
        "a\nb",
        "%2e%2e/",
    ],
)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    for call in (
        lambda: open_collection(tmp_path, name, create=True),
        lambda: delete_collection(tmp_path, name),
    ):
        with pytest.raises(InvalidName):
            call()
    assert list(tmp_path.iterdir()) == []
    assert checked_name("Tax 2026-हिन्दी_1.0") == "Tax 2026-हिन्दी_1.0"


# Damage


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


# Rebuild


def test_recut_exchanges_everything_or_nothing(tmp_path: Path) -> None:
    other = type(EMBEDDER)(dimension=16, name="other")
    with new_store(tmp_path) as store:
        for name in "ab":
            put(store, name, f"{name} {TEXT}")
        before = everything(store)
        texts = {d.document_id: make_chunks(store.text(d.path), 60) for d in store.documents()}
        pieces = [(i, "new recipe", chunks) for i, chunks in texts.items()]
        with pytest.raises(IndexDamaged):  # vectors are missing
            store.recut(other.id, "other", 16, pieces)
        assert everything(store) == before
        from ingest.store.rows import embedding_key

        chunks = [c for _, _, chunks in pieces for c in chunks]
        keys = {
            embedding_key(c, "Title"): other.encode_passages([c.embedding_text("Title")])[0] for c in chunks
        }
        store.cache_vectors(other.id, "other", 16, keys)
        assert everything(store) == before and store.verify().problems == ()
        with pytest.raises(IndexDamaged):  # a document is left out
            store.recut(other.id, "other", 16, pieces[:1])
        assert everything(store) == before
        store.recut(other.id, "other", 16, pieces)
        status = store.status()
        assert (status.embedder_id, status.embedder_name, status.dimension) == (other.id, "other", 16)
        assert [store.chunks(d.path) for d in store.documents()] == [tuple(c) for c in texts.values()]
        assert {d.recipe for d in store.documents()} == {"new recipe"}
        verified = store.verify()
        assert verified.problems == () and verified.vectors == len(keys)  # nothing left of the old embedder
        assert store.nearest(other.encode_queries(["tortoise"])[0], 1)


# Vectors against brute force


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.data_too_large])
@given(data=st.data())
def test_nearest_is_brute_force_over_any_history(data: st.DataObject) -> None:
    """Vectors are few and coarse, so that ties are common; chunks come and go over many generations."""
    dimension = data.draw(st.integers(1, 4))
    number = st.integers(-2, 2)
    rows: dict[int, np.ndarray] = {}
    index = VectorIndex(-1, dimension)
    next_id = 1
    for generation in range(data.draw(st.integers(1, 6))):
        gone = data.draw(st.sets(st.sampled_from(sorted(rows)))) if rows else set()
        rows = {i: v for i, v in rows.items() if i not in gone}
        new: dict[int, np.ndarray] = {}
        for _ in range(data.draw(st.integers(0, 40))):
            vector = np.array(data.draw(st.lists(number, min_size=dimension, max_size=dimension)), np.float32)
            vector[0] += 3
            new[next_id] = vector / np.linalg.norm(vector)
            next_id += 1
        rows |= new
        matrix = np.array(list(new.values()), np.float32).reshape(len(new), dimension)
        living = np.array(sorted(rows), np.int64)
        block = (np.array(list(new), np.int64), matrix)
        index = index.advance(generation, np.array(sorted(gone), np.int64), [block])
        query = np.array(data.draw(st.lists(number, min_size=dimension, max_size=dimension)), np.float32)
        query[0] += 3
        query /= np.linalg.norm(query)
        k = data.draw(st.integers(1, 30))
        exact = [(i, float((v.astype(np.float64) * query.astype(np.float64)).sum())) for i, v in rows.items()]
        exact.sort(key=lambda pair: (-pair[1], pair[0]))
        assert index.nearest(query, k) == exact[:k]
        assert index.ids().tolist() == living.tolist()
        assert index.cosines(query, [i for i, _ in exact]) == [s for _, s in exact]
        with pytest.raises(KeyError):
            index.cosines(query, [next_id])


# A model of the whole

PATHS = st.sampled_from(["a.md", "b/c.md", "ü 中.txt", "x" * 200])
TEXTS = st.sampled_from([f"{n} {TEXT}" for n in range(4)] + ["short", TEXT * 2])


class StoreModel(RuleBasedStateMachine):
    """The store behaves like a dictionary from path to text, also over reopening, and two handles agree."""

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, str] = {}
        self.generation = 0

    @initialize()
    def start(self) -> None:
        import tempfile

        self.folder = Path(tempfile.mkdtemp())
        self.store = new_store(self.folder)
        self.reader = new_store(self.folder)

    @rule(path=PATHS, text=TEXTS)
    def put(self, path: str, text: str) -> None:
        put(self.store, path, text)
        self.model[path] = text
        self.generation += 1

    @rule(paths=st.lists(PATHS, max_size=3))
    def forget(self, paths: list[str]) -> None:
        gone = self.store.forget(paths)
        assert set(gone) == set(paths) & set(self.model)
        self.model = {p: t for p, t in self.model.items() if p not in paths}
        self.generation += bool(gone)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = new_store(self.folder)

    @rule()
    def touch(self) -> None:
        sources = self.store.sources()
        self.store.touch([Source(s.path, s.content_hash, s.recipe, s.size + 1, 77) for s in sources.values()])

    @precondition(lambda self: self.model)
    @rule()
    def verify(self) -> None:
        assert self.store.verify().problems == ()

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "store"):
            return
        for store in (self.store, self.reader):
            assert {d.path: store.text(d.document_id) for d in store.documents()} == self.model
            assert store.generation() == self.generation
            expected = {(p, c.text) for p, t in self.model.items() for c in make_chunks(t)}
            query = EMBEDDER.encode_queries(["tortoise"])[0]
            with store.reading() as reader:
                hits = reader.hits([m.chunk_id for m in reader.nearest(query, 1000)]) if self.model else {}
            assert {(h.path, h.text) for h in hits.values()} == expected

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.reader.close()
            shutil.rmtree(self.folder)


StoreModel.TestCase.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
TestStoreModel = StoreModel.TestCase


def test_the_header_names_the_program(tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        put(store, "a", TEXT)
    assert store.file.read_bytes()[68:72] == APPLICATION_ID.to_bytes(4) == b"LORE"


FULL = """
import pathlib, resource, signal, sys
from ingest.errors import StorageFull
from tests.ingest.making import new_store, put
store = new_store(pathlib.Path(sys.argv[1]))
put(store, "a", "a small text")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
try:
    for n in range(1000):
        put(store, f"{n}", f"text number {n} of many. " * 200)
        print(n, flush=True)
except StorageFull as error:
    print("full", error)
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
def test_a_disk_that_refuses_to_write_loses_nothing_acknowledged(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    *written, last = done.stdout.splitlines()
    assert last.startswith("full") and written
    with SqliteFaissStore.open(tmp_path / "collections" / "test") as store:
        assert {d.path for d in store.documents()} == {"a", *written}
        assert store.verify().problems == ()
        put(store, "after", TEXT)
