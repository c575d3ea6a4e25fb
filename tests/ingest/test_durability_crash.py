"""Killed, or cut off from power, at every operation on the disk: what was acknowledged is there, whole.

A life of a collection is recorded once (`tests.ingest.faults`); then the disk is put back to what each moment
would have left of it, and opened. Only one of two states may be found: the last one that was acknowledged, or
the one that was under way. `make test` takes a sample of the moments, `make nightly` all of them.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from ingest.collections import delete_collection
from ingest.transfer import backup, export
from tests.ingest import lives
from tests.ingest.faults import Disk, watched
from tests.ingest.lives import NIGHTLY, Step, open_store, sound
from tests.ingest.sqlite_door import sqlite_library

pytestmark = [
    pytest.mark.skipif(
        sqlite_library() is None, reason="Python's SQLite is linked in statically: its disk cannot be watched"
    ),
    pytest.mark.timeout(6 * 3600 if NIGHTLY else 300),
]


def recorded(root: Path, steps: list[Step], large: bool = False) -> Disk:
    """The disk of a whole life, with a mark before and after each step."""
    disk = Disk(root)
    with watched(disk):
        store = open_store(root, large)
        for number, step in enumerate(steps):
            disk.mark(("begin", number))
            step.do(store)
            disk.mark(("done", number))
        store.close()
    return disk


def crash_everywhere(
    disk: Disk, steps: list[Step], before: lives.State, scratch: Path, *, every: int, cuts: int, large: bool
) -> Counter[str]:
    """Look at what a kill, and a number of power cuts, would leave behind each `every`-th operation.

    Moments around an acknowledgement or a sync are never left out.
    """
    draw = random.Random(20261122)
    seen: set[bytes] = set()
    counts: Counter[str] = Counter()
    states = [before, *(step.after for step in steps)]
    done = begun = 0
    for upto, (kind, *rest) in enumerate(disk.log, 1):
        if kind == "mark":
            what, number = rest[0]
            begun, done = (number + 1, done) if what == "begin" else (begun, number + 1)
        telling = kind not in ("write", "truncate") or disk.log[min(upto, len(disk.log) - 1)][0] != "write"
        if upto % every and not telling:
            continue
        for cut in range(cuts + 1):
            image = disk.left(upto, draw if cut else None, garble=0.2 if cut % 2 else 0.0)
            digest = hashlib.sha256(repr(sorted(image.items())).encode() + bytes([begun, done])).digest()
            if digest in seen:
                counts["alike"] += 1
                continue
            seen.add(digest)
            target = scratch / "left"
            disk.lay(image, target)
            found = sound(target, states[done : begun + 1], large)
            counts["cut" if cut else "kill"] += 1
            if begun > done:
                counts["new" if found == states[begun] and found != states[done] else "old"] += 1
            shutil.rmtree(target)
    return counts


def test_every_crash_of_a_small_life_leaves_old_or_new(tmp_path: Path) -> None:
    root = (tmp_path / "home").resolve()
    root.mkdir()
    steps = lives.small_life()
    disk = recorded(root, steps)
    empty: lives.State = ({}, lives.EMBEDDER.name)
    counts = crash_everywhere(
        disk,
        steps,
        empty,
        tmp_path,
        every=1 if NIGHTLY else 29,
        cuts=12 if NIGHTLY else 2,
        large=False,
    )
    print(f"\n{len(disk.log)} operations: {dict(counts)}")
    assert counts["old"] and counts["new"]  # both outcomes of an interrupted step were met
    assert counts["kill"] > 40 and counts["cut"] > 20


def test_every_crash_while_a_snapshot_is_published_leaves_old_or_new(tmp_path: Path) -> None:
    root = (tmp_path / "home").resolve()
    root.mkdir()
    made = lives.make_large(root)
    steps = lives.large_life(made)
    disk = recorded(root, steps, large=True)
    names = [path.name for kind, path, *_ in disk.log if kind == "rename"]
    assert len(names) == 2  # two snapshots were published while we looked
    counts = crash_everywhere(
        disk,
        steps,
        (made, lives.EMBEDDER.name),
        tmp_path,
        every=1 if NIGHTLY else 97,
        cuts=8 if NIGHTLY else 1,
        large=True,
    )
    print(f"\n{len(disk.log)} operations: {dict(counts)}")
    assert counts["kill"] > 15 and counts["cut"] > 5


def test_a_deleted_collection_does_not_come_back_after_a_power_cut(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    with open_store(root) as store:
        lives.put(store, "a", "a text")
    disk = Disk(root)
    with watched(disk):
        delete_collection(root, "test")
    draw = random.Random(2)
    for _ in range(20):
        left = disk.left(len(disk.log), draw)
        assert not [path for path in left if path.is_relative_to(store.folder)]


@pytest.mark.parametrize("write", [backup, export])
def test_a_backup_that_is_there_is_whole(tmp_path: Path, write: object) -> None:
    """Under its name there is the old file or the new one at any moment, and the new one after it was reported."""
    root, target = tmp_path.resolve(), tmp_path.resolve() / "out" / "saved"
    target.parent.mkdir()
    target.write_bytes(b"the one before")
    with open_store(root) as store:
        for step in lives.small_life()[:3]:
            step.do(store)
        disk = Disk(root)
        with watched(disk):
            write(store, target)  # type: ignore[operator]
    draw = random.Random(4)
    new = target.read_bytes()
    seen = set()
    for upto in range(0, len(disk.log) + 1, 1 if NIGHTLY else 5):
        left = disk.left(upto, draw)[target]
        seen.add(left)
        assert left in (b"the one before", new)
    assert len(seen) == 2 or not NIGHTLY
    for _ in range(10):
        assert disk.left(len(disk.log), draw)[target] == new
