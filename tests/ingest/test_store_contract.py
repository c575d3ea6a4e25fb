"""What every store promises, run over each of them: the embedded one, and Milvus (a Lite file)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest import words
from ingest.errors import CollectionLocked, IndexDamaged, IndexMismatch, IngestError, UnknownDocument
from ingest.fields import document_facts
from ingest.filters import Filter, fits
from ingest.filters.text import parse
from ingest.search import Searcher
from ingest.store import Source, Store
from ingest.store.rows import embedding_key
from ingest.store.sqlite_faiss import SqliteFaissStore
from tests.ingest.making import EMBEDDER, TEXT, everything, make_chunks, make_document, put, watched_publishes

Open = Callable[..., Store]


@pytest.fixture(scope="module", params=["embedded", "milvus"])
def opener(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """Opens the store of that name; the same name is the same store."""
    folder = tmp_path_factory.mktemp("stores")
    opened: list[Store] = []

    def embedded(name: str, **options: float) -> Store:
        return SqliteFaissStore.open(folder / "collections" / name, create=True, **options)  # type: ignore[arg-type]

    def milvus(name: str, **options: float) -> Store:
        from ingest.store.milvus.address import parse as address
        from ingest.store.milvus.store import MilvusStore

        where = address(f"milvus+file://{folder}/base.db?grace_s=0.3")
        return MilvusStore.open(where, name, folder / "collections" / name, create=True, **options)  # type: ignore[arg-type]

    if request.param == "milvus":
        pytest.importorskip("pymilvus", reason="the extra milvus is not installed")
        pytest.importorskip("milvus_lite", reason="Milvus Lite is not installed")

    def open_store(name: str, **options: float) -> Store:
        opened.append((milvus if request.param == "milvus" else embedded)(name, **options))
        return opened[-1]

    keep = open_store("held")  # the Lite file stays open from test to test
    yield open_store
    for store in opened:
        store.close()
    del keep


@pytest.fixture
def store(opener: Open, request: pytest.FixtureRequest) -> Iterator[Store]:
    with opener(request.node.name.partition("[")[0], wait_s=0.5) as store:
        yield store


def reopened(store: Store, opener: Open) -> Store:
    return opener(store.collection, wait_s=0.5)


def test_a_document_comes_back_as_it_was_given_also_after_reopening(store: Store, opener: Open) -> None:
    stored = put(store, "a/b.md", TEXT)
    before = everything(store)
    with reopened(store, opener) as again:
        assert everything(again) == before
        chunks = tuple(make_chunks(TEXT))
        assert again.parsed(stored.document_id) == make_document(TEXT)
        assert again.text("a/b.md") == TEXT
        assert again.chunks(stored.document_id) == chunks
        assert (stored.characters, stored.chunks, stored.pages) == (len(TEXT), len(chunks), 2)
        with again.reading() as reader:
            hit = reader.hits([1])[1]
        assert TEXT[hit.char_start : hit.char_end] == hit.text
        assert again.verify().problems == ()
        with pytest.raises(UnknownDocument, match="nothing"):
            again.document("nothing")


def test_a_text_of_many_rows_comes_back(store: Store) -> None:
    text = "A sentence with 汉字 and a 😀 in it. " * 6000
    document = make_document(text)
    chunk = replace(make_chunks(text[:40])[0], text=text[:40])
    vectors = EMBEDDER.encode_passages([chunk.embedding_text("Title")])
    store.bind(EMBEDDER.id, EMBEDDER.name, EMBEDDER.dimension)
    store.replace_document(Source("long", "sha256:x", "r"), document, [chunk], vectors)
    assert store.parsed("long") == document


def test_what_is_replaced_or_forgotten_is_gone_before_the_call_returns(store: Store, opener: Open) -> None:
    other = reopened(store, opener)
    query = EMBEDDER.encode_queries(["tortoise"])[0]

    def found() -> set[str]:
        with other.reading() as reader:
            matches = [*reader.nearest(query, 99), *reader.matching(["tortois"], 99)]
            hits = reader.hits(list({m.chunk_id for m in matches})).values()
        assert len(hits) == other.status().chunks
        return {hit.path for hit in hits}

    put(store, "a", TEXT)
    assert found() == {"a"}
    ids = {m.chunk_id for m in other.nearest(query, 99)}
    put(store, "b", "Another tortoise.")
    put(store, "a", "A new tortoise.")
    assert found() == {"a", "b"} and not ids & {m.chunk_id for m in other.nearest(query, 99)}
    assert other.text("a") == "A new tortoise."
    assert store.forget(["a", "no such path"]) == ("a",)
    assert found() == {"b"}
    assert store.forget(["b"]) == ("b",)
    assert other.nearest(query, 9) == [] and other.matching(["tortois"], 9) == []
    assert store.verify() == other.verify() and store.verify().vectors == 0


def test_equal_text_at_two_paths_is_two_documents_and_one_vector_each_text(store: Store) -> None:
    put(store, "a", TEXT)
    one = store.verify()
    put(store, "b", TEXT)
    two = store.verify()
    assert (two.documents, two.chunks, two.vectors) == (2, 2 * one.chunks, one.vectors)
    store.forget(["a"])
    assert store.verify() == one
    store.forget(["b"])
    assert store.verify().vectors == 0


@pytest.mark.parametrize("bad", ["count", "nan", "length", "slice"])
def test_what_does_not_fit_together_is_refused_and_nothing_changes(opener: Open, bad: str) -> None:
    with opener("refused") as store:
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


def test_another_embedder_is_refused_with_the_command_that_helps(store: Store) -> None:
    put(store, "a", TEXT)
    with pytest.raises(IndexMismatch, match="rebuild --embedder other"):
        store.bind("other-id", "other", EMBEDDER.dimension)
    with pytest.raises(IndexMismatch):
        store.replace_document(
            Source("b", "", ""), make_document("x"), make_chunks("x"), np.ones((1, 1), np.float32)
        )
    with pytest.raises(IndexMismatch, match="dimensions"):
        store.nearest(np.ones(3, np.float32), 1)


def test_failures_times_and_cuts_are_remembered(store: Store, opener: Open) -> None:
    source = Source("bad.pdf", "sha256:1", "r", 7, 8)
    store.note_failures([(source, "torn"), (replace(source, path="worse"), "empty")])
    store.note_failures([(source, "still torn")])
    store.note_failures([(replace(source, path="worse", content_hash="sha256:2"), "empty")])
    with reopened(store, opener) as again:
        told = {path: (f.tries, f.reason, f.source) for path, f in again.failures().items()}
    assert told["bad.pdf"] == (2, "still torn", source) and told["worse"][:2] == (1, "empty")
    put(store, "bad.pdf", TEXT)
    assert set(store.failures()) == {"worse"}
    store.forget(["worse"])
    assert store.failures() == {}
    generation = store.generation()
    store.touch([Source("bad.pdf", "", "", 99, 77, "upload"), Source("unknown", "", "")])
    kept = store.sources()["bad.pdf"]
    assert (kept.size, kept.mtime_ns, kept.origin) == (99, 77, "upload") and store.generation() == generation
    store.fix_chunking("100-10")
    assert store.status().chunking == "100-10"


def test_one_writer_at_a_time_and_the_other_is_told_who(store: Store, opener: Open) -> None:
    put(store, "a", TEXT)
    with opener(store.collection, wait_s=0.0) as other:
        with store.writing("ingest of things"):
            put(store, "b", TEXT)  # re-entrant
            assert other.generation() == 2  # readers are not kept out
            with pytest.raises(CollectionLocked, match="ingest of things"):
                other.forget(["a"])
            assert "ingest of things" in (other.status().writer or "")
        assert other.status().writer is None
        assert other.forget(["a"]) == ("a",)


def test_threads_of_one_store_take_turns(opener: Open) -> None:
    with opener("turns", wait_s=60.0) as store:
        store.bind(EMBEDDER.id, EMBEDDER.name, EMBEDDER.dimension)
        threads = [threading.Thread(target=put, args=(store, f"{n}", f"{n} {TEXT}")) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [d.path for d in store.documents()] == [str(n) for n in range(4)]
        assert store.generation() == 4
        assert store.verify().problems == ()


def test_readers_see_one_generation_each_while_another_publishes(store: Store, opener: Open) -> None:
    seen = watched_publishes(store, reopened(store, opener), publishes=8, readers=2)
    assert len(seen) > 2
    assert store.generation() == 9
    assert store.verify().problems == ()


def test_recut_exchanges_everything_or_nothing(store: Store) -> None:
    other = type(EMBEDDER)(dimension=16, name="other")
    for name in "ab":
        put(store, name, f"{name} {TEXT}")
    before = everything(store)
    texts = {d.document_id: make_chunks(store.text(d.path), 60) for d in store.documents()}
    pieces = [(i, "new recipe", chunks) for i, chunks in texts.items()]
    with pytest.raises(IndexDamaged):  # vectors are missing
        store.recut(other.id, "other", 16, pieces)
    assert everything(store) == before
    chunks = [c for _, _, chunks in pieces for c in chunks]
    keys = {embedding_key(c, "Title"): other.encode_passages([c.embedding_text("Title")])[0] for c in chunks}
    store.cache_vectors(other.id, "other", 16, keys)
    assert everything(store) == before and store.verify().problems == ()
    assert store.cached_vectors(other.id, keys).keys() == keys.keys()
    assert store.cached_vectors(EMBEDDER.id, keys) == {}
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


def test_words_are_cut_anew_when_they_are_cut_otherwise(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "a", TEXT)
    put(store, "b", TEXT)
    monkeypatch.setattr(words, "VERSION", words.VERSION + 1)
    monkeypatch.setattr(words, "indexed", lambda text: [w.upper() for w in text.split()])
    assert store.verify().problems == ()  # old words, known to be old
    store.forget(["a"])
    assert store.verify().problems == ()
    with store.reading() as reader:
        assert reader.matching(["TORTOISE"], 9) and not reader.matching(["tortois"], 9)


# Filters: what passes is what `fits` says

FIELDS = [
    {"author": ("Li", "Müller_%"), "year": 2020, "tag": ("a", "b")},
    {"author": "li", "created": "2020-05-03", "price": 4.5},
    {"created": ("2019-01-01", "2025-12-31T10:30:00+01:00"), "tag": "B\\c"},
    {"year": (2019, 2025), "price": -1, "weird": 'a "quoted" \\ text_100%'},
    {},
]
FILTERS = """
author = li | author = "Müller_%" | author ~ "er_" | author ~ "%" | author != li | not author = li
year = 2020 | year > 2019 | year < 2020 | year >= 2026 | created = 2020 | created = 2020-05 | created = 2020-05-03
created > 2020-05 | created < 2020 | created = 2025-12-31T09:30 | created = 2022 | created <= 2019-01-01
price = 4.5 | price < 0 | price >= 4.5 | price > 100 | tag in (a, "b\\\\c") | tag ~ "\\\\" | weird ~ "100%"
weird ~ "t_1" | weird ~ "tx1" | author > k | author >= müller | nothing = 1 | nothing != 1 | not nothing < 5
author = li and not tag = a | not (author = li or tag = a) | not (year > 2000 and tag = b) | path = d1 | format = md
year = 2020 or price < 0 | not (created = 2020 or price < 0) | title = Title | characters > 3 | pages = 2
"""


@pytest.mark.parametrize("name", ["varied"])
def test_a_filter_is_brute_force(opener: Open, name: str) -> None:
    with opener(name) as store:
        for n, own in enumerate(FIELDS):
            put(store, f"d{n}", f"tortoise number {n}")
            store.annotate({f"d{n}": own})
        generation = store.generation()
        assert store.annotate({"nowhere": {"x": 1}}) == () and store.generation() == generation
        documents = store.documents()
        assert {d.path: d.own for d in documents} == {f"d{n}": own for n, own in enumerate(FIELDS)}
        query = EMBEDDER.encode_queries(["tortoise"])[0]
        for written in FILTERS.strip().replace("\n", " | ").split(" | "):
            wanted: Filter = parse(written.strip())
            passing = {d.path for d in documents if fits(wanted, document_facts(d))}
            with store.reading() as reader:
                for found in (reader.nearest(query, 99, wanted), reader.matching(["tortois"], 99, wanted)):
                    hits = reader.hits([m.chunk_id for m in found]).values()
                    assert {h.path for h in hits} == passing, written
                reader.confirm(wanted, [h.document_id for h in hits])
            assert {d.path for d in store.documents(wanted)} == passing, written
        assert store.verify().problems == ()


# The same questions, the same answers

WORDS = [
    "tortoise",
    "garden",
    "rain",
    "stone",
    "R123-78",
    "snake_case",
    "乌龟住在花园里",
    "知识库",
    "the",
    "of",
]
SENTENCES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=30).map(" ".join)


@pytest.fixture(scope="module")
def twins(opener: Open, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Store]:
    """The store and an embedded one with the same documents, equal passages and a rewritten one among them."""
    mine = opener("twins", wait_s=5.0)
    embedded = SqliteFaissStore.open(tmp_path_factory.mktemp("twin") / "collections" / "twins", create=True)
    random = np.random.default_rng(20261122)
    texts = [" ".join(random.choice(WORDS, size=random.integers(1, 40))) for _ in range(14)]
    for store in (mine, embedded):
        with store.writing():
            for n, text in enumerate([*texts, texts[0], texts[3]]):
                put(store, f"{n}", text, title=f"Title {n % 3}")
            put(store, "5", "a garden of stone and rain, garden, garden")
            store.forget(["7"])
    return mine, embedded


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=SENTENCES,
    quoted=st.lists(st.sampled_from(["garden", "rain", "snake_case", "花园"]), max_size=2),
    beginning=st.sampled_from(["", "gard*", "r12*", "snake_*", "x*", "花*"]),
    mode=st.sampled_from(["hybrid", "dense", "keyword"]),
    k=st.sampled_from([1, 10]),
)
def test_the_same_questions_have_the_same_top_10(
    twins: tuple[Store, Store], query: str, quoted: list[str], beginning: str, mode: str, k: int
) -> None:
    asked = f"{query} " + (f'"{" ".join(quoted)}" ' if quoted else "") + beginning
    mine, embedded = (Searcher(store, EMBEDDER).search(asked, k, mode).hits for store in twins)  # type: ignore[arg-type]
    assert [(h.path, h.position, h.chunk_id) for h in mine] == [
        (h.path, h.position, h.chunk_id) for h in embedded
    ]
    for ours, theirs in zip(mine, embedded, strict=True):
        assert ours.score == pytest.approx(theirs.score, abs=1e-9)
        assert replace(ours, score=0, dense_score=0, keyword_score=0) == replace(
            theirs, score=0, dense_score=0, keyword_score=0
        )


def test_a_store_that_was_closed_says_so(opener: Open) -> None:
    store = opener("closed")
    store.close()
    with pytest.raises(IngestError, match="closed"):
        store.documents()
