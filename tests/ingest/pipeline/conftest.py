"""A collection, a folder of three documents, and parsers that run in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.store.sqlite_faiss import SqliteFaissStore
from tests.ingest.making import new_store
from tests.ingest.running import InProcessParsers, settle


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.sandbox.ParserPool", InProcessParsers)
    InProcessParsers.made = 0


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
