"""A bad file costs itself: it is reported, tried again within reason, and its last good version stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ingest.pipeline import Progress
from ingest.store.sqlite_faiss import SqliteFaissStore
from ingest.types import Document
from tests.ingest.running import InProcessParsers, counts, run, settle


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
        if self.name == "b.txt" or self.parent.name == "sub":  # Path.exists lets this one through
            raise PermissionError(13, "Permission denied")
        return real_stat(self, **options)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(Path, "stat", stat)
    report = run(store, docs, sync=True)
    assert counts(report) == {"failed": 2, "unchanged": 1}
    assert all("permissions" in f.reason for f in report.files if f.status == "failed")
    assert len(store.documents()) == 3


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
