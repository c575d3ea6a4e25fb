"""Bits that flipped in any file of a collection: found or harmless, never another text."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from ingest.errors import IngestError
from ingest.store.sqlite_faiss import SqliteFaissStore
from tests.ingest import lives
from tests.ingest.lives import NIGHTLY, open_store

pytestmark = pytest.mark.timeout(3600 if NIGHTLY else 300)


def flip_everything(scratch: Path, every: int) -> Counter[str]:
    """Flip one bit at a time in each file of a collection that has a snapshot and a log, and look."""
    home = scratch / "home"
    made = lives.make_large(home)
    with open_store(home, large=True) as store:
        lives.put(store, "a", "a text that is only in the log: tortoise")
        made["a"] = "a text that is only in the log: tortoise"
        shutil.copytree(store.folder, scratch / "copy" / "collections" / "test")  # with its log
    folder = scratch / "copy" / "collections" / "test"
    for name in ("kb.sqlite-shm", "writer.lock", "index/writer.lock"):
        (folder / name).unlink(missing_ok=True)
    counts: Counter[str] = Counter()
    draw = random.Random(20261122)
    artefacts = sorted(f for f in folder.glob("**/*") if f.is_file())
    assert {f.suffix for f in artefacts} == {".sqlite", ".sqlite-wal", ".faiss"}
    for file in artefacts:
        content = file.read_bytes()
        for _ in range(max(1, 400 // every)):
            flipped = bytearray(content)
            at = draw.randrange(len(content))
            flipped[at] ^= 1 << draw.randrange(8)
            target = scratch / "flipped"
            shutil.copytree(scratch / "copy", target)
            (target / "collections" / "test" / file.relative_to(folder)).write_bytes(flipped)
            counts[f"{file.suffix} {look(target, made)}"] += 1
            shutil.rmtree(target)
    return counts


def look(home: Path, made: dict[str, str]) -> str:
    """What a damaged collection shows: "found", or "harmless" where all is as it was."""
    try:
        with open_store(home, large=True) as store:
            problems = store.verify().problems
            served(store, made)
            if problems:
                return "found"
            with contextlib.suppress(IngestError):
                documents = {d.path: store.text(d.path) for d in store.documents()}
                # A torn end of the log is a commit that never was: a state that was true once.
                assert documents in (made, {p: t for p, t in made.items() if p != "a"})
                return "harmless"
            raise AssertionError("verify found nothing, and reading fails")
    except IngestError:
        return "found"


def served(store: SqliteFaissStore, made: dict[str, str]) -> None:
    """Whatever is still handed out is what was stored."""
    for path, text in made.items():
        with contextlib.suppress(IngestError):
            assert store.text(path) == text
    query = lives.EMBEDDER.encode_queries(["passage 7 of 21 says"])[0]
    for ask in (lambda r: r.nearest(query, 5), lambda r: r.matching(["tortois", "21"], 5)):
        with contextlib.suppress(IngestError), store.reading() as reader:
            for hit in reader.hits([m.chunk_id for m in ask(reader)]).values():
                assert made[hit.path][hit.char_start : hit.char_end] == hit.text


def test_flipped_bits_in_any_file_are_found_or_harmless(tmp_path: Path) -> None:
    counts = flip_everything(tmp_path, every=1 if NIGHTLY else 20)
    print(f"\n{dict(counts)}")
    assert counts[".sqlite found"] and counts[".sqlite harmless"]
    assert counts[".sqlite-wal harmless"] > counts[".sqlite-wal found"]
    assert counts[".faiss found"] and not counts[".faiss harmless"]


def test_files_that_are_gone_or_swapped_are_found(tmp_path: Path) -> None:
    """A whole file lost, emptied, or put in from another collection."""
    made = lives.make_large(tmp_path / "one")
    lives.make_large(tmp_path / "two")
    folder = tmp_path / "one" / "collections" / "test"
    (snapshot,) = (folder / "index").glob("*.faiss")
    (other,) = (tmp_path / "two").glob("collections/test/index/*.faiss")
    content = snapshot.read_bytes()
    for wrong in (b"", other.read_bytes()[:-1] + b"x", content[: len(content) // 2]):
        snapshot.write_bytes(wrong)
        assert look(tmp_path / "one", made) == "found"
        for set_aside in (folder / "index").glob("*.damaged"):
            set_aside.rename(snapshot)
    snapshot.write_bytes(content)
    assert look(tmp_path / "one", made) == "harmless"
    (folder / "kb.sqlite").write_bytes(b"")
    with pytest.raises(IngestError), SqliteFaissStore.open(folder) as store:
        store.documents()
