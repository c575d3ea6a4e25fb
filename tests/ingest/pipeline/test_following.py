"""`--sync` and `--watch`: what is gone is forgotten, what only seems gone is not, and changes are followed."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from ingest.errors import CollectionLocked, IndexMismatch
from ingest.pipeline import ingest_text
from ingest.pipeline.watch import _is_noise, follow
from ingest.search import Searcher
from ingest.store.sqlite_faiss import SqliteFaissStore
from ingest.types import IngestReport
from tests.fakes import HashEmbedder
from tests.ingest.running import SETTINGS, counts, run


def test_sync_forgets_what_is_gone_and_nothing_else(
    store: SqliteFaissStore, docs: Path, tmp_path: Path
) -> None:
    (tmp_path / "docs2").mkdir()
    (tmp_path / "docs2" / "z.md").write_text("a neighbour whose name begins alike")
    run(store, docs, tmp_path / "docs2")
    ingest_text("uploaded", store, HashEmbedder(), SETTINGS, path="docs/upload.md")
    (docs / "a.md").unlink()
    (docs / "b.txt").unlink()
    (tmp_path / "docs2" / "z.md").unlink()
    assert counts(run(store, docs)) == {"unchanged": 1}  # without sync nothing goes
    report = run(store, docs, sync=True, exclude=["*.txt"])
    assert counts(report) == {"unchanged": 1, "forgotten": 1}
    paths = [d.path for d in store.documents()]
    assert paths == ["docs/b.txt", "docs/sub/中文.md", "docs/upload.md", "docs2/z.md"]
    assert not Searcher(store, HashEmbedder()).search("tortoise garden", 5, "keyword").hits


def test_sync_keeps_what_was_named_and_is_still_there(store: SqliteFaissStore, docs: Path) -> None:
    """A walk passes over such files; that they are gone is another thing."""
    (docs / "node_modules").mkdir()
    named = [docs / "README", docs / ".notes.md", docs / "node_modules" / "x.md"]
    for file in named:
        file.write_text(f"only because it is named: {file.name}")
    report = run(store, docs, *named)
    assert counts(report) == {"added": 6}, "README too, which the walk before it had passed over"
    assert counts(run(store, docs, sync=True)) == {"unchanged": 3, "skipped": 1}
    for file in named:
        file.unlink()
    assert counts(run(store, docs, sync=True)) == {"unchanged": 3, "forgotten": 3}


def test_sync_does_not_believe_that_a_whole_folder_became_empty(store: SqliteFaissStore, docs: Path) -> None:
    run(store, docs)
    for file in list(docs.rglob("*.*")):
        file.unlink()
    report = run(store, docs, sync=True)
    assert report.count("failed") == 1 and len(store.documents()) == 3
    assert "--allow-empty" in next(f.reason for f in report.files if f.status == "failed")
    (docs / "sub").rmdir()
    docs.rmdir()
    assert counts(run(store, docs, sync=True)) == {"failed": 1} and len(store.documents()) == 3
    assert counts(run(store, docs, sync=True, allow_empty=True)) == {"failed": 1}  # there is no folder to ask
    docs.mkdir()
    assert run(store, docs, sync=True, allow_empty=True).count("forgotten") == 3 and not store.documents()


def test_following_a_folder(store: SqliteFaissStore, docs: Path, tmp_path: Path) -> None:
    """New, changed and vanished files, a look that fails, a folder that goes and comes back; then an end."""
    looks: list[IngestReport] = []
    said: list[str] = []
    busy = [True]

    def look() -> None:
        if busy.pop() if busy else False:
            raise CollectionLocked("somebody writes.")
        looks.append(run(store, docs, sync=True))

    def until(paths: set[str]) -> None:
        deadline = time.monotonic() + 60
        while {d.path for d in store.documents()} != paths:
            assert time.monotonic() < deadline, (paths, looks[-1:], said)
            time.sleep(0.05)

    stop = threading.Event()
    home = tmp_path / ".lorebase"
    thread = threading.Thread(
        target=follow, args=([docs], home, look), kwargs={"say": said.append, "stop": stop}, daemon=True
    )
    thread.start()
    first = {"docs/a.md", "docs/b.txt", "docs/sub/中文.md"}
    until(first)  # the first look failed, the second did not
    assert said == ["somebody writes. Trying again."]
    (docs / "new.md").write_text("# New\n\nA fourth file.\n")
    until(first | {"docs/new.md"})
    (docs / "new.md").rename(docs / "other.md")
    until(first | {"docs/other.md"})
    (docs / "other.md").unlink()
    until(first)
    docs.rename(tmp_path / "away")  # as when a disk is taken out: nothing is forgotten
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "a.md").write_text("# Back\n\nAnother disk.\n")
    (tmp_path / "back").rename(docs)
    until({"docs/a.md"})
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def test_following_ends_with_what_waiting_does_not_mend(docs: Path, tmp_path: Path) -> None:
    def look() -> None:
        raise IndexMismatch("another embedder")

    with pytest.raises(IndexMismatch):
        follow([docs], tmp_path / ".lorebase", look, say=print)


@pytest.mark.parametrize(
    ("path", "noise"),
    [
        ("docs/a.md", False), ("docs/sub/b.md", False), ("docs/.git/x", True), ("docs/~$a.docx", True),
        ("docs/node_modules/x.md", True), (".lorebase/collections/x", True), ("docs/.lorebase/x", True),
    ],
)  # fmt: skip
def test_what_does_not_wake_a_follower(path: str, noise: bool) -> None:
    root = Path("/base")
    assert _is_noise(root / path, [root / "docs"], root / ".lorebase") is noise
