"""The embedded store's documents beyond what every store promises (`tests/ingest/test_store_contract.py`)."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from ingest import words
from ingest.collections import InvalidName, checked_name, delete_collection, list_collections, open_collection
from ingest.errors import (
    IndexDamaged,
    IngestError,
    SchemaTooNew,
    UnknownCollection,
)
from ingest.store.schema import APPLICATION_ID, MIGRATIONS, migrate
from ingest.store.sqlite_faiss import SqliteFaissStore
from tests.ingest.making import EMBEDDER, TEXT, new_store, put


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        put(store, "a", TEXT)
        for file in store.folder.iterdir():
            assert file.stat().st_mode & 0o077 == 0, file
    assert store.folder.stat().st_mode & 0o077 == 0


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
        monkeypatch.setattr(words, "indexed", lambda text: [w.upper() for w in text.split()])
        assert store.verify().problems == ()  # old words, known to be old
        store.forget(["a"])
        assert store.verify().problems == ()
        assert store.matching(["TORTOISE"], 9) and not store.matching(["tortois"], 9)


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


def test_the_header_names_the_program(tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        put(store, "a", TEXT)
    assert store.file.read_bytes()[68:72] == APPLICATION_ID.to_bytes(4) == b"LORE"
