"""Documents in, listed, read and out again; uploads are jobs that never block a question."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.settings import ServiceSettings
from tests.service.conftest import TOWER, read_events, until
from tests.service.fakes import MemoryLibrary

MARS = "Phobos and Deimos are the moons of Mars. 🪐 Both were found in 1877."


def finished(client: TestClient, job: dict[str, Any]) -> dict[str, Any]:
    until(lambda: client.get(f"/jobs/{job['id']}").json()["finished_at"] is not None)
    return dict(client.get(f"/jobs/{job['id']}").json())


def test_an_upload_is_accepted_ingested_found_and_deleted(client: TestClient, tmp_path: Path) -> None:
    left = tmp_path / "uploads" / "upload-of-a-killed-process"
    left.mkdir(parents=True)
    (left / ".in-use").touch()
    files = [("files", ("mars.md", MARS.encode())), ("files", ("noise.bin", b"\xff\xfe\x00"))]
    accepted = client.post("/documents", files=files)
    assert accepted.status_code == 202 and accepted.json()["total"] == 2 and not left.exists()
    job = finished(client, accepted.json())
    assert job["status"] == "done" and job["completed"] == 2
    assert [(f["path"], f["status"], f["reason"]) for f in job["files"]] == [
        ("mars.md", "added", ""),
        ("noise.bin", "failed", "not text"),
    ]
    assert list((tmp_path / "uploads").iterdir()) == []  # the bytes are gone with the job
    question = {"query": "moons of Mars", "k": 1}
    (found,) = client.post("/search", json=question).json()["hits"]
    assert found["path"] == "mars.md" and found["text"] == MARS
    document = client.get(f"/documents/{found['document_id']}").json()
    assert document["characters"] == len(MARS) and document["chunks"] == 1
    assert client.get(f"/documents/{found['document_id']}/chunks").json()["chunks"][0]["text"] == MARS
    deleted = client.delete(f"/documents/{found['document_id']}")
    assert deleted.json() == {"document_id": found["document_id"], "path": "mars.md", "deleted": True}
    assert all(
        h["path"] != "mars.md" for h in client.post("/search", json=question | {"k": 50}).json()["hits"]
    )
    for path in ("", "/text", "/chunks"):
        assert client.get(f"/documents/{found['document_id']}{path}").status_code == 404
    assert client.delete(f"/documents/{found['document_id']}").status_code == 404


def test_a_text_can_be_sent_as_json_into_a_new_collection(client: TestClient) -> None:
    job = client.post(
        "/documents", json={"text": MARS, "path": "notes/mars.md", "collection": "space"}
    ).json()
    assert finished(client, job)["files"][0]["status"] == "added"
    assert [c["name"] for c in client.get("/collections").json()["collections"]] == ["default", "space"]
    (document,) = client.get("/documents", params={"collection": "space"}).json()["documents"]
    assert (
        client.get(f"/documents/{document['document_id']}/text", params={"collection": "space"}).json()[
            "text"
        ]
        == MARS
    )
    again = client.post(
        "/documents", json={"text": TOWER, "path": "notes/mars.md", "collection": "space"}
    ).json()
    assert finished(client, again)["files"][0]["status"] == "updated"


def test_the_address_may_name_the_collection(client: TestClient) -> None:
    text = {"text": "Rain.", "path": "rain.md"}
    file = {"files": ("合同\u3000a.md", b"Wind.")}
    assert client.post("/documents?collection=weather", json=text).json()["collection"] == "weather"
    assert client.post("/documents?collection=weather", files=file).json()["collection"] == "weather"
    same = client.post("/documents?collection=weather", json=text | {"collection": "weather"})
    assert same.status_code == 202
    other = client.post("/documents?collection=weather", json=text | {"collection": "default"})
    assert other.status_code == 422 and "name one of them" in other.json()["error"]["message"]


def test_progress_comes_as_events_and_ends_with_the_job(client: TestClient) -> None:
    job = client.post("/documents", json={"text": MARS, "path": "mars.md"}).json()
    with client.stream("GET", f"/jobs/{job['id']}/events") as response:
        events = read_events(response)
    assert events[-1][0] == "final" and json.loads(events[-1][1])["status"] == "done"
    assert {name for name, _ in events[:-1]} <= {"progress"}
    assert client.get("/jobs").json()["jobs"][0]["id"] == job["id"]


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "..\\..\\boot.ini",
        "/etc/passwd",
        "C:\\x.md",
        "a/../../b.md",
        "a\x00b.md",
        "..%2f..%2fx.md",
        "\u202egpj.md",
    ],
)
def test_hostile_names_lead_nowhere(
    client: TestClient, tmp_path: Path, name: str, library: MemoryLibrary
) -> None:
    before = {p for p in tmp_path.parent.rglob("*") if "uploads" not in p.parts}
    reply = client.post("/documents", json={"text": MARS, "path": name})
    if reply.status_code == 202:
        (report,) = finished(client, reply.json())["files"]
        parts = report["path"].split("/")
        assert ".." not in parts and "" not in parts and report["path"].isprintable()
    else:
        assert reply.status_code == 422
    assert {p for p in tmp_path.parent.rglob("*") if "uploads" not in p.parts} == before


@pytest.mark.parametrize(
    ("sent", "status", "says"),
    [
        ({"json": {"text": "", "path": "a.md"}}, 422, "text"),
        ({"json": {"text": "x", "path": " "}}, 422, "path"),
        ({"json": {"text": "x", "path": ".."}}, 422, "cannot name a document"),
        ({"json": {"text": "x", "path": "a.md", "surprise": 1}}, 422, "surprise"),
        ({"json": {"path": "a.md"}}, 422, "text"),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 422, "JSON"),
        ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "multipart"),
        ({"content": b""}, 415, "multipart"),
        ({"data": {"collection": "x"}, "files": {"other": b"x"}}, 422, "other"),
        ({"files": [("files", ("a.md", b"x")), ("files", ("a.md", b"y"))]}, 422, "a.md"),
        (
            {"files": [("files", ("a.md", b"x")), ("files", ("b.md", b"y"))], "data": {"path": "c.md"}},
            422,
            "several",
        ),
        (
            {"content": b"--x\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=y"}},
            400,
            "multipart",
        ),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "boundary"),
    ],
)
def test_bad_uploads_are_refused_and_leave_nothing(
    client: TestClient, tmp_path: Path, sent: dict[str, Any], status: int, says: str
) -> None:
    reply = client.post("/documents", **sent)
    assert reply.status_code == status, reply.text
    assert says in reply.json()["error"]["message"]
    assert not (tmp_path / "uploads").exists() or list((tmp_path / "uploads").iterdir()) == []


class TestSmall:
    @pytest.fixture
    def settings(self) -> ServiceSettings:
        return ServiceSettings(max_upload_mb=1, max_upload_files=3, job_queue_length=1)

    def test_limits_are_named(self, client: TestClient) -> None:
        big = client.post("/documents", files={"files": ("a.md", b"x" * 2_100_000)})
        assert big.status_code == 413 and "1 MB" in big.json()["error"]["message"]

        def chunks() -> Any:  # no Content-Length to trust
            yield b'{"path": "a.md", "text": "'
            for _ in range(30):
                yield b"x" * 100_000
            yield b'"}'

        streamed = client.post("/documents", content=chunks(), headers={"Content-Type": "application/json"})
        assert streamed.status_code == 413 and streamed.json()["error"]["code"] == "too_large"
        many = client.post("/documents", files=[("files", (f"{n}.md", b"x")) for n in range(4)])
        assert many.status_code in (400, 413, 422) and many.json()["error"]["message"]

    def test_waiting_uploads_are_bounded_and_block_no_question(
        self, client: TestClient, library: MemoryLibrary
    ) -> None:
        library.add_gate = threading.Event()
        body = {"text": MARS, "path": "a.md"}
        first = client.post("/documents", json=body).json()
        until(lambda: client.get(f"/jobs/{first['id']}").json()["status"] == "running")
        assert client.post("/documents", json=body).status_code == 202
        refused = client.post("/documents", json=body)
        assert refused.status_code == 429 and refused.headers["retry-after"]
        assert client.post("/ask", json={"question": "How tall is the Eiffel Tower?"}).json()["answered"]
        library.add_gate.set()
        assert finished(client, first)["status"] == "done"

    def test_a_job_that_fails_as_a_whole_says_why(self, client: TestClient, library: MemoryLibrary) -> None:
        library.add_failure = RuntimeError("secret")
        job = finished(client, client.post("/documents", json={"text": MARS, "path": "a.md"}).json())
        assert (
            job["status"] == "failed"
            and job["error"]["code"] == "internal"
            and "secret" not in json.dumps(job)
        )


def test_models_lists_the_loaded_one(client: TestClient) -> None:
    listed = client.get("/models").json()
    assert listed["default"] == "scripted" and listed["upstreams"] == []
    (model,) = listed["models"]
    assert (
        model["name"] == "scripted"
        and model["loaded"]
        and model["default"]
        and model["context_tokens"] == 2048
    )
