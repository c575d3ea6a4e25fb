"""Fields and filters: what is written means one thing, in SQL, in Python, as text and as JSON."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import IndexDamaged
from ingest.fields import InvalidField, checked, document_facts, facts, parse_settings, period
from ingest.filters import All, AnyOf, Condition, Filter, InvalidFilter, Not, fits
from ingest.filters.text import parse
from ingest.filters.wire import from_json, to_json
from ingest.search import Searcher
from ingest.store import Source
from ingest.store.connections import make_file
from ingest.store.schema import FILE_NAME, MIGRATIONS, SCHEMA, connect, migrate
from ingest.store.sqlite_faiss import SqliteFaissStore
from ingest.types import Document, Section, StoredDocument, Value
from tests.ingest.making import EMBEDDER, make_chunks, new_store, put

TEXT = "The tortoise lives in the garden behind the house. "


def document(**own: Value) -> StoredDocument:
    return StoredDocument(
        "id", "docs/Report.PDF", "Title", "sha256:0", "r", 10, 1, 12, {}, (), "2026-11-22T08:00:00+00:00", own
    )


def passes(text: str, **own: Value) -> bool:
    return fits(parse(text), document_facts(document(**own)))


# What is written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1 and b = 2 or c = 3", AnyOf((All((Condition("a", "=", 1), Condition("b", "=", 2))), Condition("c", "=", 3)))),
        ("a = 1 and (b = 2 or c = 3)", All((Condition("a", "=", 1), AnyOf((Condition("b", "=", 2), Condition("c", "=", 3)))))),
        ("not a = x and b != y", All((Not(Condition("a", "=", "x")), Condition("b", "!=", "y")))),
        ("not (a = x and b ≥ 2.5)", Not(All((Condition("a", "=", "x"), Condition("b", ">=", 2.5))))),
        ("Tag IN (a, 'b c', 3)", AnyOf((Condition("tag", "=", "a"), Condition("tag", "=", "b c"), Condition("tag", "=", 3)))),
        ("tag not in (a)", Not(AnyOf((Condition("tag", "=", "a"),)))),
        (r'title ~ "say \"hi\" (or not)"', Condition("title", "~", 'say "hi" (or not)')),
        ("作者 = “李 四”", Condition("作者", "=", "李 四")),
        ("created >= 2026-05-01 ", Condition("created", ">=", "2026-05-01")),
        ("code = 007", Condition("code", "=", "007")),
    ],
)  # fmt: skip
def test_text_is_read(text: str, expected: Filter) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("", 1, "empty"),
        ("author", 7, "after 'author'"),
        ('author = "Li" and year >=', 26, "expected a value after >="),
        ('author = "Li', 10, "never closed"),
        ("a = 1 b = 2", 7, "expected 'and'"),
        ("a = 1 and or b = 2", 11, "name of a field"),
        ("(a = 1", 7, r"for the \( at 1"),
        ("a = 1)", 6, "expected 'and'"),
        ("a in b", 6, r"expected \( after in"),
        ("a in (b c)", 9, r"comma or \)"),
        ("a not = 3", 7, "expected in"),
        ("= 3", 1, "name of a field"),
        ("a = !", 5, "cannot stand here"),
        ("a = 1 and\n2 = 3", 11, "name of a field"),
        ("not " * 40 + "a = 1", 133, "nested"),
        ("(" * 40 + "a = 1" + ")" * 40, 34, "nested"),
        ("a in (" + "1, " * 300 + "1)", 607, "more than 200"),
    ],
)
def test_errors_name_the_place(text: str, place: int, what: str) -> None:
    with pytest.raises(InvalidFilter, match=rf"character {place}: .*{what}"):
        parse(text)


@given(
    st.lists(
        st.sampled_from(
            [*"ab=<>!~()',\"“”1.-\\ \n\ud800", " and ", " or ", "not ", " in ", "a = 1", "(a ~ x)"]
        )
    ).map("".join)
)
def test_any_text_is_a_filter_or_an_error(text: str) -> None:
    try:
        found = parse(text)
    except InvalidFilter:
        return
    assert from_json(to_json(found)) == found


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (3, "filters"),
        ({}, "filters"),
        ({"and": []}, "filters.and"),
        ({"and": [{"field": "a", "op": "=", "value": 1}, {"or": 3}]}, r"filters.and\[1\].or"),
        ({"not": {"field": "a", "op": "like", "value": 1}}, "filters.not.op"),
        ({"field": "a", "op": "in", "value": "x"}, "filters.value"),
        ({"field": "a", "op": "in", "value": [1, None]}, r"filters.value\[1\]"),
        ({"field": "", "op": "=", "value": 1}, "filters.field"),
        ({"field": "a", "op": "=", "value": float("nan")}, "filters.value"),
        ({"field": "a", "op": "=", "value": 10**400}, "filters.value"),
        ({"field": "a", "op": "=", "value": 1, "more": 2}, "filters"),
        ("a =", "character 4"),
    ],
)
def test_json_errors_name_the_place(value: object, where: str) -> None:
    with pytest.raises(InvalidFilter, match=where):
        from_json(value)


def test_json_that_is_nested_for_ever_is_refused() -> None:
    value: object = {"field": "a", "op": "=", "value": 1}
    for _ in range(5000):
        value = {"not": value}
    with pytest.raises(InvalidFilter, match="nested"):
        from_json(value)


# What it means


def test_what_operators_mean() -> None:
    assert passes('author = "li, FEI-FEI"', author="Li, Fei-Fei") and not passes(
        "author = Li", author="Li, Fei-Fei"
    )
    assert passes("author ~ fei", author="Li, Fei-Fei")
    assert passes("tag in (x, b)", tag=("a", "b")) and passes("tag = a and tag = b", tag=("a", "b"))
    assert (
        passes("tag != c", tag=("a", "b")) and not passes("tag != a", tag=("a", "b")) and passes("tag != a")
    )
    assert passes("year >= 2020 and year < 2020.5", year=2020) and not passes("year > 2020", year=2020)
    assert (
        not passes("year < 3", year="many")
        and not passes("year > a", year=5)
        and passes('year = "5"', year=5)
    )
    assert passes("pages = 12 and format = pdf and path ~ docs/ and ingested >= 2026")
    assert not passes("nothing = 1") and passes("not nothing = 1")


@pytest.mark.parametrize(
    ("literal", "true"),
    [
        ("2026", "=,<=,>="), ("2026-05", "=,<=,>="), ("2026-05-17", "=,<=,>="), ("2026-04", ">,>=,!="),
        ("2026-06", "<,<=,!="), ("2026-05-17T10:30", "=,<=,>="), ("2026-05-17T12:30+02:00", "=,<=,>="),
        ("2026-05-17T10:31", "<,<=,!="), ("2025", ">,>=,!="), ("9999", "<,<=,!="), ("yesterday", "!="),
    ],
)  # fmt: skip
def test_dates_are_compared_as_the_time_they_name(literal: str, true: str) -> None:
    for operator in ("=", "!=", "<", "<=", ">", ">="):
        expected = operator in true.split(",")
        assert passes(f"created {operator} {literal}", created="2026-05-17T10:30:20Z") == expected, operator


@given(st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 30)), st.integers(0, 3))
def test_a_period_holds_its_moments_and_no_other(moment: datetime, precision: int) -> None:
    span = period(moment.strftime("%4Y-%m-%d %H:%M")[: (4, 7, 10, 16)[precision]].replace(" ", "T"))
    assert span is not None
    seconds = (moment - datetime(1970, 1, 1)).total_seconds()
    assert span[0] <= seconds < span[1]
    formats = ("%Y", "%Y%m", "%Y%m%d", "%Y%m%d%H%M")
    epoch = datetime(1970, 1, 1)
    for at, same in ((span[0], True), (span[1] - 1, True), (span[0] - 1, False)):
        other = epoch + timedelta(seconds=at)
        assert (other.strftime(formats[precision]) == moment.strftime(formats[precision])) == same


def test_what_a_file_says_is_read_generously_and_what_the_user_says_stands_in_front() -> None:
    filed = replace(
        document(), metadata={"Author": "Li; Chen", "keywords": "ai, law", "year": "2020", "odd key": "x"}
    )
    known = document_facts(filed)
    assert fits(parse("author = chen and tags = law and year > 2019 and author ~ 'li; c'"), known)
    assert "odd key" not in known
    for written, tags in (
        ("[contract, 合同]", ("contract", "合同")),
        ("['a b']", ("a b",)),
        ('["x", y]', ("x", "y")),
    ):
        told = document_facts(replace(filed, metadata={"tags": written}))
        assert all(fits(parse(f"tags = '{tag}'"), told) for tag in tags)
    own = document_facts(replace(filed, own={"author": "Wu", "year": "2020"}))
    assert fits(parse("author = wu and author != chen and not year > 2019 and year = '2020'"), own)


@pytest.mark.parametrize(
    ("settings_", "expected"),
    [
        (["year=2020", "price=2.5", "a=-1"], {"year": 2020, "price": 2.5, "a": -1}),
        (["tags=[a, b c,3]"], {"tags": ("a", "b c", 3)}),
        (["tag=a", "tag=b", "tag=c"], {"tag": ("a", "b", "c")}),
        (['code="0042"', "zip=0042", "x="], {"code": "0042", "zip": "0042", "x": None}),
        (["When=2026-05-01", "url=a=b"], {"when": "2026-05-01", "url": "a=b"}),
    ],
)
def test_set_is_typed(settings_: list[str], expected: dict[str, object]) -> None:
    assert parse_settings(settings_) == expected


@pytest.mark.parametrize(
    "setting", ["a", "=3", "1a=3", "and=3", "path=x", "a b=3", "a=" + "x" * 5000, f"{'k' * 65}=1"]
)
def test_set_refuses_what_cannot_be_kept(setting: str) -> None:
    with pytest.raises(InvalidField):
        parse_settings([setting])


@pytest.mark.parametrize(
    "value", [float("inf"), float("nan"), 10**400, {"a": 1}, [["a"]], "\ud800", ["x"] * 500]
)
def test_fields_refuse_what_cannot_be_kept(value: object) -> None:
    with pytest.raises(InvalidField, match="field 'a'"):
        checked({"a": value})


# SQL against brute force

words = st.sampled_from(
    ["a", "B", "b c", "é", "中文", "2020", "2020-05", "2020-05-17", "2021-01-01T00:00", "", "x\0y"]
)
numbers = st.sampled_from([0, 1, -1, 2020, 2021, 2.5, 1e300, -0.0, 2**60, 2**60 + 1])
scalars = st.one_of(words, numbers)
own_fields = st.dictionaries(
    st.sampled_from(["a", "b", "created", "作者"]),
    st.one_of(scalars, st.lists(scalars, max_size=3).map(tuple)),
    max_size=3,
)
fields = st.sampled_from(
    ["a", "b", "created", "作者", "path", "pages", "author", "title", "ingested", "missing"]
)
conditions = st.builds(Condition, fields, st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "~"]), scalars)
filters = st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.builds(lambda parts: All(tuple(parts)), st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: AnyOf(tuple(parts)), st.lists(inner, min_size=1, max_size=3)),
        st.builds(Not, inner),
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteFaissStore]:
    with new_store(tmp_path_factory.mktemp("varied")) as store:
        for n in range(8):
            text = f"{'tortoise ' * (n + 1)} number {n} in the {'garden' if n % 2 else 'house'}. " * 3
            put(store, f"{'ab'[n % 2]}/{n}.md", text, title=f"Title {n % 3}")
        yield store


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_a_filter_is_brute_force(varied: SqliteFaissStore, data: st.DataObject) -> None:
    paths = [d.path for d in varied.documents()]
    path = data.draw(st.sampled_from(paths))
    own = data.draw(own_fields)
    known = varied.document(path).own
    varied.annotate({path: dict.fromkeys(known) | own})
    assert varied.document(path).own == own
    where = data.draw(filters)
    expected = [d.path for d in varied.documents() if fits(where, document_facts(d))]
    assert [d.path for d in varied.documents(where)] == expected
    searcher = Searcher(varied, EMBEDDER)
    for mode in ("dense", "keyword", "hybrid"):
        k = data.draw(st.sampled_from([1, 3, 20]))
        everything = searcher.search("tortoise garden number", 1000, mode).hits
        among = [hit for hit in everything if hit.path in expected]
        found = searcher.search("tortoise garden number", k, mode, where=where).hits
        assert found == tuple(among[:k])


def test_verify_sees_facts_that_are_not_those_of_the_document(tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        put(store, "a", TEXT)
        store.annotate({"a": {"year": 2020}})
        assert store.verify().problems == ()
        with sqlite3.connect(store.file) as connection:
            connection.execute("UPDATE facts SET number = 2021 WHERE field = 'year'")
        connection.close()
        assert any("filters compare" in p for p in store.verify().problems)
        with pytest.raises(IndexDamaged):  # a hit that should not be one is never served
            Searcher(store, EMBEDDER).search("tortoise", 3, "keyword", where=parse("year = 2021"))
        with sqlite3.connect(store.file) as connection:
            connection.execute("UPDATE own SET fields = '{\"year\": 2021}'")
        connection.close()
        assert store.verify().problems
        with pytest.raises(IndexDamaged):
            store.document("a")


# What stays


def test_own_fields_outlive_a_changed_file_and_go_with_a_forgotten_one(tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        put(store, "a", TEXT)
        before = store.generation()
        assert store.annotate({"a": {"year": 2020, "tags": ("x", "y")}, "nowhere": {"b": 1}}) == ("a",)
        assert store.generation() == before + 1
        put(store, "a", TEXT * 2)
        assert store.document("a").own == {"year": 2020, "tags": ("x", "y")}
        assert store.annotate({"a": {"year": None}}) == ("a",)
        assert store.document("a").own == {"tags": ("x", "y")} and store.documents()[0].own == {
            "tags": ("x", "y")
        }
        assert [d.path for d in store.documents(parse("tags = y"))] == ["a"]
        with pytest.raises(InvalidField):
            store.annotate({"a": {f"k{n}": n for n in range(64)}})
        assert store.document("a").own == {"tags": ("x", "y")}
        store.forget(["a"])
        put(store, "a", TEXT)
        assert store.document("a").own == {} and store.verify().problems == ()


def test_a_collection_of_an_older_schema_gets_its_facts(tmp_path: Path) -> None:
    with new_store(tmp_path / "new") as new:
        put(new, "a.md", TEXT, title="Old one")
    folder = tmp_path / "old" / "collections" / "test"
    make_file(folder / FILE_NAME)
    old = connect(folder / FILE_NAME)
    migrate(old, folder / FILE_NAME, MIGRATIONS[:1])
    old.execute("ATTACH ? AS new", (str(new.file),))
    for table in ("embedders", "collection", "documents", "texts", "vectors", "chunks"):
        names = ", ".join(row[1] for row in old.execute(f"PRAGMA main.table_info ({table})"))
        old.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}")
    old.execute("INSERT INTO main.words (rowid, terms) SELECT rowid, terms FROM new.words")
    old.close()
    with SqliteFaissStore.open(folder) as store:
        assert store.status().schema == SCHEMA and store.verify().problems == ()
        assert [d.path for d in store.documents(parse('title = "old one" and author = ünï'))] == ["a.md"]
        assert store.document("a.md").own == {}


def test_a_failure_is_counted_by_content_and_forgotten_with_success(tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        first, other = Source("a", "sha256:1", "r", 5, 7), Source("a", "sha256:2", "r", 5, 7)
        store.note_failures([(first, "broken")])
        store.note_failures([(first, "still")])
        assert (store.failures()["a"].tries, store.failures()["a"].reason) == (2, "still")
        assert store.failures()["a"].source == first
        store.note_failures([(other, "other bytes")])
        assert store.failures()["a"].tries == 1
        put(store, "a", TEXT)
        assert store.failures() == {}
        store.note_failures([(first, "x")])
        store.forget(["a"])
        assert store.failures() == {}


def test_own_fields_may_come_with_the_document(tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        put(store, "a", TEXT)
        text = "text"
        document_ = Document(text, "t", (Section((), 0, 4),))
        chunks = make_chunks(text)
        vectors = EMBEDDER.encode_passages([c.embedding_text("t") for c in chunks])
        stored = store.replace_document(Source("a", "h", "r"), document_, chunks, vectors, {"year": 1})
        assert stored.own == {"year": 1} == store.document("a").own


def test_moments_are_utc() -> None:
    (fact,) = facts("2026-05-17T10:30:20+02:00")
    expected = datetime(2026, 5, 17, 8, 30, 20, tzinfo=UTC).timestamp()
    assert fact.moment == expected
