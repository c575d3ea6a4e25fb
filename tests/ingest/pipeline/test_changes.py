"""What a run does about new, changed and unchanged files, and the fields that come with them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ingest.errors import IndexMismatch
from ingest.filters.text import parse
from ingest.search import Searcher
from ingest.store.sqlite_faiss import SqliteFaissStore
from tests.fakes import HashEmbedder
from tests.ingest.making import everything
from tests.ingest.running import SETTINGS, InProcessParsers, Untouchable, counts, run, settle


def test_files_are_added_left_alone_updated_and_found(store: SqliteFaissStore, docs: Path) -> None:
    first = run(store, docs)
    assert counts(first) == {"added": 3} and first.parsed == 3 and first.embedded == 3
    assert [d.path for d in store.documents()] == ["docs/a.md", "docs/b.txt", "docs/sub/中文.md"]
    assert [d.title for d in store.documents()] == ["Tortoises", "b", "乌龟"]
    before, made = everything(store), InProcessParsers.made
    second = run(store, docs, embedder=Untouchable())
    assert counts(second) == {"unchanged": 3} and (second.parsed, second.embedded) == (0, 0)
    assert InProcessParsers.made == made and everything(store) == before
    assert second.generation == first.generation
    (docs / "b.txt").write_text("Part R999 costs nothing.\n")
    third = run(store, docs)
    assert counts(third) == {"updated": 1, "unchanged": 2} and third.parsed == 1
    assert store.text("docs/b.txt") == "Part R999 costs nothing.\n"
    assert not Searcher(store, HashEmbedder()).search("R123-78", 5, "keyword").hits
    assert store.verify().problems == ()


def test_three_hundred_unchanged_files_are_not_opened(
    store: SqliteFaissStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(300):
        (folder / f"{n}.md").write_text(f"# Note {n}\n\nThe code of shelf {n} is {n * 7919}.\n")
    settle(folder)
    assert counts(run(store, folder)) == {"added": 300}

    def opened(self: Path, *arguments: object, **options: object) -> None:
        raise AssertionError(f"{self} was opened")

    monkeypatch.setattr(Path, "open", opened)
    report = run(store, folder, embedder=Untouchable())
    assert counts(report) == {"unchanged": 300} and (report.parsed, report.embedded) == (0, 0)


def test_a_file_that_was_only_touched_is_hashed_once(store: SqliteFaissStore, docs: Path) -> None:
    run(store, docs)
    settle(docs, age_s=30.0)
    assert counts(run(store, docs, embedder=Untouchable())) == {"unchanged": 3}
    made = InProcessParsers.made
    assert counts(run(store, docs, embedder=Untouchable())) == {"unchanged": 3}
    assert InProcessParsers.made == made  # its new time is known now


def test_a_change_within_the_same_moment_is_seen(store: SqliteFaissStore, tmp_path: Path) -> None:
    file = tmp_path / "young.txt"
    file.write_text("version one")
    time_ns = file.stat().st_mtime_ns
    run(store, file)
    file.write_text("version two")
    os.utime(file, ns=(time_ns, time_ns))
    assert counts(run(store, file)) == {"updated": 1}
    assert store.text("young.txt") == "version two"


def test_identity_does_not_depend_on_the_folder_one_is_in(
    store: SqliteFaissStore, docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(store, docs)
    for cwd, path in ((tmp_path, "docs"), (docs, "."), (docs / "sub", ".."), (tmp_path, "./docs/../docs/")):
        monkeypatch.chdir(cwd)
        assert counts(run(store, Path(path))) == {"unchanged": 3}
    outside = tmp_path.parent / f"{tmp_path.name}-outside.txt"
    outside.write_text("elsewhere")
    run(store, outside)
    assert store.document(outside.as_posix()).path == outside.as_posix()
    outside.unlink()


def test_other_chunk_settings_index_anew_without_a_changed_file(store: SqliteFaissStore, docs: Path) -> None:
    run(store, docs)
    other = SETTINGS.model_copy(update={"chunk_tokens": 80})
    assert counts(run(store, docs, settings=other)) == {"updated": 3}
    assert counts(run(store, docs, settings=other, embedder=Untouchable())) == {"unchanged": 3}


def test_another_embedder_stops_the_run_and_nothing_is_mixed(store: SqliteFaissStore, docs: Path) -> None:
    run(store, docs)
    before = everything(store)
    (docs / "a.md").write_text("changed")
    with pytest.raises(IndexMismatch, match="rebuild"):
        run(store, docs, embedder=HashEmbedder(name="other"))
    assert everything(store) == before


def test_equal_text_is_embedded_once(store: SqliteFaissStore, tmp_path: Path) -> None:
    for n in range(5):
        (tmp_path / f"x{n}").mkdir()
        (tmp_path / f"x{n}" / "same.txt").write_text("The same text in every folder.")
    embedder = HashEmbedder()
    report = run(store, *(tmp_path / f"x{n}" for n in range(5)), embedder=embedder)
    assert counts(report) == {"added": 5} and report.embedded == embedder.encoded == 1


def test_of_a_changed_file_only_the_changed_passages_are_embedded(
    store: SqliteFaissStore, tmp_path: Path
) -> None:
    sections = [f"# Part {n}\n\nText of part {n}.\n\n" for n in range(10)]
    file = tmp_path / "long.md"
    file.write_text("".join(sections))
    assert run(store, file).embedded == 10
    sections[4] = "# Part 4\n\nAnother text.\n\n"
    file.write_text("".join(sections))
    report = run(store, file)
    assert counts(report) == {"updated": 1} and report.embedded == 1
    assert store.verify().vectors == 10


def test_include_and_exclude(store: SqliteFaissStore, docs: Path) -> None:
    assert counts(run(store, docs, include=["*.md"], exclude=["docs/sub/*"])) == {"added": 1}
    assert counts(run(store, docs, exclude=["*.md"])) == {"added": 1}


def test_fields_are_set_on_every_document_and_outlive_a_change(store: SqliteFaissStore, docs: Path) -> None:
    run(store, docs)
    before = store.generation()
    report = run(store, docs, own={"project": "x", "year": 2020}, include=["*.md"])
    assert counts(report) == {"updated": 2} and report.parsed == 0
    assert store.generation() == before + 1
    assert counts(run(store, docs, own={"project": "x"})) == {"updated": 1, "unchanged": 2}
    (docs / "a.md").write_text("# Tortoises\n\nThe tortoise has moved.\n")
    assert counts(run(store, docs, own={"year": None})) == {"updated": 2, "unchanged": 1}
    assert {d.path: d.own for d in store.documents()} == {
        path: {"project": "x"} for path in ("docs/a.md", "docs/b.txt", "docs/sub/中文.md")
    }
    assert [d.path for d in store.documents(parse("project = x and path ~ .md"))] == [
        "docs/a.md",
        "docs/sub/中文.md",
    ]
