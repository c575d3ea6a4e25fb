"""Large uploads in a process of their own: what they leave is what an ingest in this process leaves."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest
import uvicorn

from ingest.errors import EmbedderError, IngestError
from ingest.settings import IngestSettings
from ingest.types import FileReport
from service import ingesting
from service.cli import serve
from service.ingesting import NICENESS, IngestProcess
from service.library import Upload
from service.settings import ServiceSettings
from service.shelves import Shelves
from tests.fakes import HashEmbedder
from tests.service.conftest import TOWER, until

SETTINGS = IngestSettings(workers=1, embedder="hash")
#: Where `wait` is in the data folder, its embedder waits for the upload to be cancelled, and says so.
CHILD = """
import sys
sys.path[:] = {path!r}
from service import ingesting
from tests.fakes import HashEmbedder
from ingest.errors import EmbedderError
class Waiting(HashEmbedder):
    home = None
    def encode_passages(self, texts):
        if (self.home / "wait").exists():
            (self.home / "entered").touch()
            cancelled.wait(60)
        return super().encode_passages(texts)
def find(name, home):
    if not (home / "weights").exists():
        raise EmbedderError(f"Embedder {{name!r}} is not installed")
    (home / "nice").write_text(str(__import__("os").nice(0)))
    if (home / "weights").read_text() == "odd":
        raise KeyError("the secret of the document")
    Waiting.home = home
    return Waiting()
ingest = ingesting._ingest
def noted(*arguments):
    global cancelled
    cancelled = arguments[-1]
    ingest(*arguments)
ingesting._ingest = noted
ingesting.serve(find)
"""


def child() -> IngestProcess:
    root = [str(Path(__file__).resolve().parents[2])]
    return IngestProcess((sys.executable, "-c", CHILD.format(path=root + [p for p in sys.path if p])))


def uploads(tmp_path: Path, count: int = 1, size: int = 6000) -> list[Upload]:
    found = []
    for number in range(count):
        file = tmp_path / f"upload{number}.md"
        text = f"# Tower {number}\n\n{TOWER} Part {number}.\n\n"
        file.write_text(text * (size // len(text) + 1), encoding="utf-8")
        found.append(Upload(f"tower{number}.md", file, own={"year": 1889}))
    return found


@pytest.fixture(autouse=True)
def bulk_is_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingesting, "SMALL_BYTES", 5000)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / ".lorebase"
    home.mkdir()
    (home / "weights").touch()
    return home


def test_it_leaves_what_an_ingest_in_this_process_leaves(home: Path, tmp_path: Path) -> None:
    bulk = child()
    shelves = Shelves(home, "default", SETTINGS, lambda _: HashEmbedder(), bulk)
    plain = Shelves(tmp_path / "other", "default", SETTINGS, lambda _: HashEmbedder())
    told: list[FileReport] = []
    given = uploads(tmp_path, 2)
    damaged = Upload("damaged.pdf", tmp_path / "damaged.pdf")
    damaged.file.write_bytes(b"%PDF-1.7 and no more")
    shelves.add("default", [*given, damaged], told.append)
    plain.add("default", given, lambda _: None)
    assert {(r.path, r.status) for r in told} == {
        ("tower0.md", "added"), ("tower1.md", "added"), ("damaged.pdf", "failed"),
    }  # fmt: skip
    here, there = shelves.documents("default"), plain.documents("default")
    assert [(d.path, d.own, d.chunks) for d in here] == [(d.path, d.own, d.chunks) for d in there]
    for one, other in zip(here, there, strict=True):
        chunks = shelves.chunks("default", one.document_id)
        assert [c.text for c in chunks] == [c.text for c in plain.chunks("default", other.document_id)]
        assert shelves.original("default", one.document_id).is_file()
    found = []
    for library in (shelves, plain):
        search = library.source("default").search
        assert search is not None
        found.append([(h.score, h.text) for h in search.search("steps of the tower", 5).hits])
    assert found[0] == found[1] and found[0]
    if hasattr(os, "nice"):
        assert int((home / "nice").read_text()) == min(os.nice(0) + NICENESS, 19)

    small = Upload("note.md", tmp_path / "note.md")
    small.file.write_text("A note.", encoding="utf-8")
    assert bulk.wants([small])  # while the process is there, it serves all
    shelves.close()
    plain.close()


def test_a_note_needs_no_process_and_many_notes_do(tmp_path: Path) -> None:
    bulk = IngestProcess(("false",))
    note = uploads(tmp_path, 1, size=1000)
    wanted = [bulk.wants(note) for _ in range(8)]
    assert not wanted[0] and wanted[-1]


def test_errors_are_of_their_kind_and_tell_no_text(home: Path, tmp_path: Path) -> None:
    bulk = child()
    shelves = Shelves(home, "default", SETTINGS, lambda _: HashEmbedder(), bulk)
    (home / "weights").write_text("odd")
    with pytest.raises(RuntimeError, match=r"^KeyError$"):
        shelves.add("default", uploads(tmp_path), lambda _: None)
    (home / "weights").unlink()
    with pytest.raises(EmbedderError, match="not installed"):
        shelves.add("default", uploads(tmp_path), lambda _: None)
    (home / "weights").touch()  # the same process goes on
    shelves.add("default", uploads(tmp_path), lambda _: None)
    assert len(shelves.documents("default")) == 1
    shelves.close()


def test_a_cancelled_upload_ends_and_a_killed_process_is_said_and_replaced(
    home: Path, tmp_path: Path
) -> None:
    bulk = child()
    shelves = Shelves(home, "default", SETTINGS, lambda _: HashEmbedder(), bulk)
    given, told = uploads(tmp_path, 3), []  # type: ignore[var-annotated]
    (home / "wait").touch()
    shelves.add("default", given, told.append, (home / "entered").exists)
    assert told == [] and shelves.documents("default") == []

    (home / "entered").unlink()

    def kill() -> None:
        until((home / "entered").exists)
        assert bulk._process is not None
        os.kill(bulk._process.pid, signal.SIGTERM)

    killing = threading.Thread(target=kill)
    killing.start()
    with pytest.raises(IngestError, match=r"ended early.*send the rest again"):
        shelves.add("default", given, told.append)
    killing.join()
    (home / "wait").unlink()
    shelves.add("default", given, told.append)
    assert [r.status for r in told] == ["added"] * 3 and len(shelves.documents("default")) == 3
    shelves.close()


def test_replies_do_not_wait_for_acknowledgements() -> None:
    settings = ServiceSettings(port=0)
    listening = serve._listen(uvicorn.Config("none", host="127.0.0.1", port=0), settings)
    listening.listen()
    with listening, socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
