"""Two service processes on one Milvus and one PostgreSQL: what one is told the other knows, and one may die.

The PostgreSQL is Debian's. The Milvus is Milvus Lite behind a port: its own file takes one process only.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.database import records
from service.keys import Keys
from tests.milvus import Milvus
from tests.postgres import PostgresServer, programs
from tests.service.conftest import TOWER, ready, until

for needed in ("pymilvus", "milvus_lite", "sqlalchemy", "psycopg"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")
pytestmark = pytest.mark.skipif(programs() is None, reason="no PostgreSQL (Debian: apt install postgresql)")

ROOT = Path(__file__).resolve().parents[2]
QUESTION = {"question": "How many metres tall is the Eiffel Tower?"}


@contextmanager
def processes(tmp_path: Path, settings: dict[str, str]) -> Iterator[list[tuple[httpx.Client, Any]]]:
    """Two services with data folders of their own, as on two machines."""
    with ExitStack() as stack:
        started = []
        for name in ("one", "other"):
            home = tmp_path / name
            home.mkdir()
            command = [sys.executable, "-m", "tests.service.shared_service", str(home)]
            environment = os.environ | settings | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
            process = subprocess.Popen(command, cwd=home, env=environment, stdout=subprocess.PIPE, text=True)
            stack.callback(process.wait)
            stack.callback(process.kill)
            started.append(process)
        clients = []
        for process in started:
            assert process.stdout is not None
            stack.callback(process.stdout.close)
            client = httpx.Client(base_url=process.stdout.readline().strip(), timeout=30)
            clients.append((stack.enter_context(client), process))
        for client, _ in clients:
            until(lambda client=client: ready(str(client.base_url)), 60)  # type: ignore[misc]
        yield clients


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Milvus, PostgresServer]]:
    with ExitStack() as stack:
        milvus, postgres = Milvus(tmp_path / "base.db"), PostgresServer(tmp_path)
        stack.callback(milvus.kill)
        stack.callback(postgres.remove)
        milvus.start()
        postgres.start()
        yield milvus, postgres


def ingested(client: httpx.Client, text: str, path: str) -> None:
    job = client.post("/documents", json={"text": text, "path": path}).json()
    until(lambda: client.get(f"/jobs/{job['id']}").json()["status"] not in ("queued", "running"), 60)
    assert client.get(f"/jobs/{job['id']}").json()["status"] == "done"


def hits(client: httpx.Client, query: str) -> list[Any]:
    reply = client.post("/search", json={"query": query, "k": 5})
    reply.raise_for_status()
    return [
        (hit["path"], hit["document_id"], hit["char_start"], hit["text"], hit["score"])
        for hit in reply.json()["hits"]
    ]


def test_two_processes_answer_alike_and_know_what_the_other_knows(
    servers: tuple[Milvus, PostgresServer], tmp_path: Path
) -> None:
    milvus, postgres = servers
    at = postgres.database()
    settings = {
        "LOREBASE_INGEST_STORE": milvus.at(timeout_s=5.0),
        "LOREBASE_INGEST_EMBEDDER": "hash",
        "LOREBASE_INGEST_WORKERS": "1",
        "LOREBASE_SERVICE_DATABASE": at,
        "LOREBASE_SERVICE_REFUSE_BELOW": "0",
    }
    keys = Keys(records(at, tmp_path))
    _, bob = keys.create("bob", "reader")  # so that both ask for keys from the start
    with processes(tmp_path, settings) as [(one, first), (other, _)]:
        # A key that is made while both run is good for both at once, and so is its end.
        _, ann = keys.create("ann", "editor")
        for client in (one, other):
            assert client.get("/documents").status_code == 401
            client.headers["Authorization"] = f"Bearer {ann}"
            assert client.get("/documents").json()["total"] == 0
        # What one ingests the other finds at once, and finds alike.
        ingested(one, TOWER, "tower.md")
        assert hits(other, "metres tall")[0][0] == "tower.md"
        ingested(other, "The Tower has 1,665 steps.", "steps.md")
        assert hits(one, "1,665 steps")[0][0] == "steps.md"
        for query in ("metres tall", "1,665 steps", "seven years of paint"):
            assert hits(one, query) == hits(other, query) != []
        told = [client.post("/ask", json=QUESTION).json() for client in (one, other)]
        assert told[0]["answered"] and told[0]["citations"][0]["path"] == "tower.md"
        for field in ("answer", "citations", "index_generation", "passages"):
            assert told[0].get(field) == told[1].get(field)
        # A conversation begun with one goes on with the other.
        one.post("/ask", json=QUESTION | {"session_id": "s1"}).raise_for_status()
        follow = {"question": "And when was it finished?", "session_id": "s1"}
        assert "Eiffel Tower" in other.post("/ask", json=follow).json()["standalone_question"]
        assert one.get("/sessions/s1").json() == other.get("/sessions/s1").json()
        assert one.get("/sessions/s1").json()["turns"] == 2
        # What one changes, replaces or forgets is so for the other.
        listed = {d["path"]: d["document_id"] for d in other.get("/documents").json()["documents"]}
        ingested(other, "The Tower has 1,710 steps.", "steps.md")
        assert "1,710" in one.get(f"/documents/{listed['steps.md']}/text").json()["text"]
        assert not any("1,665 steps." in hit[3] and hit[0] == "steps.md" for hit in hits(one, "steps"))
        other.delete(f"/documents/{listed['steps.md']}").raise_for_status()
        assert one.get(f"/documents/{listed['steps.md']}").status_code == 404
        assert all(hit[0] == "tower.md" for hit in hits(one, "1,710 steps"))
        other.delete("/sessions/s1").raise_for_status()
        assert one.get("/sessions/s1").status_code == 404
        # One is killed: the other goes on with all of it.
        first.kill()
        first.wait()
        assert other.post("/ask", json=QUESTION).json()["answer"] == told[0]["answer"]
        ingested(other, "The bridge has 3 arches.", "bridge.md")
        keys.revoke("ann")
        assert other.get("/documents").status_code == 401
        other.headers["Authorization"] = f"Bearer {bob}"
        assert other.get("/documents").json()["total"] == 2
    keys.close()
