"""Two services on one Milvus answer alike; Milvus away is a 503 with the reason, and over when it is back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from ingest.settings import IngestSettings
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


def service(home: Path, at: str) -> TestClient:
    settings = IngestSettings(workers=1, store=at, embedder="hash")
    shelves = Shelves(home, "default", settings, lambda _: HashEmbedder())
    generator = ScriptedGenerator("The tower is 330 metres tall.")
    return TestClient(
        create_app(ServiceSettings(refuse_below=0.0), home, shelves, generator), base_url="http://127.0.0.1"
    )


def upload(client: TestClient, **body: Any) -> None:
    job = client.post("/documents", json=body).json()
    until(lambda: client.get(f"/jobs/{job['id']}").json()["status"] in ("done", "failed"), 60)
    assert client.get(f"/jobs/{job['id']}").json()["status"] == "done"


def test_two_services_on_one_milvus(tmp_path: Path) -> None:
    milvus = Milvus(tmp_path / "base.db")
    milvus.start()
    try:
        at = milvus.at(timeout_s=2.0)
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
