"""Export, backup and import: what comes back is what went out, and nothing of a hostile file is used."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ingest import transfer
from ingest.__main__ import main
from ingest.collections import InvalidName, list_collections, open_collection
from ingest.errors import SchemaTooNew, StorageFull
from ingest.filters.text import parse
from ingest.search import Searcher
from ingest.store.schema import MIGRATIONS, connect, migrate
from ingest.store.sqlite_faiss import SqliteFaissStore
from ingest.transfer import CollectionExists, InvalidArchive
from tests.ingest.making import EMBEDDER, everything, new_store, put

TEXT = "The tortoise lives in the garden behind the house. "


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteFaissStore]:
    with new_store(tmp_path / "here") as store:
        for n in range(5):
            put(store, f"docs/{n}.md", f"{TEXT} Number {n}. " * 3)
        store.annotate({"docs/1.md": {"year": 2020, "tags": ("a", "b")}})
        yield store


@pytest.mark.parametrize("how", [transfer.export, transfer.backup])
def test_what_comes_back_is_what_went_out(
    store: SqliteFaissStore, tmp_path: Path, how: Callable[[SqliteFaissStore, Path], object]
) -> None:
    before = everything(store)
    hits = Searcher(store, EMBEDDER).search("tortoise number 3", 9).hits
    file = tmp_path / "kb.archive"
    file.write_bytes(b"what was there before")
    how(store, file)
    assert file.stat().st_mode & 0o077 == 0 and [p.name for p in tmp_path.glob("*.*")] == [file.name]
    put(store, "docs/9.md", "written after the export")
    there = tmp_path / "there"
    for name, expected in ((None, "test"), ("合同", "合同")):
        status = transfer.import_(file, there, name)
        assert (status.collection, status.documents, status.writer) == (expected, 5, None)
        with open_collection(there, expected) as copy:
            assert everything(copy) == before and copy.verify().problems == ()
            assert Searcher(copy, EMBEDDER).search("tortoise number 3", 9).hits == hits
            assert [d.path for d in copy.documents(parse("tags = b"))] == ["docs/1.md"]
            again = put(copy, "docs/1.md", "changed")
            assert again.document_id == before["docs/1.md"][0].document_id  # type: ignore[attr-defined]
            assert copy.generation() == status.generation + 1
    assert list_collections(there) == ["test", "合同"]
    with pytest.raises(CollectionExists, match="--collection"):
        transfer.import_(file, there)
    with pytest.raises(InvalidName):
        transfer.import_(file, there, "../x")
    assert sorted(p.name for p in (there / "collections").iterdir()) == ["test", "合同"]


def test_what_was_forgotten_does_not_make_an_export_look_like_a_bomb(
    store: SqliteFaissStore, tmp_path: Path
) -> None:
    with closing(connect(store.file)) as connection:  # what a large document leaves: pages of zeros
        connection.execute("CREATE TABLE large (document BLOB)")
        connection.execute("INSERT INTO large VALUES (zeroblob(30000000))")
        connection.execute("DROP TABLE large")
    before = everything(store)
    assert transfer.export(store, tmp_path / "kb.zip").size < 3_000_000
    transfer.import_(tmp_path / "kb.zip", tmp_path / "there")
    with open_collection(tmp_path / "there", "test") as copy:
        assert everything(copy) == before and copy.verify().problems == ()


def test_a_backup_while_somebody_writes_is_of_one_moment(store: SqliteFaissStore, tmp_path: Path) -> None:
    stop = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        while not stop.is_set():
            put(store, f"more/{written % 3}.md", f"{TEXT} Version {written}. " * 5)
            written += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for n in range(4):
            seen = written
            transfer.backup(store, tmp_path / f"{n}.sqlite")
            while written == seen:
                stop.wait(0.01)
    finally:
        stop.set()
        thread.join()
    for n in range(4):
        assert transfer.import_(tmp_path / f"{n}.sqlite", tmp_path / str(n)).documents  # verified on the way


def test_a_file_that_cannot_be_written_leaves_the_old_one(store: SqliteFaissStore, tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match="folder exists"):
        transfer.export(store, tmp_path / "no" / "such" / "folder.zip")
    folder = tmp_path / "target"
    folder.mkdir()
    with pytest.raises(StorageFull):
        transfer.backup(store, folder)  # a folder stands there
    assert list(tmp_path.glob(".*")) == []


# Hostile files


def archive(file: Path, database: bytes, **changes: object) -> Path:
    """An export of these bytes, with a manifest that is right but for the changes."""
    manifest = {
        "format": "lorebase-collection", "version": 1, "collection": "evil", "created_at": "now",
        "schema": len(MIGRATIONS), "documents": 5, "chunks": 9, "embedder_id": None, "embedder_name": None,
        "dimension": None, "size": len(database), "sha256": hashlib.sha256(database).hexdigest(),
    }  # fmt: skip
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("manifest.json", json.dumps(manifest | changes))
        made.writestr("kb.sqlite", database)
    return file


@pytest.fixture
def database(store: SqliteFaissStore, tmp_path: Path) -> bytes:
    transfer.backup(store, tmp_path / "b.sqlite")
    return (tmp_path / "b.sqlite").read_bytes()


def changed(database: bytes, tmp_path: Path, *statements: str) -> bytes:
    file = tmp_path / "changed.sqlite"
    file.write_bytes(database)
    connection = sqlite3.connect(file)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return file.read_bytes()


def refused(file: Path, home: Path, why: str) -> None:
    with pytest.raises(InvalidArchive, match=why):
        transfer.import_(file, home)
    assert list((home / "collections").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"sha256": "0" * 64}, "hash"),
        ({"size": 7}, "not as large"),
        ({"format": "something"}, "format"),
        ({"version": 2}, "version"),
        ({"size": -1}, "size"),
        ({"collection": None}, "collection"),
    ],
)
def test_a_manifest_that_lies(database: bytes, tmp_path: Path, changes: dict[str, object], why: str) -> None:
    refused(archive(tmp_path / "x.zip", database, **changes), tmp_path / "home", why)


def test_a_name_that_leads_elsewhere(database: bytes, tmp_path: Path) -> None:
    file = archive(tmp_path / "x.zip", database, collection="../../x")
    with pytest.raises(InvalidName):
        transfer.import_(file, tmp_path / "home")
    assert list((tmp_path / "home" / "collections").iterdir()) == []


STATEMENTS = {
    "a trigger": ("CREATE TRIGGER t AFTER UPDATE ON collection BEGIN DELETE FROM documents; END", "tables"),
    "a view in a table's place": ("ALTER TABLE own RENAME TO o", "tables"),
    "another table": ("CREATE TABLE more (x)", "tables"),
    "a changed text": ("UPDATE texts SET text = replace(text, 'tortoise', 'hare')", "checksum"),
    "changed facts": ("UPDATE facts SET number = 2021 WHERE field = 'year'", "filters compare"),
    "values of other types": ("UPDATE chunks SET heading_path = 'no json' WHERE chunk_id = 1", "checksum"),
    "a newer schema": ("PRAGMA user_version = 99", "schema 99"),
    "no schema": ("PRAGMA user_version = 0", "schema number is 0"),
    "another program's": ("PRAGMA application_id = 1", "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("what", STATEMENTS)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_database_that_is_not_ours(database: bytes, tmp_path: Path, what: str, zipped: bool) -> None:
    statement, why = STATEMENTS[what]
    content = changed(database, tmp_path, statement)
    file = tmp_path / "x"
    if zipped:
        archive(file, content)
    else:
        file.write_bytes(content)
    with pytest.raises((InvalidArchive, SchemaTooNew), match=why):
        transfer.import_(file, tmp_path / "home")
    assert list((tmp_path / "home" / "collections").iterdir()) == []


def test_rows_with_right_checksums_and_wrong_shapes(database: bytes, tmp_path: Path) -> None:
    from ingest.store.schema import checksum

    file = tmp_path / "x.sqlite"
    file.write_bytes(database)
    connection = sqlite3.connect(file)
    fields = '{"year": {"a": [1]}}'
    connection.execute("UPDATE own SET fields = ?, checksum = ?", (fields, checksum("docs/1.md", fields)))
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    refused(file, tmp_path / "home", "rows are not|agree")


def test_archives_that_are_none(database: bytes, tmp_path: Path) -> None:
    home, file = tmp_path / "home", tmp_path / "x.zip"
    good = archive(file, database).read_bytes()
    for content, why in (
        (b"", "neither"),
        (b"hello", "neither"),
        (b"PK\3\4 and then nothing", "damaged"),
        (good[: len(good) // 2], "damaged"),
        (good[:100] + bytes([good[100] ^ 0xFF]) + good[101:], "."),
        (b"SQLite format 3\0" + b"\0" * 5000, "damaged"),
        (database[: len(database) // 2], "damaged"),
    ):
        file.write_bytes(content)
        refused(file, home, why)
    refused(tmp_path / "missing.zip", home, "No such file")
    for names in (
        ["kb.sqlite"],
        ["manifest.json"],
        ["manifest.json", "kb.sqlite", "../../x"],
        ["manifest.json", "/kb.sqlite"],
    ):
        with zipfile.ZipFile(file, "w") as made:
            for name in names:
                made.writestr(name, "x")
        refused(file, home, "nothing else")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(file, "w") as made:
        for name in ("manifest.json", "kb.sqlite", "kb.sqlite"):
            made.writestr(name, "x")
    refused(file, home, "nothing else")
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("manifest.json", "[" * 100_000)
        made.writestr("kb.sqlite", "x")
    refused(file, home, "longer than")
    refused(archive(file, b"\0" * 50_000_000), home, "bomb")


def test_names_of_index_files_are_thrown_away(database: bytes, tmp_path: Path) -> None:
    content = changed(
        database,
        tmp_path,
        "INSERT INTO snapshots VALUES ('../../../x', 'a', 1, 1, 1, 'e', 1, 1, 1, 1.0, 'now', x'00')",
        "INSERT INTO failures VALUES ('secret', 'h', 'r', 1, 1, 1, 'why')",
    )
    transfer.import_(archive(tmp_path / "x.zip", content), tmp_path / "home")
    with open_collection(tmp_path / "home", "evil") as store:
        assert store.failures() == {}
    connection = sqlite3.connect(store.file)
    assert connection.execute("SELECT count(*) FROM snapshots").fetchone() == (0,)
    connection.close()


def test_a_database_in_use_is_not_taken_for_a_backup(store: SqliteFaissStore, tmp_path: Path) -> None:
    put(store, "docs/x.md", "in the log, not in the file")
    refused(store.file, tmp_path / "home", "ingest backup")


def test_a_backup_of_an_older_schema(tmp_path: Path) -> None:
    file = tmp_path / "old" / "kb.sqlite"
    file.parent.mkdir()
    file.touch()
    old = connect(file)
    migrate(old, file, MIGRATIONS[:1])
    old.execute(
        "INSERT INTO collection (one, name, uid, created_at, generation, documents, chunks, words_version)"
        " VALUES (1, 'old', 'u', 'then', 0, 0, 0, 1)"
    )
    old.close()
    shutil.copy(file, tmp_path / "old.sqlite")
    status = transfer.import_(tmp_path / "old.sqlite", tmp_path / "home")
    assert (status.collection, status.schema) == ("old", len(MIGRATIONS))


def test_on_the_command_line(
    store: SqliteFaissStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, home = str(tmp_path / "kb.zip"), str(tmp_path / "there")
    here = ["--home", str(tmp_path / "here"), "--collection", "test"]
    assert main(["export", file, *here]) == 0 and "5 documents" in capsys.readouterr().out
    assert (
        main(["backup", str(tmp_path / "kb.sqlite"), *here]) == 0 and "MB written" in capsys.readouterr().out
    )
    assert main(["import", file, "--home", home]) == 0 and "collection test" in capsys.readouterr().out
    assert main(["import", file, "--home", home]) == 2 and "already" in capsys.readouterr().err
