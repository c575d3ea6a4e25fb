"""What a service meets in the world: headers that are no addresses, full disks, panics, clocks that go back."""

from __future__ import annotations

import errno
import io
import json
import os
import threading
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from fastapi.testclient import TestClient

from ingest.settings import IngestSettings
from service import jobs, temporary
from service.app import create_app
from service.errors import NameTaken
from service.routes import documents
from service.settings import ServiceSettings
from service.shelves import Shelves
from service.workshop import sets
from service.workshop.sets import DataSets
from tests.fakes import HashEmbedder
from tests.service.catalogue.test_edges import WHOLE
from tests.service.conftest import until
from tests.service.fakes import MemoryLibrary, ScriptedGenerator

CLASSES = {"classes": {"a": ["one", "two"], "b": ["three", "four"]}}
TALK = b'[{"instruction": "x", "output": "y"}]'


def code(reply: Any, status: int) -> str:
    assert reply.status_code == status, reply.text
    assert "default-src" in reply.headers["content-security-policy"]
    return str(reply.json()["error"]["code"])


# --- what comes in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["http://[", "http://[zz]", "//[::1", "http://[::1]]"])
def test_an_origin_that_is_no_address_is_a_foreign_one(client: TestClient, origin: str) -> None:
    reply = client.post("/search", json={"query": "tower"}, headers={"Origin": origin})
    assert code(reply, 403) == "foreign_origin"


def test_a_body_that_is_not_said_to_be_json_is_told_how_to_be(client: TestClient) -> None:
    """As `curl -d` sends it."""
    for kind in ("application/x-www-form-urlencoded", "text/plain", None):
        headers = {} if kind is None else {"Content-Type": kind}
        for path in ("/ask", "/classify"):
            reply = client.post(path, content=json.dumps(WHOLE.get(path, CLASSES)), headers=headers)
            assert reply.status_code == 415 and "Content-Type: application/json" in reply.text, path
        for path in ("/v1/chat/completions", "/api/chat", "/api/show"):  # Ollama reads it
            body = json.dumps({"model": "lorebase:default"} | WHOLE.get(path, {}))
            assert client.post(path, content=body, headers=headers).status_code == 200, (path, kind)
            assert client.post(path, content="a=b", headers=headers).status_code == 400, (path, kind)
            for name, value, status in (
                ("Origin", "https://evil.example", 403),
                ("Origin", "null", 403),
                ("Origin", "http://127.0.0.1", 415),
                ("Referer", "https://evil.example/", 415),
                ("Sec-Fetch-Site", "cross-site", 415),
            ):
                reply = client.post(path, content=body, headers=headers | {name: value})
                assert reply.status_code == status, (path, kind, name, value)


def test_monitors_ask_with_head(address: str) -> None:
    """RFC 9110, 9.3.2: as GET, without the content."""
    for path in ("/", "/healthz", "/readyz", "/web/page.js"):
        got, head = httpx.get(address + path), httpx.head(address + path)
        assert (head.status_code, head.content) == (got.status_code, b"") and got.status_code == 200, path
        assert head.headers["content-length"] == got.headers["content-length"] == str(len(got.content)), path
    reply = httpx.head(address + "/documents")
    assert reply.status_code == 405 and reply.headers["allow"] == "GET"


@pytest.mark.parametrize("charset", ["undefined", "\x00", "unicode_escape", "utf-7", "utf-16"])
def test_names_in_a_form_are_utf_8(client: TestClient, charset: str) -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="files"; filename="\\ud800.md"\r\n\r\nx\r\n--b--\r\n'
    for path in ("/documents", "/datasets"):
        kind = f"multipart/form-data; boundary=b; charset={charset}"
        assert code(client.post(path, content=form, headers={"Content-Type": kind}), 415), path
    good = client.post("/documents", files={"files": ("塔.md", b"x")})
    assert good.status_code == 202 and client.get("/jobs").status_code == 200


@pytest.mark.parametrize("name", ["collection", "path", "metadata"])
def test_no_field_of_a_form_goes_unheard(client: TestClient, library: MemoryLibrary, name: str) -> None:
    """A collection that was sent as a file, or twice, would leave the files in another one."""
    file, before = ("files", ("a.md", b"x")), {name: dict(shelf) for name, shelf in library.shelves.items()}
    for fields in ([(name, ("b.txt", b"other"))], [(name, (None, b"one")), (name, (None, b"two"))]):
        reply = client.post("/documents", files=[file, *fields])
        assert code(reply, 422) == "invalid_upload" and name in reply.text
    assert library.shelves == before


def test_half_a_surrogate_pair_is_no_text_anywhere(tmp_path: Path) -> None:
    library = Shelves(tmp_path, "default", IngestSettings(), lambda name: HashEmbedder(name=name))
    app = create_app(ServiceSettings(model="scripted"), tmp_path, library, ScriptedGenerator())
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        job = client.post("/documents", json={"text": "The tower is tall.", "path": "a.md"}).json()
        until(lambda: client.get(f"/jobs/{job['id']}").json()["finished_at"] is not None)
        half = '"\\ud800"'
        for more, status in (
            (f'"filters": {half}', 422),
            (f'"filters": {{"field": "author", "op": "=", "value": {half}}}', 200),
            (f'"filters": {{"field": "author", "op": "in", "value": [{half}]}}', 200),
            (f'"filters": {{"field": {half}, "op": "=", "value": "x"}}', 200),
            (f"{half}: 1", 422),
        ):
            body = f'{{"query": "tower", {more}}}'
            reply = client.post("/search", content=body, headers={"Content-Type": "application/json"})
            assert reply.status_code == status, (more, reply.text)


# --- the disk ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_refuses_is_said_to_and_nothing_is_left(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number), str(tmp_path / "secret"))

    def refused(reply: Any) -> None:
        assert code(reply, 507) == "storage_full"
        assert os.strerror(number) in reply.text and str(tmp_path) not in reply.text

    with monkeypatch.context() as patch:
        patch.setattr(documents.shutil, "copyfileobj", refuse)
        refused(client.post("/documents", files={"files": ("a.md", b"x")}))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        refused(client.put("/classifiers/mine", json=CLASSES))
        refused(client.post("/datasets", files={"file": ("talk.json", TALK)}))
    with monkeypatch.context() as patch:
        patch.setattr(temporary.tempfile, "mkdtemp", refuse)
        refused(client.post("/documents", files={"files": ("a.md", b"x")}))
        refused(client.get("/collections/default/export"))
    left = [p for p in tmp_path.rglob("*") if p.is_file() and not p.name.startswith("service.sqlite")]
    assert left == [] and client.post("/documents", files={"files": ("a.md", b"x")}).status_code == 202


def test_what_others_put_into_the_data_folder_hides_nothing(client: TestClient, tmp_path: Path) -> None:
    """Copies as file managers name them, and names that are no UTF-8."""
    asked = b'{"question": "Who? \\ud800", "answers": ["Lore"]}\n'
    odd = os.fsdecode(b"\xff")
    for name in ("mine", "mine (copy)", odd, "._mine"):
        for file in (f"classifiers/{name}.json", f"datasets/{name}.json", f"runs/{name}/config.json"):
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text(json.dumps(CLASSES) if file.startswith("classifiers") else "[]")
        (tmp_path / "evaluations" / name).mkdir(parents=True)
    assert client.post("/datasets", files={"file": ("asked.jsonl", asked)}).status_code == 201
    found = {}
    for kind in ("classifiers", "datasets", "runs", "evaluations"):
        reply = client.get(f"/{kind}")
        assert reply.status_code == 200 and str(tmp_path) not in reply.text, (kind, reply.text)
        found[kind] = {one["name"] for one in reply.json()[kind]}
        for name in found[kind]:
            assert client.get(f"/{kind}/{name}").status_code == 200
    assert found["classifiers"] == {"finance-zh", "mine"} and found["runs"] == found["evaluations"] == {
        "mine"
    }
    assert found["datasets"] == {"mine.json", "mine (copy).json", "asked.jsonl"}


def test_a_list_does_without_what_is_deleted_while_it_is_made(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.put("/classifiers/mine", json=CLASSES)
    client.post("/datasets", files={"file": ("talk.json", TALK)})
    parts = client.app.state.parts  # type: ignore[attr-defined]
    names, files = parts.classifiers.names(), parts.datasets._files()
    monkeypatch.setattr(parts.classifiers, "names", lambda: names)
    monkeypatch.setattr(parts.datasets, "_files", lambda: files)
    client.delete("/classifiers/mine")
    client.delete("/datasets/talk.json")
    assert [c["name"] for c in client.get("/classifiers").json()["classifiers"]] == ["finance-zh"]
    assert client.get("/datasets").json() == {"datasets": []}
    assert code(client.get("/datasets/talk.json"), 404) == "unknown_name"


def test_of_two_sets_with_one_name_the_first_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, other = DataSets(tmp_path), b'[{"instruction": "other", "output": "y"}]'
    both = threading.Barrier(2)
    described = sets.described

    def at_the_same_time(file: Path) -> sets.DataSet:
        if file.name.startswith("."):
            both.wait(10)
        return described(file)

    monkeypatch.setattr(sets, "described", at_the_same_time)
    told: list[object] = []

    def add(content: bytes) -> None:
        try:
            told.append(shelf.add("talk.json", io.BytesIO(content)).name)
        except NameTaken as error:
            told.append(type(error))

    threads = [threading.Thread(target=add, args=(content,)) for content in (TALK, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(told) == {"talk.json", NameTaken}


# --- jobs --------------------------------------------------------------------------------------------------------------


def test_a_panic_of_a_native_library_does_not_take_the_uploads_along(
    client: TestClient, library: MemoryLibrary
) -> None:
    class Panic(BaseException):
        pass

    library.add_failure = Panic("index out of range")  # type: ignore[assignment]
    replies = []
    for failure in (library.add_failure, None):
        library.add_failure = failure
        job = client.post("/documents", json={"text": "x", "path": "a.md"}).json()
        until(lambda job=job: client.get(f"/jobs/{job['id']}").json()["finished_at"] is not None)  # type: ignore[misc]
        replies.append(client.get(f"/jobs/{job['id']}").json())
    assert [reply["status"] for reply in replies] == ["failed", "done"]
    assert replies[0]["error"]["code"] == "internal" and "index" not in json.dumps(replies[0])


def test_what_nobody_foresaw_is_in_the_log_wherever_it_happens(
    client: TestClient, library: MemoryLibrary, generator: ScriptedGenerator, caplog: pytest.LogCaptureFixture
) -> None:
    """The reply sends whoever reads it there: of a stream that had begun, and of an upload, too."""

    def fails(_: object) -> NoReturn:
        raise ZeroDivisionError("secret")

    turns = [{"role": "user", "content": "How tall is the Eiffel Tower?"}]
    generator.reply = fails
    library.add_failure = ZeroDivisionError("secret")
    for path, body in (
        ("/ask", {"question": turns[0]["content"], "stream": True}),
        ("/ask", {"question": turns[0]["content"]}),
        ("/v1/chat/completions", {"model": "lorebase", "messages": turns, "stream": True}),
        ("/api/chat", {"model": "lorebase", "messages": turns}),
        ("/documents", {"text": "x", "path": "a.md"}),
    ):
        caplog.clear()
        reply = client.post(path, json=body)
        if path == "/documents":
            at = f"/jobs/{reply.json()['id']}"
            until(lambda at=at: client.get(at).json()["finished_at"] is not None)  # type: ignore[misc]
            reply = client.get(at)
        assert "its log has the details" in reply.text, (path, reply.text)
        logged = [record for record in caplog.records if record.exc_info]
        assert [record.exc_info[0] for record in logged if record.exc_info] == [ZeroDivisionError], path


def test_a_job_that_has_ended_says_how(
    client: TestClient, library: MemoryLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sees that it has ended takes the rest for final: a stream of its events ends with it."""
    seen: list[str] = []
    now = jobs._now

    def noted() -> str:
        seen.extend(job.status for job in client.app.state.parts.jobs.jobs())  # type: ignore[attr-defined]
        return now()

    library.add_gate = threading.Event()
    body = {"text": "x", "path": "a.md"}
    running, waiting = (client.post("/documents", json=body).json()["id"] for _ in range(2))
    until(lambda: client.get(f"/jobs/{running}").json()["status"] == "running")
    monkeypatch.setattr(jobs, "_now", noted)
    client.delete(f"/jobs/{waiting}")
    assert seen == ["cancelled", "running"]
    library.add_gate.set()
    until(lambda: client.get(f"/jobs/{running}").json()["finished_at"] is not None)
    assert seen[2:] == ["cancelled", "done"]
