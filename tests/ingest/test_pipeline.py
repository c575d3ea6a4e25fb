"""The pipeline: what is done, what is left alone, what a failure, a kill or a second run leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import CollectionLocked, EmbedderError, IndexMismatch, IngestError, StorageFull
from ingest.filters.text import parse
from ingest.parse import OcrMode, parse_file
from ingest.pipeline import (
    InvalidPath,
    Progress,
    Upload,
    ingest_file,
    ingest_files,
    ingest_path,
    ingest_text,
    rebuild,
    upload_path,
)
from ingest.pipeline.watch import _is_noise, follow
from ingest.search import Searcher
from ingest.settings import IngestSettings, SettingsError
from ingest.store.sqlite_faiss import SqliteFaissStore
from ingest.types import Document, IngestReport
from tests.fakes import HashEmbedder
from tests.ingest.making import everything, new_store

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = IngestSettings(chunk_tokens=64, chunk_overlap_tokens=8, workers=2)  # type: ignore[call-arg]


class InProcessParsers:
    """`ingest.sandbox.ParserPool` without the processes; counts what was made and parsed."""

    made = 0

    def __init__(self, workers: int, timeout_s: float, memory_mb: int) -> None:
        InProcessParsers.made += 1

    def __enter__(self) -> InProcessParsers:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def parse(self, file: Path, *, name: str, password: str | None, max_bytes: int, ocr: OcrMode) -> Document:
        return parse_file(file, name=name, password=password, max_bytes=max_bytes, ocr=ocr)


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.sandbox.ParserPool", InProcessParsers)
    InProcessParsers.made = 0


class Untouchable(HashEmbedder):
    """Fails as soon as anything is asked of it."""

    def __getattribute__(self, name: str) -> object:
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        raise AssertionError(f"the embedder was asked for {name}")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteFaissStore]:
    with new_store(tmp_path / ".lorebase", wait_s=0.2) as store:
        yield store


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.md").write_text("# Tortoises\n\nThe tortoise lives in the garden.\n")
    (folder / "b.txt").write_text("Part R123-78 costs 4.50.\n")
    (folder / "sub" / "中文.md").write_text("# 乌龟\n\n乌龟住在花园里。\n", encoding="utf-8")
    settle(folder)
    return folder


def settle(folder: Path, age_s: float = 60.0) -> None:
    """Make files old: a very young file is hashed at the next run, whatever its time says."""
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            os.utime(file, (time.time() - age_s, time.time() - age_s))


def run(
    store: SqliteFaissStore,
    *paths: Path,
    embedder: HashEmbedder | None = None,
    settings: IngestSettings = SETTINGS,
    **options: object,
) -> IngestReport:
    return ingest_path(list(paths), store, embedder or HashEmbedder(), settings, **options)  # type: ignore[arg-type]


def counts(report: IngestReport) -> dict[str, int]:
    statuses = ("added", "updated", "unchanged", "forgotten", "skipped", "failed")
    return {s: n for s in statuses if (n := report.count(s))}  # type: ignore[arg-type]


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


# Bad files


def test_a_bad_file_is_reported_and_its_last_good_version_stays(store: SqliteFaissStore, docs: Path) -> None:
    run(store, docs)
    (docs / "b.txt").write_bytes(b"\x00\x01\x02 binary \xff\xfe\x00" * 50)
    (docs / "empty.md").write_text("")
    (docs / "broken.pdf").write_bytes(b"%PDF-1.7 and then nothing")
    (docs / "c.md").write_text("A good one.")
    report = run(store, docs)
    assert counts(report) == {"failed": 3, "added": 1, "unchanged": 2}
    reasons = {f.path: f.reason for f in report.files if f.status == "failed"}
    assert reasons.keys() == {"docs/b.txt", "docs/empty.md", "docs/broken.pdf"} and all(reasons.values())
    assert store.text("docs/b.txt") == "Part R123-78 costs 4.50.\n"
    assert counts(run(store, docs))["failed"] == 3  # tried again, and said again


def test_what_is_no_document(store: SqliteFaissStore, docs: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("outside")
    (docs / "picture.xyz").write_bytes(b"x")
    (docs / ".hidden.md").write_text("hidden")
    (docs / "~$a.md").write_text("lock file")
    for name in (".git", "node_modules", "__pycache__", "venv"):
        (docs / name).mkdir()
        (docs / name / "x.md").write_text("not a document")
    (docs / "venv" / "pyvenv.cfg").write_text("")
    os.mkfifo(docs / "pipe.txt")
    (docs / "out.txt").symlink_to(outside)
    (docs / "up").symlink_to(tmp_path)
    (docs / "loop.txt").symlink_to("loop.txt")
    (docs / "round").symlink_to(docs)
    (docs / "again.md").symlink_to("a.md")
    (docs / "only.md").symlink_to(".hidden.md")
    seen: list[Progress] = []
    report = run(store, docs, progress=seen.append)
    assert counts(report) == {"added": 4, "skipped": 5}
    assert {p.files_total for p in seen} == {9} and seen[-1].files_done == 9
    assert [d.path for d in store.documents()] == [
        "docs/a.md",
        "docs/b.txt",
        "docs/only.md",
        "docs/sub/中文.md",
    ]
    skipped = {f.path.removeprefix("docs/"): f.reason for f in report.files if f.status == "skipped"}
    assert skipped.keys() == {"picture.xyz", "pipe.txt", "out.txt", "up", "loop.txt"}
    assert "parser" in skipped["picture.xyz"] and "out of the folder" in skipped["up"]


def test_missing_empty_and_unsupported_paths_are_said(store: SqliteFaissStore, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "image.xyz").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    report = run(store, tmp_path / "nothing", tmp_path / "empty", tmp_path / "image.xyz")
    assert [f.status for f in report.files] == ["failed", "skipped", "failed"]
    assert "no such file" in report.files[0].reason
    assert "no file in this folder" in report.files[1].reason
    assert all(f.reason for f in report.files)


def test_names_that_are_no_utf8_and_names_that_drive_terminals(
    store: SqliteFaissStore, tmp_path: Path
) -> None:
    folder = tmp_path / "names"
    folder.mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.txt")).write_text("coffee")
    (folder / "line\nbreak \x1b[31m.txt").write_text("red")
    (folder / ("x" * 250 + ".md")).write_text("long")
    assert counts(run(store, folder)) == {"added": 3}
    assert store.text("names/caf\\xe9.txt") == "coffee"
    assert counts(run(store, folder)) == {"unchanged": 3}


def test_unreadable_files_and_folders_are_said_and_not_forgotten(
    store: SqliteFaissStore, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(store, docs)
    real_scan, real_stat = os.scandir, Path.stat

    def scandir(path: Path) -> object:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied")
        return real_scan(path)

    def stat(self: Path, **options: bool) -> os.stat_result:
        if self.name == "b.txt":
            raise PermissionError(13, "Permission denied")
        return real_stat(self, **options)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(Path, "stat", stat)
    report = run(store, docs, sync=True)
    assert counts(report) == {"failed": 2, "unchanged": 1}
    assert all("permissions" in f.reason for f in report.files if f.status == "failed")
    assert len(store.documents()) == 3


# Sync


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


# Fields


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


def test_an_upload_brings_its_fields(store: SqliteFaissStore, docs: Path) -> None:
    for own, expected in (({"a": 1}, {"a": 1}), (None, {"a": 1}), ({"a": None, "b": "x"}, {"b": "x"})):
        ingest_files([Upload(docs / "a.md", "up.md", own)], store, HashEmbedder(), SETTINGS)
        assert store.document("up.md").own == expected


# Files that cannot be read


def test_the_same_broken_bytes_are_tried_three_times(
    store: SqliteFaissStore, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    parse_really = InProcessParsers.parse

    def counted(self: InProcessParsers, file: Path, **options: object) -> Document:
        tried.append(file.name)
        return parse_really(self, file, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(InProcessParsers, "parse", counted)
    broken = docs / "broken.docx"
    broken.write_bytes(b"PK\3\4 no archive")
    settle(docs)
    run(store, docs)
    for _ in range(5):
        report = run(store, docs)
        assert counts(report) == {"unchanged": 3, "failed": 1}
    assert tried.count("broken.docx") == 3 and "tried 3 times" in "".join(f.reason for f in report.files)
    os.utime(broken)  # touched, but the same bytes
    run(store, docs)
    assert tried.count("broken.docx") == 3
    run(store, docs, retry=True)
    assert tried.count("broken.docx") == 4
    broken.write_bytes(b"PK\3\4 other bytes")
    run(store, docs)
    assert tried.count("broken.docx") == 5
    broken.unlink()
    run(store, docs, sync=True)
    assert store.failures() == {}


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


def test_include_and_exclude(store: SqliteFaissStore, docs: Path) -> None:
    assert counts(run(store, docs, include=["*.md"], exclude=["docs/sub/*"])) == {"added": 1}
    assert counts(run(store, docs, exclude=["*.md"])) == {"added": 1}


# Uploads


@given(st.text())
def test_an_upload_never_has_a_path_that_leads_anywhere(name: str) -> None:
    try:
        path = upload_path(name)
    except InvalidPath:
        return
    parts = path.split("/")
    assert path and path.isprintable() and "\\" not in path and path.encode()
    assert not set(parts) & {"", ".", ".."}
    assert upload_path(path) == path


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("../../etc/passwd", "etc/passwd"),
        ("C:\\Users\\me\\report.pdf", "Users/me/report.pdf"),
        ("/a//b/./c.md", "a/b/c.md"),
        ("a\0b\n.txt", "ab.txt"),
        ("报告.pdf", "报告.pdf"),
    ],
)
def test_upload_paths(name: str, path: str) -> None:
    assert upload_path(name) == path


@pytest.mark.parametrize("name", ["", "/", "..", "\0", "../..", "x" * 2000])
def test_no_upload_without_a_name(store: SqliteFaissStore, tmp_path: Path, name: str) -> None:
    file = tmp_path / "f"
    file.write_text("x")
    with pytest.raises(InvalidPath):
        ingest_file(file, store, HashEmbedder(), SETTINGS, path=name)
    assert store.documents() == []


def test_uploads_and_texts_replace_the_document_of_their_path(
    store: SqliteFaissStore, tmp_path: Path
) -> None:
    spool = tmp_path / "spool-123"
    spool.write_text("# From a spool file\n\nText one.\n")
    embedder = HashEmbedder()
    report = ingest_file(spool, store, embedder, SETTINGS, path="notes/one.md")
    assert report.files[0].path == "notes/one.md" and counts(report) == {"added": 1}
    assert store.document("notes/one.md").title == "From a spool file"
    assert counts(ingest_file(spool, store, embedder, SETTINGS, path="notes/one.md")) == {"unchanged": 1}
    assert counts(ingest_text("plain words", store, embedder, SETTINGS, path="notes/one.md")) == {
        "updated": 1
    }
    assert store.text("notes/one.md") == "plain words"
    assert counts(ingest_text("no suffix", store, embedder, SETTINGS, path="note")) == {"added": 1}
    broken = tmp_path / "broken"
    broken.write_bytes(b"%PDF-1.7 nothing")
    uploads = [Upload(broken, "broken.pdf"), Upload(spool, "good.md")]
    assert counts(ingest_files(uploads, store, embedder, SETTINGS)) == {"failed": 1, "added": 1}


# Stops


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


KILLED = """
import pathlib, sys
from ingest.pipeline import ingest_path
from tests.fakes import HashEmbedder
from tests.ingest.making import new_store
from tests.ingest.test_pipeline import SETTINGS
store = new_store(pathlib.Path(sys.argv[1]), wait_s=60.0)
print("ready", flush=True)
sys.stdin.readline()
tell = lambda p: p.file and print(p.file.status, p.file.path, flush=True)
ingest_path([pathlib.Path(sys.argv[2])], store, HashEmbedder(), SETTINGS, progress=tell)
print("done", flush=True)
"""


def start(home: Path, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, str(home), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def notes(folder: Path, count: int) -> Path:
    folder.mkdir()
    for n in range(count):
        (folder / f"{n:02}.md").write_text(f"# Note {n}\n\n" + f"Text of note {n}. " * 40)
    return folder


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


# Rebuild


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
