"""Ray workers do the work and this process writes: same store, whatever happens to the workers."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import fsspec
import numpy as np
import pytest

from ingest.__main__ import main
from ingest.errors import EmbedderError
from ingest.pipeline import Progress
from ingest.store.sqlite_faiss import SqliteFaissStore
from tests.fakes import HashEmbedder
from tests.ingest.making import new_store
from tests.ingest.running import InProcessParsers, counts, notes, run, settle

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
LONG = pytest.mark.skipif("LOREBASE_NIGHTLY" not in os.environ, reason="only in `make nightly`")


class Signing(HashEmbedder):
    """Leaves the id of its process in a folder; ends that process where a text says so."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        folder.joinpath(str(os.getpid())).touch()

    def count_tokens(self, texts):
        if any("poison for readers" in text for text in texts):
            os._exit(1)
        return super().count_tokens(texts)

    def encode_passages(self, texts):
        if any("poison for embedders" in text for text in texts):
            os._exit(1)
        return super().encode_passages(texts)


@pytest.fixture
def ray_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # Ray's sockets stand in it, and a socket's path is short: pytest's own folders are too long.
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def contents(store: SqliteFaissStore) -> dict[str, object]:
    """All that a reader can see of a store, but for times and ids of passages."""
    found: dict[str, object] = {}
    for document in store.documents():
        path = document.path
        found[path] = (store.text(path), document.content_hash, document.recipe, document.metadata)
        for chunk in store.chunks(path):
            found[f"{path}#{chunk.position}"] = chunk
    return found


def vectors(store: SqliteFaissStore) -> dict[tuple[str, int], np.ndarray]:
    embedder = HashEmbedder()
    with store.reading() as reader:
        query = embedder.encode_queries(["Text of note 7."])[0]
        matches = reader.nearest(query, reader.chunk_count)
        hits = reader.hits([m.chunk_id for m in matches])
        return {(hits[m.chunk_id].path, hits[m.chunk_id].position): m.score for m in matches}


def test_a_killed_worker_loses_nothing_and_writes_nothing_twice(tmp_path: Path, ray_folder: Path) -> None:
    from ingest.pipeline.crew import Crew

    docs = notes(tmp_path / "docs", 60)
    shutil.copy(docs / "03.md", docs / "same.md")
    (docs / "broken.pdf").write_bytes(b"%PDF-1.7 and then nothing")
    settle(docs)
    fsspec.filesystem("memory").pipe("/far/c.md", b"# Far\n\nOn another shelf.\n")
    paths = (docs, "memory://far")
    pids = tmp_path / "pids"
    pids.mkdir()
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        if progress.file is not None and not killed:
            killed.append(min(int(p.name) for p in pids.iterdir()))
            os.kill(killed[0], signal.SIGKILL)

    with new_store(tmp_path / "plain" / ".lorebase") as store:
        plain = run(store, *paths, base=tmp_path)
        expected, scores = contents(store), vectors(store)
    with (
        new_store(tmp_path / "spread" / ".lorebase") as store,
        Crew(partial(Signing, pids), workers=2) as crew,
    ):
        report = run(store, *paths, base=tmp_path, crew=crew, progress=kill)
        assert killed and crew.workers == 2
        assert report.files == plain.files  # in the same order, each once
        assert (report.parsed, report.embedded, report.pages) == (plain.parsed, plain.embedded, plain.pages)
        assert contents(store) == expected and vectors(store) == scores
        assert not store.verify().problems
        again = run(store, *paths, base=tmp_path, crew=crew)
        assert counts(again) == {"unchanged": 62, "failed": 1} and again.embedded == 0


@LONG
def test_what_kills_every_worker_costs_only_itself(tmp_path: Path, ray_folder: Path) -> None:
    from ingest.pipeline.crew import MOST_DEATHS, Crew

    docs = notes(tmp_path / "docs", 100)
    (docs / "20.md").write_text("# poison for readers")
    (docs / "40.md").write_text("# poison for embedders")
    pids = tmp_path / "pids"
    pids.mkdir()
    with (
        new_store(tmp_path / ".lorebase") as store,
        Crew(partial(Signing, pids), workers=2) as crew,
    ):
        report = run(store, docs, base=tmp_path, crew=crew)
        assert counts(report) == {"added": 99, "failed": 1}  # what no worker can embed is embedded here
        (failed,) = (f for f in report.files if f.status == "failed")
        assert failed.path == "docs/20.md" and f"{MOST_DEATHS} times" in failed.reason
        assert len(list(pids.iterdir())) >= 2 * MOST_DEATHS


class Unlucky(HashEmbedder):
    """Cannot embed some texts, here as little as elsewhere."""

    def encode_passages(self, texts):
        if any("poison" in text for text in texts):
            raise EmbedderError("this text cannot be embedded")
        return super().encode_passages(texts)


def test_a_lot_of_one_document_that_kills_workers_is_that_documents_failure(tmp_path: Path) -> None:
    """Without a cluster: a crew whose workers die of a text, whichever lot it is in."""
    from ingest.pipeline.crew import Job, WorkerDied

    class Dying:
        workers = 1

        def start(self, embedder_id: str) -> None: ...

        def read(self, lookout, item):
            return Job("read", (), True, lookout.read(item, InProcessParsers(1, 1.0, 1).parse))

        def embed(self, texts):
            died = any("poison" in text for text in texts)
            result = WorkerDied("4 times") if died else HashEmbedder().encode_passages(texts)
            return Job("embed", (), True, result)

        def wait(self, job, timeout_s=1.0):
            return job.done

    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "1.md").write_text("# poison\n\nAlone in its run.")
    for others, expected in ((0, {"failed": 1}), (3, {"added": 3, "failed": 1})):
        for n in range(others):
            (docs / f"more{n}.md").write_text(f"# Note {n}\n\nAll is well with it.")
        with new_store(tmp_path / str(others) / ".lorebase") as store:
            report = run(store, docs, base=tmp_path, embedder=Unlucky(), crew=Dying())
            assert counts(report) == expected
            (failed,) = (f for f in report.files if f.status == "failed")
            assert failed.path == "docs/1.md" and "cannot be embedded" in failed.reason
            assert len(store.documents()) == others and not store.verify().problems


def other_embedder() -> HashEmbedder:
    return HashEmbedder(name="other")


@LONG
def test_a_worker_with_another_embedder_ends_the_run(tmp_path: Path, ray_folder: Path) -> None:
    from ingest.pipeline.crew import Crew

    docs = notes(tmp_path / "docs", 2)
    with new_store(tmp_path / ".lorebase") as store, Crew(other_embedder, workers=1) as crew:
        with pytest.raises(EmbedderError, match="another embedder"):
            run(store, docs, base=tmp_path, crew=crew)
        assert not store.documents()


def test_an_address_without_the_engine_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.md").write_text("# a")
    assert main(["--home", str(tmp_path / "h"), "--address", "auto", str(tmp_path / "a.md")]) == 2
    assert "--engine ray" in capsys.readouterr().err


def test_a_cluster_that_is_away_is_named(tmp_path: Path) -> None:
    from ingest.pipeline.crew import ClusterError, Crew

    away = "127.0.0.1:1"
    with Crew(HashEmbedder, address=away) as crew, pytest.raises(ClusterError, match=f"at {away}") as told:
        crew.start("hash")
    assert "RAY_AUTH_MODE=token" in str(told.value)  # Ray tells a wrong token by no other words than these


def test_a_head_that_goes_away_ends_the_run_before_ray_ends_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ingest.pipeline import crew as crews

    assert crews.GONE_S + 2 * crews.LOOK_S < 60  # what Ray's own patience is
    now = [1000.0]
    monkeypatch.setattr(crews.time, "monotonic", lambda: now[0])
    with socket.create_server(("127.0.0.1", 0)) as head:
        crew = crews.Crew(HashEmbedder)
        crew._head = head.getsockname()
        for _ in range(20):  # as long as it answers, nothing ends
            crew._look_for_head()
            now[0] += crews.LOOK_S
    with pytest.raises(crews.ClusterError, match="What was written stays"):
        for _ in range(20):
            crew._look_for_head()
            now[0] += crews.LOOK_S
    assert now[0] - 1000 - 20 * crews.LOOK_S < 60
