"""Milvus away, killed, shared and left: over a Milvus Lite that answers as a server does, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest import transfer
from ingest.__main__ import main
from ingest.collections import delete_collection, list_collections, open_collection
from ingest.errors import (
    CollectionLocked,
    IndexDamaged,
    IngestError,
    SchemaTooNew,
    StorageFull,
    StoreUnavailable,
    UnknownCollection,
)
from ingest.fields import MOST_FIELDS, InvalidField
from ingest.store.milvus import changes, tables
from ingest.store.milvus import server as servers
from ingest.store.milvus.address import parse
from ingest.store.milvus.state import State, read_state
from ingest.store.milvus.store import MilvusStore
from tests.ingest.making import EMBEDDER, everything, make_chunks, put
from tests.milvus import Milvus

pytest.importorskip("pymilvus", reason="the extra milvus is not installed")
pytest.importorskip("milvus_lite", reason="Milvus Lite is not installed")

TEXT = "The tortoise lives in the garden. 乌龟住在花园里。 " * 3


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Milvus]:
    running = Milvus(tmp_path_factory.mktemp("milvus") / "base.db")
    running.start()
    yield running
    running.kill()


def opened(at: str, home: Path, name: str, create: bool = True, **options: float) -> MilvusStore:
    return MilvusStore.open(parse(at), name, home / "collections" / name, create=create, **options)  # type: ignore[arg-type]


def test_a_server_that_goes_away_and_comes_back(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Away in the middle of a write and of a question: an error, the old state, and then everything goes on."""
    milvus = Milvus(tmp_path / "base.db")
    milvus.start()
    try:
        store = opened(milvus.at(timeout_s=4.0), tmp_path, "kb", lease_s=60.0)
        put(store, "a", TEXT)
        before = everything(store)
        query = EMBEDDER.encode_queries(["tortoise"])[0]
        found = store.nearest(query, 9)
        milvus.kill()
        with pytest.raises(StoreUnavailable, match="does not answer"):
            store.nearest(query, 9)
        with pytest.raises(StoreUnavailable, match="does not answer"):
            put(store, "b", TEXT)
        milvus.start()
        assert store.nearest(query, 9) == found and everything(store) == before
        put(store, "b", TEXT)
        # A restart that is shorter than the deadline costs nothing but time.
        patient = opened(milvus.at(timeout_s=30.0), tmp_path, "kb", lease_s=60.0)
        milvus.kill()
        late = threading.Timer(1.0, milvus.start)
        late.start()
        assert [d.path for d in patient.documents()] == ["a", "b"]
        late.join()
        # A write that broke off between its rows and its commit: nobody sees them, the next writer removes them.
        real = store._server.upsert

        def breaks(table: str, rows: list[dict[str, object]], most: int = 500) -> None:
            if rows[0].get("kind") == "document":
                raise StoreUnavailable("away")
            real(table, rows, most)

        store._server.upsert = breaks  # type: ignore[method-assign]
        with pytest.raises(StoreUnavailable):
            put(store, "a", "A new version.")
        store._server.upsert = real  # type: ignore[method-assign]
        assert store.text("a") == TEXT and patient.verify().problems == ()
        put(store, "c", "Another one.")
        assert store.verify().problems == () and store.text("a") == TEXT
        held = store._server.count(store._state().passages or "", "row >= 0")
        assert held == store.status().chunks
        patient.close()
        store.close()
    finally:
        milvus.kill()


def test_a_connection_that_one_thread_drops_costs_the_others_nothing(milvus: Milvus, tmp_path: Path) -> None:
    """Calls of several threads share one; whoever finds it broken makes a new one."""
    opened(milvus.at(), tmp_path, "dropped").close()
    server = servers.Server(parse(milvus.at()))
    records = tables.stem("dropped") + tables.RECORDS
    failed: list[Exception] = []
    done = threading.Event()

    def call() -> None:
        try:
            while not done.is_set():
                server.call("has_collection", "nothing_of_the_kind")
                assert len(list(server.rows(records, 'key == "state"', ["key"]))) == 1
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        done.wait(0.05)
        server.disconnect()
    done.set()
    for thread in threads:
        thread.join()
    server.disconnect()
    assert not failed, failed[0]


WRITER = """
import pathlib, sys
from ingest.store.milvus.address import parse
from ingest.store.milvus.store import MilvusStore
from tests.ingest.making import put
home = pathlib.Path(sys.argv[2])
store = MilvusStore.open(parse(sys.argv[1]), "killed", home / "collections" / "killed", create=True, wait_s=30.0)
with store.writing("a long ingest"):
    n = 0
    while True:
        n += 1
        put(store, f"{n % 3}.md", f"version {n} of a text. " * 40)
        print(n, flush=True)
"""


@pytest.mark.parametrize("same_machine", [True, False])
def test_a_killed_writer_loses_nothing_acknowledged_and_holds_nobody_up(
    milvus: Milvus, tmp_path: Path, same_machine: bool
) -> None:
    """Another data folder stands for another machine: there only the lease tells that the writer is gone."""
    home = tmp_path if same_machine else tmp_path / "other machine"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, milvus.at(), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert process.stdout is not None
    last = 0
    while last < 4:
        last = int(process.stdout.readline())
    store = opened(milvus.at(), home, "killed", create=False, wait_s=0.0, lease_s=2.0)
    with pytest.raises(CollectionLocked, match="a long ingest"):
        store.forget(["1.md"])
    process.kill()
    last = max([last, *map(int, process.stdout.read().split())])
    process.wait()
    process.stdout.close()
    with store.writing("after", wait_s=0.0 if same_machine else 20.0):
        assert store.verify().problems == ()
        versions = {d.path: int(store.text(d.path).split()[1]) for d in store.documents()}
        newest = max(versions.values())
        assert last <= newest <= last + 1  # the one in the middle is old or new, whole
        assert versions == {f"{n % 3}.md": n for n in range(newest - 2, newest + 1)}
        put(store, "after", TEXT)
    store.close()
    delete_collection(home, "killed", at=milvus.at())


def test_two_processes_share_one_base(milvus: Milvus, tmp_path: Path) -> None:
    at = milvus.at()
    asked = "import json, pathlib, sys; from tests.ingest.test_store_milvus import *\n"
    asked += "store = opened(sys.argv[1], pathlib.Path(sys.argv[2]), 'shared', create=False)\n"
    asked += "print(json.dumps([[d.path, store.text(d.path)] for d in store.documents()]))\n"
    with opened(at, tmp_path / "one", "shared") as store:
        put(store, "a", TEXT)
        put(store, "b", "Second.")
        told = subprocess.run(
            [sys.executable, "-c", asked, at, str(tmp_path / "two")],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).resolve().parents[2],
        ).stdout
        assert json.loads(told.splitlines()[-1]) == [["a", TEXT], ["b", "Second."]]


def test_collections_are_listed_deleted_and_made_again(milvus: Milvus, tmp_path: Path) -> None:
    at = milvus.at()
    store = open_collection(tmp_path, "合同 2026", create=True, at=at)
    put(store, "a", TEXT)  # type: ignore[arg-type]
    assert "合同 2026" in list_collections(tmp_path, at) and list_collections(tmp_path) == []
    delete_collection(tmp_path, "合同 2026", at=at)
    assert "合同 2026" not in list_collections(tmp_path, at)
    with pytest.raises(UnknownCollection):
        store.documents()
    with open_collection(tmp_path, "合同 2026", create=True, at=at) as again:
        put(again, "b", TEXT)  # type: ignore[arg-type]
        assert [d.path for d in store.documents()] == ["b"]
    with pytest.raises(UnknownCollection, match="nothing"):
        open_collection(tmp_path, "nothing", at=at)
    store.close()
    delete_collection(tmp_path, "合同 2026", at=at)


def test_what_was_forgotten_leaves_milvus(milvus: Milvus, tmp_path: Path) -> None:
    store = opened(milvus.at(), tmp_path, "gone")
    put(store, "a", TEXT)
    put(store, "a", "Another text.")
    store.annotate({"a": {"x": 1}})
    store.forget(["a"])
    store.close()  # waits until no reader can want it
    with opened(milvus.at(), tmp_path, "gone", create=False) as store:
        state = store._state()
        assert (state.documents, state.chunks, state.characters, state.words, state.dead) == (0, 0, 0, 0, [])
        assert store._server.count(state.passages or "", "row >= 0") == 0
        assert store._server.count(store._kb.records, 'kind in ["document", "text", "claim"]') == 0
        store.drop()


def test_a_commit_whose_answer_was_lost_is_not_swept_away(milvus: Milvus, tmp_path: Path) -> None:
    """Heard, not answered, and Milvus away for a moment longer: the same writer goes on from what was committed."""
    with opened(milvus.at(), tmp_path, "unsure") as store:
        put(store, "a", TEXT)
        upsert, rows = store._server.upsert, store._server.rows

        def deaf(table: str, written: list[dict[str, object]], most: int = 500) -> None:
            upsert(table, written, most)
            if written[0]["key"] == "state":
                store._server.rows = away  # type: ignore[method-assign, assignment]
                raise StoreUnavailable("the answer was lost")

        def away(*_: object) -> None:
            raise StoreUnavailable("still away")

        with store.writing("a long ingest"):
            store._server.upsert = deaf  # type: ignore[method-assign]
            with pytest.raises(StoreUnavailable, match="lost"):
                put(store, "b", "A second text.")
            store._server.upsert, store._server.rows = upsert, rows  # type: ignore[method-assign]
            put(store, "c", "A third text.")
        assert [d.path for d in store.documents()] == ["a", "b", "c"]
        assert store.text("b") == "A second text." and store.verify().problems == ()
        store.drop()


def test_a_state_holds_as_many_dead_as_a_writer_leaves() -> None:
    state = State("合同 2026", "2026-11-22T15:00:00.000Z", 1, documents=10**9, next_version=10**10)
    for version in range(2 * changes.MOST_AT_ONCE):
        state.dead.append((10**9 + 7 * version, 1.7e9 + version * 0.317, 10**9 + 3 * version))
    row = state.row()
    assert len(row["body"].encode()) < tables.LONGEST and read_state(row) == state
    plain = State("x", "now", 1)
    assert plain.row()["body"].startswith("{") and read_state(plain.row()) == plain


def test_many_documents_change_and_go_in_steps(
    milvus: Milvus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MOST_AT_ONCE", 3)
    paths = [f"{n}.md" for n in range(7)]
    with opened(milvus.at(grace_s=0.05), tmp_path, "many") as store:
        for path in paths:
            put(store, path, TEXT)
        store.annotate({"6.md": {f"f{n}": n for n in range(MOST_FIELDS)}})
        generation = store.generation()
        with pytest.raises(InvalidField):  # the last one cannot be: then none of them changes
            store.annotate({path: {"one more": 1} for path in paths})
        assert store.generation() == generation and not any(d.own for d in store.documents()[:6])
        assert store.annotate({path: {"f1": 2} for path in [*paths, "nobody.md"]}) == tuple(paths)
        assert [d.own["f1"] for d in store.documents()] == [2] * 7 and store.verify().problems == ()
        assert store.forget([*reversed(paths), "nobody.md"]) == tuple(reversed(paths))
        assert store.documents() == [] and len(store._state().dead) < 6
        store.drop()


def test_rows_that_are_not_what_was_written_are_found_and_not_served(milvus: Milvus, tmp_path: Path) -> None:
    with opened(milvus.at(), tmp_path, "damaged") as store:
        for what in ("text", "vector", "facts", "codes", "row", "state"):
            put(store, "a", TEXT)
            assert store.verify().problems == ()
            server, table = store._server, store._state().passages or ""
            row = next(iter(server.rows(table, store._state().visible, ["*"])))
            row.pop("sparse", None)
            if what == "row":
                server.call("delete", table, filter=f"row == {row['row']}")
            elif what == "state":
                state = store._state()
                state.chunks += 1
                server.upsert(store._kb.records, [state.row()])
            else:
                wrong = {"text": "other", "codes": "t0", "facts": {"x": {"t": []}}}
                row[what] = [1.0, *[0.0] * (EMBEDDER.dimension - 1)] if what == "vector" else wrong[what]
                server.upsert(table, [row])
            assert store.verify().problems, what
            if what in ("text", "vector", "row"):
                with pytest.raises(IndexDamaged):
                    store.chunks("a")
        state = store._state()
        state.schema = 99
        store._server.upsert(store._kb.records, [state.row()])
        with pytest.raises(SchemaTooNew, match="99"):
            store.documents()
        store._server.call("drop_collection", store._kb.records)


def test_a_text_that_is_too_long_for_milvus_costs_its_file_only(milvus: Milvus, tmp_path: Path) -> None:
    with opened(milvus.at(), tmp_path, "long") as store:
        put(store, "a", TEXT)
        with pytest.raises(IngestError, match="smaller passages"):
            text = "word " * 20_000
            chunk = make_chunks(text, len(text))
            vectors = EMBEDDER.encode_passages([chunk[0].embedding_text("Title")])
            from ingest.store import Source
            from tests.ingest.making import make_document

            store.replace_document(Source("b", "", ""), make_document(text), chunk, vectors)
        assert [d.path for d in store.documents()] == ["a"] and store.verify().problems == ()
        store.drop()


def test_a_collection_moves_both_ways(milvus: Milvus, tmp_path: Path) -> None:
    at, home = milvus.at(), tmp_path / "home"
    with open_collection(home, "moving", create=True) as embedded:
        for n in range(5):
            put(embedded, f"d{n}", f"{n} {TEXT}")  # type: ignore[arg-type]
        embedded.annotate({"d1": {"author": ("Li", "Wang"), "year": 2020}})
        embedded.fix_chunking("100-10")
        transfer.export(embedded, tmp_path / "one.zip")
        before = everything(embedded)  # type: ignore[arg-type]
    status = transfer.import_(tmp_path / "one.zip", tmp_path / "there", at=at)
    assert (status.documents, status.chunking) == (5, "100-10")
    with pytest.raises(transfer.CollectionExists):
        transfer.import_(tmp_path / "one.zip", tmp_path / "there", at=at)
    with open_collection(tmp_path / "there", "moving", at=at) as moved:
        assert everything(moved) == before and moved.verify().problems == ()  # type: ignore[arg-type]
        with pytest.raises(IngestError, match="export"):
            transfer.backup(moved, tmp_path / "no.sqlite")
        transfer.export(moved, tmp_path / "two.zip")
        with pytest.raises(StorageFull):
            transfer.export(moved, tmp_path / "no" / "folder.zip")
    transfer.import_(tmp_path / "two.zip", tmp_path / "back")
    with open_collection(tmp_path / "back", "moving") as back:
        assert everything(back) == before and back.verify().problems == ()  # type: ignore[arg-type]
    delete_collection(tmp_path / "there", "moving", at=at)


def test_the_commands_are_the_same(
    milvus: Milvus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOREBASE_HOME", str(tmp_path / ".lorebase"))
    monkeypatch.setenv("LOREBASE_INGEST_STORE", milvus.at())
    monkeypatch.setattr("ingest.__main__._find", lambda *_, **__: EMBEDDER)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Tortoise\n\nThe tortoise lives in the garden.")
    for command in (
        "docs",
        "docs",
        "search tortoise --mode keyword",
        "list",
        "status",
        "verify",
        "collections",
    ):
        assert main(command.split()) == 0
    told = capsys.readouterr().out
    assert "1 added" in told and "1 unchanged" in told and "The tortoise lives in the garden" in told
    assert "every hash and count agrees" in told and "default" in told
    assert not (tmp_path / ".lorebase" / "collections" / "default" / "kb.sqlite").exists()
    assert main(["forget", "docs/a.md"]) == 0
    monkeypatch.setenv("LOREBASE_INGEST_STORE", "milvus+http://127.0.0.1:9?timeout_s=0.3")
    assert main(["status"]) == 2
    assert "does not answer" in capsys.readouterr().err
