"""Disks that refuse, fill up or lie: a clear failure, the old state serves, a retry succeeds."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.errors import IngestError, StorageFull
from ingest.store import connections
from ingest.store.sqlite_faiss import SqliteFaissStore
from tests.ingest import lives
from tests.ingest.faults import EIO, ENOSPC, Disk, Fault, watched
from tests.ingest.lives import NIGHTLY, Step, open_store, sound, state
from tests.ingest.sqlite_door import sqlite_library

pytestmark = [
    pytest.mark.skipif(
        sqlite_library() is None, reason="Python's SQLite is linked in statically: its disk cannot be watched"
    ),
    pytest.mark.timeout(6 * 3600 if NIGHTLY else 300),
]


def live(
    disk: Disk, steps: list[Step], before: lives.State, fault: Fault, large: bool, cuts: int = 1
) -> Counter[str]:
    """Live a life on a disk on which one operation fails (or all from there on); then mend the disk."""
    counts: Counter[str] = Counter()
    disk.arm(fault)
    store: SqliteFaissStore | None = None
    while store is None:
        try:
            store = open_store(disk.root, large)
        except IngestError:
            assert disk.fired
            counts["fired"] += disk.fired
            disk.arm(None)
    now = before
    for step in steps:
        try:
            step.do(store)
        except IngestError as error:
            assert disk.fired, f"{step.name} failed on a good disk"
            assert isinstance(error, StorageFull), error
            counts["refused"] += 1
            armed, disk.fault = disk.fault, None  # looking needs no disk, but SQLite may have to recover
            assert state(store) == now, f"{step.name} failed, and something of it is there"
            disk.fault = armed
            if fault.for_ever:
                counts["fired"] += disk.fired
                disk.arm(None)  # somebody has made room
            step.do(store)
        now = step.after
        if NIGHTLY or not large or disk.fired:
            assert state(store) == now, step.name
    counts["fired"] += disk.fired
    disk.arm(None)
    last = len(disk.log)  # everything was acknowledged: a power cut at this moment loses nothing
    for seed in range(4 if NIGHTLY else cuts):
        cut = disk.left(last, random.Random(seed))
        target = disk.root.parent / "cut"
        disk.lay(cut, target)
        sound(target, [now], large)
        shutil.rmtree(target)
    store.close()
    sound(disk.root, [now], large)
    return counts


def fail_everywhere(
    make: Callable[[Path], lives.State], steps: list[Step], scratch: Path, *, every: int, large: bool
) -> Counter[str]:
    """A life for each operation that can fail, until none is left to fail."""
    counts: Counter[str] = Counter()
    template = (scratch / "template").resolve()
    template.mkdir()
    before = make(template)
    kinds = [("sync", "syncdir"), ("create", "mkdir", "rename", "unlink", "truncate"), ("write",)]
    for chosen in kinds:
        for code in (EIO, ENOSPC):
            for for_ever in (False, True) if NIGHTLY or not large else (code == ENOSPC,):
                at = 1
                while True:
                    root = scratch / "home"
                    shutil.copytree(template, root)
                    disk = Disk(root.resolve())
                    with watched(disk):
                        met = live(disk, steps, before, Fault(at, code, for_ever, chosen), large)
                    counts += met
                    counts["lives"] += 1
                    shutil.rmtree(root)
                    if not met["fired"]:
                        break
                    at += every * (8 if chosen == ("write",) else 1)
    return counts


def nothing(_: Path) -> lives.State:
    return {}, lives.EMBEDDER.name


def large(root: Path) -> lives.State:
    return lives.make_large(root), lives.EMBEDDER.name


def test_any_operation_may_fail_in_a_small_life(tmp_path: Path) -> None:
    counts = fail_everywhere(nothing, lives.small_life(), tmp_path, every=1 if NIGHTLY else 9, large=False)
    print(f"\n{dict(counts)}")
    assert counts["refused"] > 8


def test_any_operation_may_fail_while_a_snapshot_is_published(tmp_path: Path) -> None:
    counts = fail_everywhere(
        large,
        lives.large_life({str(n): lives.long_text(n + 20, 60) for n in range(6)}),
        tmp_path,
        every=1 if NIGHTLY else 13,
        large=True,
    )
    print(f"\n{dict(counts)}")
    assert counts["fired"] > 5


@pytest.mark.parametrize("again", [True, False])
def test_a_commit_whose_sync_failed_takes_no_later_one_with_it(tmp_path: Path, again: bool) -> None:
    """The log shows such a commit as long as the machine is up; what is written behind it must not hang on it."""
    root = tmp_path.resolve() / "home"
    root.mkdir()
    disk = Disk(root)
    with watched(disk):
        store = open_store(root)
        lives.put(store, "a", "first")
        disk.arm(Fault(1, EIO, True, ("sync", "syncdir")))
        with pytest.raises(StorageFull):
            lives.put(store, "b", "not on the disk")
        if again:  # as the next program finds it
            store.close()
            store = open_store(root)
        disk.arm(None)
        lives.put(store, "c", "acknowledged")
        for seed in range(6):
            disk.lay(disk.left(len(disk.log), random.Random(seed)), tmp_path / "cut")
            with open_store(tmp_path / "cut") as left:
                assert {"a", "c"} <= {d.path for d in left.documents()}
            shutil.rmtree(tmp_path / "cut")
        store.close()


# What SQLite must be told, and what its log looks like when it is torn


def test_every_connection_that_writes_syncs_fully_and_logs_ahead(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Looked at where each write transaction ends, so that no connection is left out."""
    seen: list[tuple[object, ...]] = []
    real = connections.Connections.transaction

    def looked_at(self: connections.Connections):  # type: ignore[no-untyped-def]
        from contextlib import contextmanager

        @contextmanager
        def block():  # type: ignore[no-untyped-def]
            with real(self) as connection:
                pragmas = ("synchronous", "journal_mode", "foreign_keys", "secure_delete", "locking_mode")
                seen.append(tuple(connection.execute(f"PRAGMA {p}").fetchone()[0] for p in pragmas))
                yield connection

        return block()

    monkeypatch.setattr(connections.Connections, "transaction", looked_at)
    with open_store(tmp_path) as store:
        for step in lives.small_life():
            step.do(store)
    assert len(seen) >= len(lives.small_life())
    assert set(seen) == {(3, "wal", 1, 1, "normal")}


def test_a_torn_log_leaves_what_was_whole_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is cut, and garbled, at every frame and inside each; oracle: which commits ended before it."""
    monkeypatch.setattr(connections.Connections, "empty_log", lambda self: None)  # one log of all commits
    root = tmp_path / "home"
    ends: list[tuple[int, lives.State]] = []
    with open_store(root) as store:
        folder, wal = store.folder, store.file.with_name("kb.sqlite-wal")
        ends.append((wal.stat().st_size, state(store)))
        for step in lives.small_life():
            step.do(store)
            ends.append((wal.stat().st_size, step.after))
        database, log = store.file.read_bytes(), wal.read_bytes()
    assert [size for size, _ in ends] == sorted({size for size, _ in ends})  # each commit made it longer
    frame = 24 + 4096
    frames = (len(log) - 32) // frame
    assert len(log) == 32 + frames * frame and frames > 60
    draw = random.Random(7)
    first = ends[0][0]
    chosen = range(frames) if NIGHTLY else sorted(draw.sample(range(frames), 24))
    for number in chosen:
        start = 32 + number * frame
        for cut in (start, start + 24, start + draw.randrange(frame)):
            if cut >= first:
                look_at(folder, database, log[:cut], [s for size, s in ends if size <= cut][-1], tmp_path)
        if start >= first:
            torn = bytearray(log)
            torn[start + draw.randrange(frame)] ^= 1 << draw.randrange(8)
            look_at(folder, database, bytes(torn), [s for size, s in ends if size <= start][-1], tmp_path)


def look_at(folder: Path, database: bytes, log: bytes, expected: lives.State, scratch: Path) -> None:
    target = scratch / "torn" / "collections" / folder.name
    target.mkdir(parents=True)
    (target / "kb.sqlite").write_bytes(database)
    (target / "kb.sqlite-wal").write_bytes(log)
    sound(scratch / "torn", [expected])
    shutil.rmtree(scratch / "torn")


def test_a_full_database_says_so_at_every_size_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """SQLITE_FULL at each number of pages at which a step can run out."""
    steps = lives.small_life(times=40)
    refused = 0
    for room in range(0, 30, 1 if NIGHTLY else 6):
        root = tmp_path / str(room)
        with open_store(root) as store:
            now = state(store)
            with store._connections.reading() as connection:
                pages = connection.execute("PRAGMA page_count").fetchone()[0]
            limit(store, pages + room)
            for step in steps:
                try:
                    step.do(store)
                except StorageFull as error:
                    assert "space" in str(error)
                    refused += 1
                    assert state(store) == now
                    limit(store, 1_000_000)
                    step.do(store)
                now = step.after
                assert state(store) == now
        sound(root, [now])
    assert refused > 3


def limit(store: SqliteFaissStore, pages: int) -> None:
    with store._connections.reading() as connection:  # the limit is the connection's, and there is one
        connection.execute(f"PRAGMA max_page_count = {pages}")


def test_a_forgotten_text_is_in_no_file_any_more(tmp_path: Path) -> None:
    """Deleted stays deleted, also for who reads the disk: not in free pages, nor in the log.

    Single words stay in the pages of the keyword index until they are merged; a rebuild merges them.
    """

    def on_disk(what: bytes) -> bool:
        return any(what in f.read_bytes() for f in store.folder.glob("**/*") if f.is_file())

    with open_store(tmp_path) as store:
        lives.put(store, "a", "unmistakable quagga words " * 20)
        assert on_disk(b"quagga words")
        lives.put(store, "b", "something else entirely")
        store.forget(["a"])
    assert not on_disk(b"quagga") and on_disk(b"something else")
    with open_store(tmp_path) as store:
        lives.move(store, lives.OTHER)
    assert not on_disk(b"uagga")  # FTS5 writes a term without what it shares with the one before
    connection = sqlite3.connect(store.file)
    assert connection.execute("SELECT count(*) FROM words_df WHERE term = 'quagga'").fetchone() == (0,)
    connection.close()
