"""Search against brute force: numpy for the vectors, a BM25 of our own for the words, both for the fusion."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import words
from ingest.errors import IndexMismatch
from ingest.pipeline import rebuild
from ingest.search import DENSE_SHARE, Searcher, fuse, unrelated_cosine
from ingest.settings import IngestSettings
from ingest.store.sqlite_faiss import SqliteFaissStore
from ingest.types import SearchMode
from tests.fakes import HashEmbedder
from tests.ingest.making import EMBEDDER, make_chunks, new_store, put

WORDS = [
    "tortoise",
    "garden",
    "rain",
    "stone",
    "river",
    "R123-78",
    "snake_case",
    "ingests",
    "乌龟住在花园里",
    "知识库",
]
WORDS += ["the", "of", "and"]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=40).map(" ".join)
MODES: tuple[SearchMode, ...] = ("hybrid", "dense", "keyword")


def bm25(query: list[str], documents: list[list[str]], k1: float = 1.2, b: float = 0.75) -> list[float]:
    """Robertson's BM25 as SQLite documents it: rare terms weigh more, none less than one in a million."""
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        counts, score = Counter(document), 0.0
        for term in query:
            n = sum(term in other for other in documents)
            idf = max(1e-6, math.log((len(documents) - n + 0.5) / (n + 0.5)))
            f = counts[term]
            score += idf * f * (k1 + 1) / (f + k1 * (1 - b + b * len(document) / mean))
        scores.append(score)
    return scores


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=5), query=TEXTS, k=st.integers(1, 30))
def test_every_mode_is_brute_force(texts: list[str], query: str, k: int) -> None:
    with tempfile.TemporaryDirectory() as folder, new_store(Path(folder)) as store:
        for n, text in enumerate(texts):
            put(store, f"{n}", text, title=f"Title {n}")
        passages = [c.embedding_text(f"Title {n}") for n, text in enumerate(texts) for c in make_chunks(text)]
        ids = range(1, len(passages) + 1)  # given in the order of writing
        cosines = EMBEDDER.encode_passages(passages).astype(np.float64) @ EMBEDDER.encode_queries([query])[
            0
        ].astype(np.float64)
        terms = words.query_terms(query)
        keyword = dict(zip(ids, bm25(terms, [words.indexed(p) for p in passages]), strict=True))
        dense = dict(zip(ids, map(float, cosines), strict=True))
        keyword = {i: s for i, s in keyword.items() if s > 0}
        most = 2.2 * sum(information(t, [words.indexed(p) for p in passages]) for t in terms)
        floor = unrelated_cosine(EMBEDDER)
        searcher = Searcher(store, EMBEDDER)
        for mode in MODES:
            share = {"dense": 1.0, "keyword": 0.0, "hybrid": DENSE_SHARE}[mode]
            expected = {
                i: share * clip((dense[i] - floor) / (1 - floor))
                + (1 - share) * (clip(keyword.get(i, 0.0) / most) if most else 0.0)
                for i in ids
                if mode != "keyword" or i in keyword
            }
            hits = searcher.search(query, k, mode).hits
            assert len(hits) == min(k, len(expected))
            # Equal up to rounding: SQLite and numpy add in other orders.
            best = sorted(expected.values(), reverse=True)
            assert [h.score for h in hits] == pytest.approx(best[: len(hits)], abs=1e-6)
            for hit in hits:
                assert hit.score == pytest.approx(expected[hit.chunk_id], abs=1e-6)
                assert hit.text == store.text(hit.document_id)[hit.char_start : hit.char_end]
                if mode != "keyword":
                    assert hit.dense_score == pytest.approx(dense[hit.chunk_id], abs=1e-6)
                if mode != "dense":
                    assert (hit.keyword_score or 0.0) == pytest.approx(
                        keyword.get(hit.chunk_id, 0.0), abs=1e-6
                    )
            if mode == "dense":  # exactly the order of the cosines, ties by id
                assert [h.chunk_id for h in hits] == [m.chunk_id for m in store.nearest(vector(query), k)]


def vector(query: str) -> np.ndarray:
    return EMBEDDER.encode_queries([query])[0]


def information(term: str, documents: list[list[str]]) -> float:
    n = sum(term in document for document in documents)
    return max(1e-6, math.log((len(documents) - n + 0.5) / (n + 0.5)))


def clip(value: float) -> float:
    return min(1.0, max(0.0, value))


@settings(max_examples=200)
@given(
    dense=st.dictionaries(st.integers(1, 9), st.floats(-1, 1)),
    keyword=st.dictionaries(st.integers(1, 9), st.floats(0, 50)),
    share=st.floats(0, 1),
    floor=st.floats(-1, 0.99),
    most=st.floats(0, 50),
)
def test_scores_lie_between_0_and_1_and_grow_with_each_arm(
    dense: dict[int, float], keyword: dict[int, float], share: float, floor: float, most: float
) -> None:
    scores = fuse(dense, keyword, share=share, floor=floor, most=most)
    assert scores.keys() == dense.keys() | keyword.keys()
    assert all(0 <= s <= 1 for s in scores.values())
    for i in scores:
        for j in scores:
            if dense.get(i, floor) >= dense.get(j, floor) and keyword.get(i, 0) >= keyword.get(j, 0):
                assert scores[i] >= scores[j]


@pytest.fixture
def store(tmp_path: Path) -> SqliteFaissStore:
    store = new_store(tmp_path)
    put(store, "tortoise.md", "The tortoise lives in the garden and eats leaves. Part R123-78 costs 4.50.")
    put(store, "zh.md", "乌龟住在花园里，吃树叶。知识库回答问题。")
    put(store, "ja.md", "亀は庭に住んでいます。한국어 문서도 있습니다.")
    put(store, "model.md", "Pull deepseek-r1:1.5b with a command. Don't use snake_case here.")
    return store


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("乌龟吃什么", "zh.md"),
        ("知识库", "zh.md"),
        ("庭に住む", "ja.md"),
        ("한국어", "ja.md"),
        ("R123-78", "tortoise.md"),
        ("r123", "tortoise.md"),
        ("Ｒ１２３－７８", "tortoise.md"),
        ("deepseek-r1:1.5b", "model.md"),
        ("deepseek", "model.md"),
        ("snake", "model.md"),
        ("Gardens?", "tortoise.md"),
        ("don't", "model.md"),
    ],
)
def test_words_find_their_document(store: SqliteFaissStore, query: str, path: str) -> None:
    hits = Searcher(store, EMBEDDER).search(query, 3, "keyword").hits
    assert hits and hits[0].path == path


@pytest.fixture(scope="module")
def odd_words(tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    store = new_store(tmp_path_factory.mktemp("odd"))
    put(store, "a", 'AND OR NOT NEAR terms 乌龟 "quoted" it\'s')
    return Searcher(store, EMBEDDER)


@settings(max_examples=150, deadline=None)
@given(query=st.text() | st.text(alphabet="\"'()*:^-+{}[]~.,;?!\\ \0ANDORNEAT", max_size=40))
def test_no_question_is_syntax(odd_words: Searcher, query: str) -> None:
    for mode in MODES:
        for hit in odd_words.search(query, 3, mode).hits:
            assert 0 <= hit.score <= 1


@pytest.mark.parametrize(
    "query",
    [
        "",
        "  ",
        "???",
        "AND",
        'NEAR("a" "b", 2)',
        "terms: x",
        "x" * 100_000,
        "乌 " * 50_000,
        "caf\udce9 \ud800",
    ],
)
def test_odd_questions_are_answered(store: SqliteFaissStore, query: str) -> None:
    for mode in MODES:
        assert len(Searcher(store, EMBEDDER).search(query, 2, mode).hits) <= 2


def test_a_question_of_a_thousand_words_is_cut_to_its_rarest(store: SqliteFaissStore) -> None:
    put(store, "rare.md", "The zyzzyva is a weevil.")
    question = " ".join(f"word{n}" for n in range(5000)) + " zyzzyva " + "garden tortoise " * 50
    assert "rare.md" in [h.path for h in Searcher(store, EMBEDDER).search(question, 3, "keyword").hits]


def test_a_search_sees_what_another_handle_wrote_and_forgot(store: SqliteFaissStore) -> None:
    searcher = Searcher(store, EMBEDDER)
    before = searcher.search("tortoise", 3)
    with SqliteFaissStore.open(store.folder) as other:
        other.forget(["tortoise.md"])
        put(other, "new.md", "Another tortoise.")
    after = searcher.search("tortoise", 3)
    assert before.hits[0].path == "tortoise.md" and after.hits[0].path == "new.md"
    assert after.generation == before.generation + 2
    assert "tortoise.md" not in {h.path for h in searcher.search("tortoise", 99).hits}


def test_an_empty_collection_loads_nothing_and_another_embedder_is_refused(tmp_path: Path) -> None:
    class Broken(HashEmbedder):
        def encode_queries(self, texts: object) -> np.ndarray:
            raise AssertionError("nothing is to be embedded")

    with new_store(tmp_path) as store:
        assert Searcher(store, Broken()).search("anything").hits == ()
        put(store, "a", "text")
        assert Searcher(store, Broken()).search("text", 1, "keyword").hits
        with pytest.raises(IndexMismatch, match="rebuild"):
            Searcher(store, HashEmbedder(name="other")).search("text")
        with pytest.raises(ValueError, match="k must"):
            Searcher(store, EMBEDDER).search("text", 0)


def test_a_rebuild_between_the_question_and_its_search_is_noticed(tmp_path: Path) -> None:
    """Otherwise vectors of two embedders would be compared, of equal dimension and without an error."""
    other = HashEmbedder(name="other")

    class Slow(HashEmbedder):
        def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
            vectors = super().encode_queries(texts)
            if texts == ["tortoise"]:
                with SqliteFaissStore.open(tmp_path / "collections" / "test") as writer:
                    rebuild(writer, other, IngestSettings())  # type: ignore[call-arg]
            return vectors

    with new_store(tmp_path) as store:
        put(store, "a", "The tortoise lives in the garden.")
        with pytest.raises(IndexMismatch, match="other"):
            Searcher(store, Slow()).search("tortoise")
        assert Searcher(store, other).search("tortoise").hits


# Phrases and beginnings of words

VOCABULARY = st.sampled_from(["red", "tortoise", "tortoises", "garden", "gate", "R123-78", "花园", "园里"])
SENTENCES = st.lists(VOCABULARY, min_size=1, max_size=8).map(" ".join)


def in_a_row(wanted: tuple[str, ...], terms: list[str]) -> int:
    return sum(tuple(terms[i : i + len(wanted)]) == wanted for i in range(len(terms)))


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(SENTENCES, min_size=1, max_size=8),
    phrase=st.lists(VOCABULARY, min_size=1, max_size=3),
    beginning=st.sampled_from(["", "g*", "ga*", "tortois*", "tortoises*", "r123*", "园*", "x*"]),
    quotes=st.sampled_from(['""', "“”", "「」"]),
)
def test_phrases_and_beginnings_are_brute_force(
    texts: list[str], phrase: list[str], beginning: str, quotes: str
) -> None:
    with tempfile.TemporaryDirectory() as folder, new_store(Path(folder)) as store:
        for n, text in enumerate(texts):
            put(store, f"{n}", text, title="")
        passages = [words.indexed(c.embedding_text("")) for text in texts for c in make_chunks(text)]
        wanted = tuple(words.terms(" ".join(phrase)))
        stems = {"tortoises": ("tortoises", "tortois"), "tortois": ("tortois", "tortoi")}
        starts = stems.get(beginning[:-1], (beginning[:-1],))
        units = [Counter({i: in_a_row(wanted, terms) for i, terms in enumerate(passages)})]
        if beginning:
            units += [
                Counter({i: sum(t.startswith(s) for t in terms) for i, terms in enumerate(passages)})
                for s in starts
            ]
        single = dict.fromkeys(words.query_terms(" ".join(phrase)))
        units += [Counter({i: terms.count(t) for i, terms in enumerate(passages)}) for t in single]
        has_both = {
            i
            for i, terms in enumerate(passages)
            if in_a_row(wanted, terms) and (not beginning or any(t.startswith(starts) for t in terms))
        }
        mean = sum(map(len, passages)) / len(passages)
        expected = {}
        for i in has_both:
            for unit in units:
                n = sum(count > 0 for count in unit.values())
                idf = max(1e-6, math.log((len(passages) - n + 0.5) / (n + 0.5)))
                weight = 2.2 * unit[i] / (unit[i] + 1.2 * (0.25 + 0.75 * len(passages[i]) / mean))
                expected[i + 1] = expected.get(i + 1, 0.0) + idf * weight
        query = f"{quotes[0]}{' '.join(phrase)}{quotes[1]} {beginning}"
        hits = Searcher(store, EMBEDDER).search(query, 99, "keyword").hits
        assert {h.chunk_id: h.keyword_score for h in hits} == pytest.approx(expected, abs=1e-6)
        assert all(0 <= h.score <= 1 for h in hits)
        # Beside meaning they only weigh: nothing is left out.
        assert len(Searcher(store, EMBEDDER).search(query, 99, "hybrid").hits) == len(passages)


@pytest.mark.parametrize(
    ("query", "paths"),
    [
        ('"made of brass"', {"b"}),
        ('"brass tortoise"', {"a"}),
        ('"tortoise brass"', set()),
        ('"the gate"', {"a", "b"}),
        ('"made of" tortoise', {"b"}),
        ("“花园里” 乌龟", {"c"}),
        ('"里花园"', set()),
        ("R12*", {"b"}),
        ("stud*", {"c"}),
        ("study*", {"c"}),
        ("花*", {"c"}),
        ("花园里的*", set()),
        ('"R123-78 fits"', {"b"}),
        ('"', set()),
        ("*", set()),
        ('"" ""', set()),
        ('made of "', {"b"}),
    ],
)
def test_what_is_written_exactly_is_found_exactly(tmp_path: Path, query: str, paths: set[str]) -> None:
    with new_store(tmp_path) as store:
        put(store, "a", "The brass tortoise stands at the gate.")
        put(store, "b", "The gate is made of brass. R123-78 fits.")
        put(store, "c", "Studies: 乌龟住在花园里。")
        hits = Searcher(store, EMBEDDER).search(query, 9, "keyword").hits
        assert {hit.path for hit in hits} == paths


def test_words_that_most_passages_have_are_left_out_of_large_collections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with new_store(tmp_path) as store:
        for n in range(9):
            put(store, f"{n}", f"garden tortoise {'brass' if n == 4 else 'gate'} number{n}")
        before = Searcher(store, EMBEDDER).search("garden tortoise brass", 9, "keyword").hits
        assert len(before) == 9 and before[0].path == "4"
        monkeypatch.setattr("ingest.store.keywords.LEAVE_OUT_FROM", 5)
        after = Searcher(store, EMBEDDER).search("garden tortoise brass", 9, "keyword").hits
        assert [hit.path for hit in after] == ["4"] and after[0].score == pytest.approx(
            before[0].score, abs=1e-5
        )
        assert len(Searcher(store, EMBEDDER).search("garden tortoise", 9, "keyword").hits) == 9
