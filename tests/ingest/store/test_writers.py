"""One writer at a time, readers beside it, and what a kill or a full disk leaves: all that was acknowledged."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ingest.errors import CollectionLocked, StorageFull
from ingest.store.sqlite_faiss import SqliteFaissStore
from tests.ingest.making import TEXT, everything, new_store, put, watched_publishes

ROOT = Path(__file__).resolve().parents[3]


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


def test_readers_see_one_generation_each_while_another_store_publishes(tmp_path: Path) -> None:
    store, writer = new_store(tmp_path), new_store(tmp_path)
    seen = watched_publishes(store, writer, publishes=50, readers=3)
    assert len(seen) > 3
    assert store.generation() == 51
    store.close()
    writer.close()
