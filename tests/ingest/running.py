"""Runs of the pipeline for tests: without parser processes, with files old enough to be believed, and killed ones."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from ingest.parse import OcrMode, parse_file
from ingest.pipeline import ingest_path
from ingest.settings import IngestSettings
from ingest.store.sqlite_faiss import SqliteFaissStore
from ingest.types import Document, IngestReport
from tests.fakes import HashEmbedder

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


class Untouchable(HashEmbedder):
    """Fails as soon as anything is asked of it."""

    def __getattribute__(self, name: str) -> object:
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        raise AssertionError(f"the embedder was asked for {name}")


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


KILLED = """
import pathlib, sys
from ingest.pipeline import ingest_path
from tests.fakes import HashEmbedder
from tests.ingest.making import new_store
from tests.ingest.running import SETTINGS
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
