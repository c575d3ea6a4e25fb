"""Keeping a collection like a folder elsewhere, and ending uploads that are no longer wanted."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from ingest.settings import IngestSettings
from service.app import create_app
from service.settings import ServiceSettings
from service.shelves import Shelves
from tests.fakes import HashEmbedder
from tests.service.conftest import until
from tests.service.fakes import MemoryLibrary, ScriptedGenerator


def ended(client: TestClient, job: dict[str, Any]) -> dict[str, Any]:
    until(lambda: client.get(f"/jobs/{job['id']}").json()["finished_at"] is not None)
    return dict(client.get(f"/jobs/{job['id']}").json())


class TestSync:
    @pytest.fixture
    def client(self, tmp_path: Path) -> Iterator[TestClient]:
        """Over a real store: its hashes are the oracle."""
        ingest = IngestSettings(workers=1, embedder="hash")
        shelves = Shelves(tmp_path, "default", ingest, lambda _: HashEmbedder())
        app = create_app(ServiceSettings(model="scripted"), tmp_path, shelves, ScriptedGenerator())
        with TestClient(app, base_url="http://127.0.0.1") as client:
            yield client

    def test_it_says_what_to_send_and_forgets_what_is_gone(self, client: TestClient) -> None:
        folder = {"a.md": b"one\r\n", "notes/b.md": b"two", "notes/c.md": b"three", "other/d.md": b"four"}

        def compare(**more: Any) -> dict[str, Any]:
            files = [
                {"path": path, "hash": hashlib.sha256(data).hexdigest(), "size": len(data)}
                for path, data in folder.items()
            ]
            reply = client.post("/documents/sync", json={"files": files} | more)
            assert reply.status_code == 200, reply.text
            return dict(reply.json())

        def send(paths: list[str]) -> None:
            for path in paths:
                form = {"files": (path, folder[path])}
                ended(client, client.post("/documents", files=form, data={"path": path}).json())

        first = compare()
        assert sorted(first["added"]) == sorted(folder) and first["modified"] == first["deleted"] == []
        send(first["added"])
        same = compare()
        assert same["unchanged"] == 4 and same["added"] == same["modified"] == same["deleted"] == []
        folder["a.md"] = b"changed"
        folder["new.md"] = b"new"
        del folder["notes/b.md"], folder["other/d.md"]
        now = compare()
        assert (now["added"], now["modified"], now["unchanged"]) == (["new.md"], ["a.md"], 1)
        assert sorted(now["deleted"]) == ["notes/b.md", "other/d.md"] and now["forgotten"] == 0
        assert client.get("/documents").json()["total"] == 4  # it only told
        folder = {path: data for path, data in folder.items() if path.startswith("notes/")}
        part = compare(prefix="notes/", forget=True)
        assert (part["deleted"], part["forgotten"], part["added"]) == (["notes/b.md"], 1, [])
        paths = {d["path"] for d in client.get("/documents").json()["documents"]}
        assert paths == {"a.md", "notes/c.md", "other/d.md"}

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({}, "files"),
            ({"files": []}, "files"),  # a folder that was not there must not empty the collection
            ({"files": [{"path": "a.md", "hash": "x"}]}, "hash"),
            ({"files": [{"path": "a.md", "hash": "0" * 64}] * 2}, "a.md"),
            ({"files": [{"path": "../..", "hash": "0" * 64}]}, "name a document"),
            ({"files": [{"path": "a.md", "hash": "0" * 64, "size": -1}]}, "size"),
            ({"files": [{"path": "a.md", "hash": "0" * 64}], "remove": True}, "remove"),
        ],
    )
    def test_what_is_no_manifest_is_refused(
        self, client: TestClient, body: dict[str, Any], says: str
    ) -> None:
        reply = client.post("/documents/sync", json=body)
        assert reply.status_code == 422 and says in reply.json()["error"]["message"]

    def test_it_is_json(self, client: TestClient) -> None:
        reply = client.post("/documents/sync", content=b"x", headers={"Content-Type": "text/plain"})
        assert reply.status_code == 415
        assert client.post("/documents/sync", json={}, params={}).status_code == 422


class TestCancel:
    def upload(self, client: TestClient, count: int) -> dict[str, Any]:
        files = [("files", (f"f{n}.md", b"text")) for n in range(count)]
        return dict(client.post("/documents", files=files).json())

    def test_a_running_upload_stops_and_a_waiting_one_never_begins(
        self, client: TestClient, app: FastAPI, library: MemoryLibrary, tmp_path: Path
    ) -> None:
        library.add_gate = threading.Event()
        before = dict(library.shelves["default"])
        running, waiting, kept = (self.upload(client, n) for n in (3, 2, 1))
        until(lambda: client.get(f"/jobs/{running['id']}").json()["status"] == "running")
        told = client.delete(f"/jobs/{waiting['id']}").json()
        assert told["status"] == "cancelled" and told["finished_at"] and told["completed"] == 0
        assert client.delete(f"/jobs/{running['id']}").status_code == 200
        library.add_gate.set()
        assert ended(client, running)["status"] == "cancelled" and ended(client, running)["completed"] == 0
        assert ended(client, kept)["status"] == "done"
        assert set(library.shelves["default"]) - set(before) == {"f0.md"}
        assert list((tmp_path / "uploads").iterdir()) == []
        with client.stream("GET", f"/jobs/{waiting['id']}/events") as events:
            assert "event: final" in "".join(events.iter_text())

    def test_what_has_ended_stays_as_it_is(self, client: TestClient) -> None:
        job = self.upload(client, 1)
        assert ended(client, job)["status"] == "done"
        assert client.delete(f"/jobs/{job['id']}").json()["status"] == "done"
        assert client.delete("/jobs/none").status_code == 404

    def test_a_place_in_the_queue_is_free_again(self, client: TestClient, library: MemoryLibrary) -> None:
        library.add_gate = threading.Event()
        limit = 32  # of ServiceSettings
        jobs = [self.upload(client, 1) for _ in range(limit)]
        until(lambda: client.get(f"/jobs/{jobs[0]['id']}").json()["status"] == "running")
        self.upload(client, 1)
        form = {"files": ("x.md", b"x")}
        assert client.post("/documents", files=form).status_code == 429
        client.delete(f"/jobs/{jobs[-1]['id']}")
        assert client.post("/documents", files=form).status_code == 202
        library.add_gate.set()
