"""Uploads and texts: they replace the document of their path, and no path leads anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.pipeline import InvalidPath, Upload, ingest_file, ingest_files, ingest_text, upload_path
from ingest.store.sqlite_faiss import SqliteFaissStore
from tests.fakes import HashEmbedder
from tests.ingest.running import SETTINGS, counts


def test_an_upload_brings_its_fields(store: SqliteFaissStore, docs: Path) -> None:
    for own, expected in (({"a": 1}, {"a": 1}), (None, {"a": 1}), ({"a": None, "b": "x"}, {"b": "x"})):
        ingest_files([Upload(docs / "a.md", "up.md", own)], store, HashEmbedder(), SETTINGS)
        assert store.document("up.md").own == expected


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
        ("合同\u30002024.md", "合同 2024.md"),
        ("a\u00a0b\u200dc\u200e.md", "a b\u200dc.md"),
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
