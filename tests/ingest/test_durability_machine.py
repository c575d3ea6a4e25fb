"""A collection and its folder of files through any history, crashes included, against a plain dictionary.

Files are written, changed, moved and removed; ingested with `--sync`; documents are added and forgotten
directly; the collection is rebuilt with another embedder, compacted, closed, and cut off from power in the
middle of any of it. After each step: what is stored is what the model holds, and searches equal brute force.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ingest import parse, sandbox
from ingest.errors import IngestError
from ingest.pipeline import ingest_path, ingest_text, rebuild
from ingest.settings import IngestSettings
from tests.fakes import HashEmbedder
from tests.ingest import lives
from tests.ingest.faults import EIO, Disk, Fault, watched
from tests.ingest.lives import NIGHTLY, open_store
from tests.ingest.sqlite_door import sqlite_library

pytestmark = [
    pytest.mark.skipif(
        sqlite_library() is None, reason="Python's SQLite is linked in statically: its disk cannot be watched"
    ),
    pytest.mark.timeout(6 * 3600 if NIGHTLY else 300),
]

SETTINGS = IngestSettings(chunk_tokens=64, chunk_overlap_tokens=8, workers=1)  # type: ignore[call-arg]
NAMES = st.sampled_from(["a.txt", "b.txt", "sub/c.txt", "乌龟.txt"])
WORDS = ["tortoise", "garden", "R123-78", "乌龟住在花园里", "passage", "says", "wheel"]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=60).map(" ".join)
EMBEDDERS = st.sampled_from([lives.EMBEDDER, lives.OTHER])


class InProcess:
    """`ingest.sandbox.ParserPool` without processes: plain text needs no protection, and they take a second."""

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None: ...

    def parse(self, file: Path, **options: Any) -> Any:
        return parse.parse_file(file, **options)


class Collection(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.model: dict[str, str] = {}
        self.draw = random.Random(5)
        self.number = 0

    @initialize()
    def start(self) -> None:
        self.scratch = Path(tempfile.mkdtemp()).resolve()
        self.stack.callback(shutil.rmtree, self.scratch)
        self.stack.callback(setattr, sandbox, "ParserPool", sandbox.ParserPool)
        sandbox.ParserPool = InProcess  # type: ignore[assignment, misc]
        self.embedder: HashEmbedder = lives.EMBEDDER
        self.open()

    @property
    def home(self) -> Path:
        """Another one after each crash; the folder of files stays."""
        return self.scratch / f"life{self.number}" / ".lorebase"

    @property
    def folder(self) -> Path:
        return self.scratch / "files"

    def open(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.store = open_store(self.home)

    def sync(self) -> None:
        ingest_path([self.folder], self.store, self.embedder, SETTINGS, base=self.scratch, sync=True)

    def files(self) -> dict[str, str]:
        found = [f for f in self.folder.glob("**/*") if f.is_file()]
        return {f.relative_to(self.scratch).as_posix(): f.read_text(encoding="utf-8") for f in found}

    def synced(self) -> dict[str, str]:
        """What `--sync` makes of the files: a folder without any is taken for a disk that is not mounted."""
        files = self.files()
        if not files:
            return self.model
        return {p: t for p, t in self.model.items() if not p.startswith("files/")} | files

    @rule(name=NAMES, text=TEXTS)
    def write_file(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text(text, encoding="utf-8")

    @rule(name=NAMES)
    def remove_file(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    @rule(name=NAMES, to=NAMES)
    def copy_file(self, name: str, to: str) -> None:
        """Equal bytes at two paths."""
        if (self.folder / name).exists() and name != to:
            (self.folder / to).parent.mkdir(exist_ok=True)
            shutil.copy(self.folder / name, self.folder / to)

    @rule()
    def ingest(self) -> None:
        self.sync()
        self.model = self.synced()

    @rule()
    def ingest_twice(self) -> None:
        self.sync()
        before = self.store.generation()
        self.embedder.encoded = 0
        self.sync()
        assert self.store.generation() == before and self.embedder.encoded == 0
        self.model = self.synced()

    @rule(name=NAMES, text=TEXTS)
    def upload(self, name: str, text: str) -> None:
        ingest_text(text, self.store, self.embedder, SETTINGS, path=f"up/{name}")
        self.model = self.model | {f"up/{name}": text}

    @rule(name=NAMES)
    def forget(self, name: str) -> None:
        self.store.forget([f"up/{name}", f"files/{name}"])
        self.model = {p: t for p, t in self.model.items() if p not in (f"up/{name}", f"files/{name}")}

    @rule(embedder=EMBEDDERS)
    def rebuild(self, embedder: HashEmbedder) -> None:
        rebuild(self.store, embedder, SETTINGS)
        self.embedder = embedder

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.open()

    @rule()
    def verify(self) -> None:
        assert self.store.verify().problems == ()

    @precondition(lambda self: self.model)
    @rule(at=st.integers(1, 120), power=st.booleans(), what=st.sampled_from(["sync", "forget", "rebuild"]))
    def crash(self, at: int, power: bool, what: str) -> None:
        """From some operation on, nothing reaches the disk any more; then life goes on with what it kept.

        Whole documents may be old or new, one by one: a run over a folder writes them one after the other.
        """
        self.store.close()
        disk = Disk(self.home)
        after = dict(self.model)
        with watched(disk):
            store = self.store = open_store(self.home)
            disk.arm(Fault(at, EIO, for_ever=True))
            try:
                if what == "sync":
                    after = self.synced()
                    self.sync()
                elif what == "forget":
                    gone = sorted(self.model)[0]
                    after.pop(gone)
                    store.forget([gone])
                else:
                    rebuild(store, self.embedder, SETTINGS)
            except IngestError:
                assert disk.fired
            done = not disk.fired
            upto = len(disk.log)
            disk.arm(None)
            store.close()
        image = disk.left(upto, self.draw if power else None, garble=0.2)
        self.number += 1
        target = self.home
        target.mkdir(parents=True)
        disk.lay(image, target)
        self.open()
        found = {d.path: self.store.text(d.path) for d in self.store.documents()}
        if done:
            assert found == after
        for path in {*self.model, *after}:
            assert found.get(path) in (self.model.get(path), after.get(path)), path
        assert set(found) <= {*self.model, *after}
        self.model = found
        assert self.store.verify().problems == ()

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "store"):
            return
        assert {d.path: self.store.text(d.path) for d in self.store.documents()} == self.model
        chunks = {
            (d.path, c.position): (c, d.title)
            for d in self.store.documents()
            for c in self.store.chunks(d.document_id)
        }
        for (path, _), (chunk, _) in chunks.items():
            assert self.model[path][chunk.char_start : chunk.char_end] == chunk.text
        lives.agree(self.store, chunks)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
        self.stack.close()
        assert threading.active_count() < 20


Collection.TestCase.settings = settings(
    max_examples=500 if NIGHTLY else 12,
    stateful_step_count=50 if NIGHTLY else 20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestCollection = Collection.TestCase
