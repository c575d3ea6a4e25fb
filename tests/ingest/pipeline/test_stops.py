"""What a failing embedder, a full disk, a cancellation, a kill or another writer leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ingest.errors import CollectionLocked, EmbedderError, StorageFull
from ingest.pipeline import Progress
from ingest.store.sqlite_faiss import SqliteFaissStore
from tests.fakes import HashEmbedder
from tests.ingest.running import InProcessParsers, counts, notes, run, start


def test_a_text_that_the_embedder_fails_on_costs_one_file(store: SqliteFaissStore, docs: Path) -> None:
    class Picky(HashEmbedder):
        def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
            if any("R123" in text for text in texts):
                raise EmbedderError("does not like part numbers")
            return super().encode_passages(texts)

    class Broken(HashEmbedder):
        def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
            raise EmbedderError("the weights are gone")

    with pytest.raises(EmbedderError, match="weights"):
        run(store, docs, embedder=Broken())
    report = run(store, docs, embedder=Picky())
    assert counts(report) == {"failed": 1, "added": 2}
    assert "part numbers" in next(f.reason for f in report.files if f.status == "failed")


def test_a_cancelled_run_keeps_what_was_written_and_the_next_one_goes_on(
    store: SqliteFaissStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.pipeline.run._BATCH_TEXTS", 4)
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(20):
        (folder / f"{n:02}.md").write_text(f"# Note {n}\n\nText of note {n}.\n")
    seen: list[Progress] = []
    report = run(
        store, folder, progress=seen.append, cancel=lambda: sum(p.file is not None for p in seen) >= 6
    )
    assert report.cancelled and 0 < report.count("added") < 20
    assert len(store.documents()) == report.count("added")
    assert store.verify().problems == ()
    rest = run(store, folder)
    assert not rest.cancelled and rest.embedded == 20 - report.count("added")
    assert len(store.documents()) == 20
    assert [p.files_total for p in seen] == [20] * len(seen)


def test_no_space_stops_the_run_with_what_was_written(
    store: SqliteFaissStore, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SqliteFaissStore.replace_document

    def full(self: SqliteFaissStore, source: object, *rest: object) -> object:
        if getattr(source, "path", "") == "docs/b.txt":
            raise StorageFull("no space")
        return real(self, source, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(SqliteFaissStore, "replace_document", full)
    with pytest.raises(StorageFull):
        run(store, docs)
    assert [d.path for d in store.documents()] == ["docs/a.md"]
    monkeypatch.undo()
    monkeypatch.setattr("ingest.sandbox.ParserPool", InProcessParsers)
    assert counts(run(store, docs)) == {"added": 2, "unchanged": 1}


@pytest.mark.parametrize("reported", [0, 1, 7])
def test_a_killed_ingest_leaves_whole_documents_and_is_taken_up(
    store: SqliteFaissStore, tmp_path: Path, reported: int
) -> None:
    """Real parser processes, a real kill; the fresh run must find a sound collection and finish it."""
    folder = notes(tmp_path / "many", 12)
    process = start(tmp_path / ".lorebase", folder)
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("\n")
    process.stdin.flush()
    lines = [process.stdout.readline() for _ in range(reported)]
    process.kill()
    lines += process.stdout.readlines()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    acknowledged = {line.split()[1] for line in lines if line.startswith("added") and line.endswith("\n")}
    assert store.verify().problems == ()
    there = {d.path for d in store.documents()}
    assert acknowledged <= there and len(there) <= len(acknowledged) + 1
    for path in there:
        assert store.text(path) == (tmp_path / path).read_text()
    report = run(store, folder)
    assert report.count("added") == 12 - len(there) and len(store.documents()) == 12
    assert store.verify().problems == ()


def test_two_ingests_at_once_end_as_one_after_the_other(store: SqliteFaissStore, tmp_path: Path) -> None:
    folder = notes(tmp_path / "many", 6)
    processes = [start(tmp_path / ".lorebase", folder) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate()[0].splitlines() for process in processes]
    assert all(lines[-1] == "done" for lines in outputs)
    assert sorted(lines[0].split()[0] for lines in outputs) == ["added", "unchanged"]
    assert store.generation() == 6 and store.verify().problems == ()


def test_a_run_says_who_writes_when_it_may_not_wait(store: SqliteFaissStore, docs: Path) -> None:
    with (
        SqliteFaissStore.open(store.folder) as other,
        other.writing("something long"),
        pytest.raises(CollectionLocked, match="something long"),
    ):
        run(store, docs)
