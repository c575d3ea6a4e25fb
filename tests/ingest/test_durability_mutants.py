"""Would the durability tests notice? The store is broken on purpose, and each break must turn a check red."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest.errors import IngestError
from ingest.store import connections, files, reader, schema, snapshots, vectors, writing
from tests.ingest import lives
from tests.ingest import test_durability_crash as crash
from tests.ingest import test_durability_faults as faults
from tests.ingest.lives import open_store, sound, state
from tests.ingest.sqlite_door import sqlite_library
from tests.ingest.test_durability_damage import look

pytestmark = pytest.mark.skipif(
    sqlite_library() is None, reason="Python's SQLite is linked in statically: its disk cannot be watched"
)

Break = Callable[[pytest.MonkeyPatch], None]


# The checks, each a short form of the test that it names


def crashes(scratch: Path) -> None:
    """test_every_crash_of_a_small_life_leaves_old_or_new"""
    root = (scratch / "home").resolve()
    root.mkdir()
    steps = lives.small_life()[:6]
    disk = crash.recorded(root, steps)
    crash.crash_everywhere(disk, steps, ({}, lives.EMBEDDER.name), scratch, every=1000, cuts=6, large=False)


def publishing(scratch: Path) -> None:
    """test_every_crash_while_a_snapshot_is_published_leaves_old_or_new, and the file must serve after it"""
    root = (scratch / "home").resolve()
    root.mkdir()
    made = lives.make_large(root)
    disk = crash.recorded(root, lives.large_life(made)[:2], large=True)
    draw = random.Random(3)
    for cut in range(12):
        target = scratch / str(cut)
        disk.lay(disk.left(len(disk.log), draw), target)
        with open_store(target, large=True) as store, store.reading() as one:
            manifest = one.snapshot()
            assert manifest is not None
            assert snapshots.check(store.folder, manifest) is None


def living(scratch: Path) -> None:
    """The state after each step of a life, and after reopening"""
    with open_store(scratch) as store, open_store(scratch) as other:
        for step in lives.small_life()[:6]:
            step.do(store)
            assert state(store) == state(other) == step.after
        now = step.after
    sound(scratch, [now])


def living_large(scratch: Path) -> None:
    """The same for a collection with snapshots"""
    steps = lives.large_life(lives.make_large(scratch))
    with open_store(scratch, large=True) as store:
        state(store)
        for step in steps:
            step.do(store)
            assert state(store) == step.after


def failing(scratch: Path) -> None:
    """test_any_operation_may_fail_in_a_small_life"""
    from tests.ingest.faults import EIO, Disk, Fault, watched

    for at in (11, 15, 19):
        root = (scratch / str(at) / "home").resolve()
        root.mkdir(parents=True)
        disk = Disk(root)
        with watched(disk):
            faults.live(
                disk, lives.small_life(), faults.nothing(root), Fault(at, EIO, False, ("sync",)), False
            )


def opening(scratch: Path) -> None:
    """The same, for the first operations on a new collection, with power cuts after it"""
    from tests.ingest.faults import EIO, Disk, Fault, watched

    for at in range(1, 10):
        root = (scratch / str(at) / "home").resolve()
        root.mkdir(parents=True)
        disk, fault = Disk(root), Fault(at, EIO, False, ("sync", "syncdir"))
        with watched(disk):
            faults.live(disk, lives.small_life()[:3], faults.nothing(root), fault, False, cuts=6)


def damaged_text(scratch: Path) -> None:
    """test_flipped_bits_in_any_file_are_found_or_harmless, where the bits belong to texts"""
    with open_store(scratch) as store:
        lives.put(store, "a", "a text about tortoises " * 9)
    content = store.file.read_bytes()
    at = -1
    while (at := content.find(b"about", at + 1)) >= 0:
        store.file.write_bytes(content[:at] + b"A" + content[at + 1 :])
        look(scratch, {"a": "a text about tortoises " * 9})


def damaged_snapshot(scratch: Path) -> None:
    """test_flipped_bits_in_any_file_are_found_or_harmless, where the bits belong to a snapshot"""
    made = lives.make_large(scratch)
    (snapshot,) = scratch.glob("collections/test/index/*.faiss")
    content = bytearray(snapshot.read_bytes())
    content[len(content) // 2] ^= 1
    snapshot.write_bytes(content)
    assert look(scratch, made) == "found"


# The breaks


def pragma(setting: str) -> Break:
    """SQLite is told otherwise."""

    def broken(patch: pytest.MonkeyPatch) -> None:
        real = schema.connect

        def connect(*args: object, **options: object) -> sqlite3.Connection:
            connection = real(*args, **options)  # type: ignore[arg-type]
            connection.execute(f"PRAGMA {setting}")
            return connection

        patch.setattr(connections, "connect", connect)

    return broken


def no_sync_of_files(patch: pytest.MonkeyPatch) -> None:
    real = files.publish

    def publish(*args: object) -> None:
        sync = os.fsync
        os.fsync = lambda _: None  # type: ignore[assignment]
        try:
            real(*args)  # type: ignore[arg-type]
        finally:
            os.fsync = sync

    patch.setattr(snapshots, "publish", publish)


def no_sync_of_names(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(files, "sync_folder", lambda _: None)
    patch.setattr(connections, "sync_folder", lambda _: None)


def early_commit(patch: pytest.MonkeyPatch) -> None:
    real = writing.add_chunks

    def add_chunks(connection: sqlite3.Connection, *args: object, **more: object) -> None:
        connection.execute("COMMIT")
        connection.execute("BEGIN IMMEDIATE")
        real(connection, *args, **more)  # type: ignore[arg-type]

    patch.setattr(writing, "add_chunks", add_chunks)


def no_words(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(writing, "indexed_terms", lambda *_: "")


def words_stay(patch: pytest.MonkeyPatch) -> None:
    real = writing.remove_chunks

    def remove_chunks(connection: sqlite3.Connection, number: int) -> list[int]:
        kept = connection.execute(
            "SELECT rowid, terms FROM words WHERE rowid IN (SELECT chunk_id FROM chunks WHERE document = ?)",
            (number,),
        ).fetchall()
        used = real(connection, number)
        connection.executemany("INSERT INTO words (rowid, terms) VALUES (?, ?)", kept)
        return used

    patch.setattr(writing, "remove_chunks", remove_chunks)


def no_bump(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(writing, "bump", lambda _: None)


def nothing_is_masked(patch: pytest.MonkeyPatch) -> None:
    """Deleted rows stay in the index, and the count that would notice is not looked at."""
    import numpy as np

    patch.setattr(reader.SqliteReader, "_removed_after", lambda *_: np.empty(0, np.int64))
    patch.setattr(
        reader.SqliteReader,
        "advance",
        lambda self, base: base.advance(
            self.generation, np.empty(0, np.int64), self.blocks(after=base.highest_id)
        ),
    )


def snapshot_rows_are_not_masked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(vectors.Approximate, "without", lambda self, _: self)
    patch.setattr(
        reader.SqliteReader,
        "advance",
        lambda self, base: base.advance(
            self.generation, self._removed_after(base), self.blocks(after=base.highest_id)
        ),
    )


def no_checksums(patch: pytest.MonkeyPatch) -> None:
    for module in ("rows", "reader", "schema", "writing", "checks"):
        patch.setattr(f"ingest.store.{module}.checksum", lambda *_: b"\0" * 8)


def no_hash_of_snapshots(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(snapshots, "_wrong", lambda *_: None)


def no_log_ahead(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(schema, "log_ahead", lambda _: None)
    patch.setattr(connections, "log_ahead", lambda _: None)
    pragma("synchronous = FULL")(patch)


def errors_are_swallowed(patch: pytest.MonkeyPatch) -> None:
    """A commit that fails is reported as done."""
    from contextlib import contextmanager

    real = connections.Connections.transaction

    @contextmanager
    def transaction(self: connections.Connections) -> Iterator[sqlite3.Connection]:
        with contextlib.suppress(IngestError), real(self) as connection:
            yield connection

    patch.setattr(connections.Connections, "transaction", transaction)


MUTANTS: list[tuple[str, Break, Callable[[Path], None]]] = [
    ("commits are not synced", pragma("synchronous = NORMAL"), crashes),
    ("nothing is synced", pragma("synchronous = OFF"), crashes),
    ("names of new files are not synced", no_sync_of_names, publishing),
    ("a commit before passages and words", early_commit, crashes),
    ("a collection may stay without a log", no_log_ahead, opening),
    ("failed commits count as done", errors_are_swallowed, failing),
    ("passages without words", no_words, living),
    ("words of deleted passages stay", words_stay, living),
    ("the generation is not counted up", no_bump, living),
    ("deleted rows are not masked", nothing_is_masked, living),
    ("deleted rows of a snapshot are not masked", snapshot_rows_are_not_masked, living_large),
    ("a snapshot's file is not synced", no_sync_of_files, publishing),
    ("checksums are not compared", no_checksums, damaged_text),
    ("a snapshot's hash is not compared", no_hash_of_snapshots, damaged_snapshot),
]


@pytest.mark.parametrize("check", sorted({check for *_, check in MUTANTS}, key=lambda c: c.__name__))
def test_the_checks_are_green_where_nothing_is_broken(check: Callable[[Path], None], tmp_path: Path) -> None:
    check(tmp_path)


@pytest.mark.parametrize(("broken", "check"), [m[1:] for m in MUTANTS], ids=[m[0] for m in MUTANTS])
def test_a_broken_store_turns_its_check_red(
    broken: Break, check: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    with pytest.raises((AssertionError, IngestError, RuntimeError)):  # the last is FAISS, given rubbish
        check(tmp_path)
