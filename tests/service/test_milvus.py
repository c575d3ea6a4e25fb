"""Two services on one Milvus answer alike; Milvus away is a 503 with the reason, and over when it is back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from ingest.collections import open_collection
from ingest.embed import Embedder
from ingest.errors import EmbedderError
from ingest.pipeline import rebuild
from ingest.settings import IngestSettings
from ingest.store import Vectors
from ingest.store.milvus.store import MilvusStore
from service.app import create_app
from service.settings import ServiceSettings
from service.shelves import Shelves
from tests.fakes import HashEmbedder
from tests.milvus import Milvus
from tests.service.conftest import TOWER, until
from tests.service.fakes import ScriptedGenerator

pytest.importorskip("pymilvus", reason="the extra milvus is not installed")
pytest.importorskip("milvus_lite", reason="Milvus Lite is not installed")

QUESTION = {"question": "How many metres tall is the tower?"}


def service(home: Path, at: str, embedders: Mapping[str, Embedder] | None = None) -> TestClient:
    settings = IngestSettings(workers=1, store=at, embedder="hash")
    known = {"hash": HashEmbedder()} if embedders is None else embedders

    def find(name: str) -> Embedder:
        if name not in known:
            raise EmbedderError(f"no embedder {name!r} is installed")
        return known[name]

    shelves = Shelves(home, "default", settings, find)
    generator = ScriptedGenerator("The tower is 330 metres tall.")
    return TestClient(
        create_app(ServiceSettings(refuse_below=0.0), home, shelves, generator), base_url="http://127.0.0.1"
    )


def upload(client: TestClient, **body: Any) -> None:
    assert job_of(client, **body)["status"] == "done"


def job_of(client: TestClient, **body: Any) -> dict[str, Any]:
    """An upload as it ended."""
    job = client.post("/documents", json=body).json()
    until(lambda: client.get(f"/jobs/{job['id']}").json()["status"] in ("done", "failed"), 60)
    ended: dict[str, Any] = client.get(f"/jobs/{job['id']}").json()
    return ended


class Killing(HashEmbedder):
    """Takes Milvus away while it embeds a text that says so."""

    def __init__(self, milvus: Milvus) -> None:
        super().__init__()
        self.milvus = milvus

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        if any("in mid-ingest" in text for text in texts):
            self.milvus.kill()
        return super().encode_passages(texts)


def test_away_at_the_start_and_in_mid_ingest_of_an_older_schema_and_of_another_embedder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a 503 with its reason, nothing is lost, and it is over without a restart."""
    monkeypatch.setattr("service.readiness.FIRST_PAUSE_S", 0.1)
    milvus = Milvus(tmp_path / "base.db")
    milvus.start()
    milvus.kill()
    at = milvus.at(timeout_s=4.0)
    embedders: dict[str, Embedder] = {"hash": Killing(milvus)}

    def refused(code: str, *words: str) -> None:
        reply = client.post("/ask", json=QUESTION)
        assert reply.status_code == 503 and reply.json()["error"]["code"] == code, reply.text
        assert all(word in reply.json()["error"]["message"] for word in words), reply.text

    try:
        with service(tmp_path / "home", at, embedders) as client:
            until(lambda: "does not answer" in client.get("/readyz").text, 30)
            refused("store_unavailable", "does not answer")
            milvus.start()
            until(lambda: client.get("/readyz").status_code == 200, 60)
            upload(client, text=TOWER, path="tower.md")
            answer = client.post("/ask", json=QUESTION).json()["answer"]

            broken = job_of(client, text="It goes away in mid-ingest.", path="broken.md")
            assert broken["status"] == "failed" and broken["error"]["code"] == "store_unavailable"
            milvus.start()
            assert [d["path"] for d in client.get("/documents").json()["documents"]] == ["tower.md"]
            upload(client, text="It stays this time.", path="broken.md")
            assert client.post("/ask", json=QUESTION).json()["answer"] == answer

            with open_collection(tmp_path / "beside", "default", at=at) as store:
                assert isinstance(store, MilvusStore) and store.verify().problems == ()
                state = store._state()
                for schema, words in ((0, "no released Lorebase"), (99, "Install the newer Lorebase")):
                    store._server.upsert(store._kb.records, [replace(state, schema=schema).row()])
                    refused("index_damaged" if schema == 0 else "schema_too_new", words, f"schema {schema}")
                store._server.upsert(store._kb.records, [state.row()])
                assert client.post("/ask", json=QUESTION).json()["answer"] == answer
                # Somebody moves the base to an embedder that this service does not have, yet.
                rebuild(store, HashEmbedder(name="other"), IngestSettings(store=at))
                refused("embedder_error", "'other'")
                embedders["other"] = HashEmbedder(name="other")
                assert client.post("/ask", json=QUESTION).json()["answer"] == answer
    finally:
        milvus.kill()


def test_two_services_on_one_milvus(tmp_path: Path) -> None:
    milvus = Milvus(tmp_path / "base.db")
    milvus.start()
    try:
        at = milvus.at(timeout_s=4.0)
        with service(tmp_path / "one", at) as one, service(tmp_path / "other", at) as other:
            upload(one, text=TOWER, path="tower.md")
            upload(other, text="The Tower has 1,665 steps.", path="steps.md")
            replies = [client.post("/ask", json=QUESTION).json() for client in (one, other)]
            assert replies[0]["answered"] and replies[0]["citations"][0]["path"] == "tower.md"
            for field in ("answer", "citations", "index_generation"):
                assert replies[0][field] == replies[1][field]
            listed = [client.get("/documents").json() for client in (one, other)]
            assert listed[0] == listed[1] and listed[0]["total"] == 2
            milvus.kill()
            away = one.post("/ask", json=QUESTION)
            assert away.status_code == 503 and away.json()["error"]["code"] == "store_unavailable"
            assert "does not answer" in away.json()["error"]["message"]
            assert one.get("/healthz").status_code == 200
            milvus.start()
            assert other.post("/ask", json=QUESTION).json()["answer"] == replies[0]["answer"]
            steps = next(d for d in one.get("/documents").json()["documents"] if d["path"] == "steps.md")
            one.delete(f"/documents/{steps['document_id']}").raise_for_status()
            assert other.get("/documents").json()["total"] == 1
    finally:
        milvus.kill()
