"""Rebuilds from stored text: to another embedder, to another cut, broken off and taken up."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ingest.errors import EmbedderError, IndexMismatch, IngestError
from ingest.pipeline import Progress, rebuild
from ingest.search import Searcher
from ingest.settings import SettingsError
from ingest.store.sqlite_faiss import SqliteFaissStore
from tests.fakes import HashEmbedder
from tests.ingest.making import everything
from tests.ingest.running import SETTINGS, Untouchable, counts, notes, run, settle


def test_rebuild_moves_to_another_embedder_from_stored_text(store: SqliteFaissStore, docs: Path) -> None:
    run(store, docs)
    texts = {d.path: store.text(d.path) for d in store.documents()}
    for file in docs.rglob("*.*"):
        file.unlink()
    other = HashEmbedder(dimension=16, name="other")
    seen: list[Progress] = []
    report = rebuild(store, other, SETTINGS, progress=seen.append)
    assert report.embedded == other.encoded == 3 and seen
    assert {d.path: store.text(d.path) for d in store.documents()} == texts
    assert store.status().embedder_id == other.id and store.verify().problems == ()
    assert Searcher(store, other).search("tortoise garden", 1).hits[0].path == "docs/a.md"
    with pytest.raises(IndexMismatch):
        Searcher(store, HashEmbedder()).search("tortoise")
    assert rebuild(store, other, SETTINGS).embedded == 0  # the same again costs nothing


def test_a_rebuild_that_breaks_off_changes_nothing_and_goes_on_later(
    store: SqliteFaissStore, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(store, docs)
    before = everything(store)
    monkeypatch.setattr(sys.modules["ingest.pipeline.rebuild"], "_BATCH_TEXTS", 1)

    class Dying(HashEmbedder):
        def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
            if self.encoded >= 2:
                raise EmbedderError("gone")
            return super().encode_passages(texts)

    with pytest.raises(EmbedderError):
        rebuild(store, Dying(name="other"), SETTINGS)
    assert everything(store) == before and store.verify().problems == ()
    assert Searcher(store, HashEmbedder()).search("tortoise garden", 1).hits[0].path == "docs/a.md"
    report = rebuild(store, HashEmbedder(name="other"), SETTINGS, cancel=lambda: True)
    assert report.cancelled and everything(store) == before
    assert rebuild(store, HashEmbedder(name="other"), SETTINGS).embedded == 1


def test_batches_are_filled_across_files_and_hold_texts_of_like_length(
    store: SqliteFaissStore, tmp_path: Path
) -> None:
    """Both by an ingest and by a rebuild; with a batch a file, or unsorted ones, this fails."""

    class Noting(HashEmbedder):
        asked: list[list[int]]

        def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
            self.asked.append([len(text) for text in texts])
            return super().encode_passages(texts)

    (tmp_path / "many").mkdir()
    for n in range(60):
        (tmp_path / "many" / f"{n}.txt").write_text(f"note {n} " + "word " * (n * 7 % 31), encoding="utf-8")
    for embedder, take in (
        (Noting(), lambda with_: run(store, tmp_path / "many", embedder=with_)),
        (Noting(name="other"), lambda with_: rebuild(store, with_, SETTINGS)),
    ):
        embedder.asked = []
        assert take(embedder).embedded == 60
        assert [len(lengths) for lengths in embedder.asked] == [60]
        assert embedder.asked[0] == sorted(embedder.asked[0])


def test_rebuild_to_other_chunk_settings(store: SqliteFaissStore, tmp_path: Path) -> None:
    folder = notes(tmp_path / "many", 2)
    settle(folder)
    run(store, folder)
    longer = SETTINGS.model_copy(update={"chunk_tokens": 128})
    before = {d.path: d.chunks for d in store.documents()}
    rebuild(store, HashEmbedder(), longer)
    assert all(d.chunks < before[d.path] for d in store.documents())
    assert counts(run(store, folder, settings=longer, embedder=Untouchable())) == {"unchanged": 2}


def test_settings_that_leave_no_room_are_said(store: SqliteFaissStore, docs: Path) -> None:
    with pytest.raises(IngestError, match="chunk_tokens"):
        run(store, docs, embedder=HashEmbedder(max_tokens=3))


def test_a_collection_may_be_cut_in_its_own_way(store: SqliteFaissStore, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("The tortoise lives in the garden. " * 40)
    settle(tmp_path)
    store.fix_chunking("32-0")
    run(store, tmp_path / "long.txt")
    short = store.document("long.txt").chunks
    assert counts(
        run(store, tmp_path / "long.txt", settings=SETTINGS.model_copy(update={"chunk_tokens": 200}))
    ) == {"unchanged": 1}
    rebuild(store, HashEmbedder(), SETTINGS, chunking="128-8")
    assert store.status().chunking == "128-8" and store.document("long.txt").chunks < short / 3
    assert counts(run(store, tmp_path / "long.txt")) == {"unchanged": 1}
    for wrong in ("", "x", "5", "64-x", "64--1", "99999", "-3", "٣٢"):
        with pytest.raises(SettingsError):
            rebuild(store, HashEmbedder(), SETTINGS, chunking=wrong)
    assert store.status().chunking == "128-8"
