"""Collections are made as they were asked for, and what is deleted is gone: from replies, from the disk, from the queue."""

from __future__ import annotations

import io
import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from ingest.collections import open_collection
from ingest.settings import IngestSettings
from service.app import create_app
from service.database import records
from service.keys import Keys
from service.settings import ServiceSettings
from service.shelves import Shelves
from tests.fakes import HashEmbedder
from tests.service.conftest import TOWER, until
from tests.service.fakes import MemoryLibrary, ScriptedGenerator

SETTINGS = IngestSettings(workers=1, embedder="hash")


class Home:
    """A service over real collections; `entered` and `gate` stop an upload at its first encoding."""

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "models" / "other").mkdir(parents=True)
        (home / "models" / "other" / "modules.json").write_text("[]")
        self.embedders = {"hash": Slow(), "other": HashEmbedder(name="other")}
        self.shelves = Shelves(home, "default", SETTINGS, self.embedders.__getitem__)
        app = create_app(ServiceSettings(), home, self.shelves, ScriptedGenerator())
        self.client = TestClient(app, base_url="http://127.0.0.1")

    def upload(self, collection: str, path: str = "tower.md", text: str = TOWER) -> str:
        body = {"collection": collection, "path": path, "text": text}
        return str(self.client.post("/documents", json=body).json()["id"])

    def finished(self, job: str) -> str:
        until(lambda: self.client.get(f"/jobs/{job}").json()["finished_at"])
        return str(self.client.get(f"/jobs/{job}").json()["status"])

    @property
    def folders(self) -> list[str]:
        return sorted(f.name for f in (self.home / "collections").iterdir())


class Slow(HashEmbedder):
    """Waits for its gate where one is set."""

    gate: threading.Event | None = None
    entered = threading.Event()

    def encode_passages(self, texts):  # type: ignore[no-untyped-def]
        if self.gate is not None:
            self.entered.set()
            assert self.gate.wait(20)
        return super().encode_passages(texts)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / ".lorebase")
    with home.client:
        until(lambda: home.client.get("/readyz").status_code == 200)
        yield home


def test_a_collection_keeps_the_embedder_and_the_cut_it_was_made_with(served: Home) -> None:
    client = served.client
    assert client.get("/collections").json() == {
        "collections": [],
        "default": "default",
        "embedders": ["hash", "other"],
    }
    made = client.post("/collections", json={"name": "合同 A", "embedder": "other", "chunking": "64-0"})
    assert made.status_code == 201
    assert made.json() == client.get("/collections/合同 A").json()
    told = {k: made.json()[k] for k in ("name", "documents", "chunks", "embedder", "chunking")}
    assert told == {"name": "合同 A", "documents": 0, "chunks": 0, "embedder": "other", "chunking": "64-0"}
    asked = {"question": "How tall is the tower?", "collection": "合同 A"}
    assert client.post("/ask", json=asked).json()["refusal_reason"] == "nothing_ingested"
    with open_collection(served.home, "合同 A") as store:  # as another process sees it
        assert store.status().embedder_id == served.embedders["other"].id

    long = "\n\n".join(f"Sentence {n} of a long text about towers." for n in range(60))
    assert served.finished(served.upload("合同 A", text=long)) == "done"
    assert client.post("/collections", json={"name": "usual"}).json()["chunking"] == "224-32"
    assert served.finished(served.upload("usual", text=long)) == "done"
    fine, usual = (client.get(f"/collections/{n}").json() for n in ("合同 A", "usual"))
    assert (usual["embedder"], usual["documents"]) == ("hash", 1)
    assert fine["chunks"] > 2 * usual["chunks"]
    document = client.get("/documents", params={"collection": "合同 A"}).json()["documents"][0]
    path = f"/documents/{document['document_id']}/chunks"
    chunks = client.get(path, params={"collection": "合同 A"}).json()["chunks"]
    assert max(c["tokens"] for c in chunks) <= 64


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"name": "there"}, 409, "name_taken"),
        ({"name": "../out"}, 422, "invalid_collection_name"),
        ({"name": ".hidden"}, 422, "invalid_collection_name"),
        ({"name": ""}, 422, "invalid_request"),
        ({"name": "new", "embedder": "absent"}, 422, "invalid_request"),
        ({"name": "new", "embedder": "../models/other"}, 422, "invalid_request"),
        ({"name": "new", "chunking": "many"}, 422, "invalid_setting"),
        ({"name": "new", "chunking": "1-0"}, 422, "invalid_setting"),
        ({"name": "new", "language": "de"}, 422, "invalid_request"),
    ],
)
def test_what_cannot_be_made_makes_nothing(
    served: Home, body: dict[str, str], status: int, code: str
) -> None:
    assert served.client.post("/collections", json={"name": "there"}).status_code == 201
    reply = served.client.post("/collections", json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert str(served.home) not in reply.text
    assert served.folders == ["there"]


def test_an_embedder_that_cannot_be_loaded_leaves_no_collection(served: Home) -> None:
    from ingest.errors import EmbedderError

    def broken(name: str) -> HashEmbedder:
        raise EmbedderError(f"{name} is damaged")

    served.shelves._find = broken
    reply = served.client.post("/collections", json={"name": "new", "embedder": "other"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "embedder_error")
    assert not (served.home / "collections").exists()


def test_a_deleted_collection_is_gone_with_its_files_and_can_be_made_anew(served: Home) -> None:
    client = served.client
    assert (
        served.finished(served.upload("gone")) == "done" and served.finished(served.upload("stays")) == "done"
    )
    document = client.get("/documents", params={"collection": "gone"}).json()["documents"][0]["document_id"]
    assert list((served.home / "collections" / "gone" / "originals").iterdir())
    deleted = client.delete("/collections/gone")
    assert deleted.status_code == 204 and deleted.content == b""
    assert served.folders == ["stays"]
    for reply in (
        client.get("/collections/gone"),
        client.delete("/collections/gone"),
        client.post("/search", json={"query": "tower", "collection": "gone"}),
        client.post("/ask", json={"question": "How tall?", "collection": "gone"}),
        client.get(f"/documents/{document}/file", params={"collection": "gone"}),
    ):
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "unknown_collection")
    assert served.folders == ["stays"], "looking for it does not bring it back"
    assert client.get("/collections/stays").json()["documents"] == 1

    assert client.post("/collections", json={"name": "gone", "embedder": "other"}).status_code == 201
    assert client.get("/documents", params={"collection": "gone"}).json()["total"] == 0


def test_uploads_on_their_way_do_not_bring_a_deleted_collection_back(served: Home) -> None:
    client = served.client
    assert served.finished(served.upload("gone")) == "done"
    slow = served.embedders["hash"]
    slow.gate = threading.Event()  # type: ignore[attr-defined]
    slow.entered.clear()  # type: ignore[attr-defined]
    running = served.upload("gone", "more.md", "Another text about bridges.")
    assert slow.entered.wait(20)  # type: ignore[attr-defined]
    waiting, other = served.upload("gone", "last.md"), served.upload("stays")
    replies: list[int] = []
    deleting = threading.Thread(target=lambda: replies.append(client.delete("/collections/gone").status_code))
    deleting.start()
    until(lambda: client.get(f"/jobs/{waiting}").json()["status"] == "cancelled")
    slow.gate.set()  # type: ignore[attr-defined]
    deleting.join(20)
    assert replies == [204]
    assert served.finished(running) == "cancelled" and served.finished(other) == "done"
    assert served.folders == ["stays"]


def test_one_name_is_one_collection_however_its_letters_are_composed(served: Home) -> None:
    """macOS hands out names with accents as letters of their own."""
    client, loose, tight = served.client, "cafe\u0301", "caf\u00e9"
    assert served.finished(served.upload(loose)) == "done"
    form = {"files": ("more.md", b"Another text about bridges.")}
    job = client.post("/documents", files=form, data={"collection": loose}).json()
    assert job["collection"] == tight and served.finished(job["id"]) == "done"
    for name in (loose, tight):
        assert client.get(f"/collections/{name}").json()["documents"] == 2
        told = client.get("/documents", params={"collection": name}).json()["documents"]
        for document in told:
            at = f"/documents/{document['document_id']}/file"
            assert client.get(at, params={"collection": name}).status_code == 200
        chat = {"model": f"lorebase:{name}", "messages": [{"role": "user", "content": "How tall is it?"}]}
        assert client.post("/v1/chat/completions", json=chat).status_code == 200
    assert served.folders == [tight] == list(served.shelves._shelves)
    text = Keys(records("sqlite", served.home)).create("ann", "reader", [loose])[1]
    for name in (loose, tight):
        asked = {"collection": name, "query": "tower"}
        reply = client.post("/search", json=asked, headers={"Authorization": f"Bearer {text}"})
        assert reply.status_code == 200, reply.text
    Keys(records("sqlite", served.home)).revoke("ann")
    Keys(records("sqlite", served.home)).forget("ann")
    assert client.delete(f"/collections/{loose}").status_code == 204 and served.folders == []


def test_one_that_went_without_the_services_doing_is_made_anew_by_the_next_upload(served: Home) -> None:
    assert served.finished(served.upload("default")) == "done"
    shutil.rmtree(served.home / "collections" / "default")
    assert served.finished(served.upload("default")) == "done"
    assert served.client.get("/documents").json()["total"] == 1
    served.client.delete("/collections/default")
    served.shelves._originals.keep("default", Path(__file__))  # an upload that hears late of it
    assert served.folders == []


def test_one_that_another_process_writes_to_is_not_deleted(
    served: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert served.finished(served.upload("busy")) == "done"
    from ingest import collections as shelf

    monkeypatch.setattr(
        "service.shelves.delete_collection",
        lambda home, name, **_: shelf.delete_collection(home, name, wait_s=0.1),
    )
    with open_collection(served.home, "busy") as store, store.writing("ingest"):
        reply = served.client.delete("/collections/busy")
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "collection_locked")
    assert served.client.get("/collections/busy").json()["documents"] == 1


def test_one_that_is_damaged_hides_no_other_and_can_be_deleted(served: Home) -> None:
    client = served.client
    for name in ("sound", "hurt"):
        assert served.finished(served.upload(name)) == "done"
    served.shelves.close()
    for file in (served.home / "collections" / "hurt").glob("*.sqlite*"):
        file.write_bytes(b"no database at all" * 300)
    listed = {one["name"]: one for one in client.get("/collections").json()["collections"]}
    assert listed["sound"]["documents"] == 1 and listed["sound"]["problem"] is None
    assert "hurt" in listed["hurt"]["problem"] and listed["hurt"]["documents"] == 0
    assert client.get("/collections/hurt").status_code == 503
    assert client.delete("/collections/hurt").status_code == 204
    assert served.folders == ["sound"]
    assert client.delete("/collections/hurt").status_code == 404
    assert served.finished(served.upload("hurt")) == "done", "the name is free again"


def test_a_folder_that_can_be_no_collection_hides_none(served: Home) -> None:
    assert served.finished(served.upload("sound")) == "done"
    shutil.copytree(served.home / "collections" / "sound", served.home / "collections" / "sound (copy)")
    assert [one["name"] for one in served.client.get("/collections").json()["collections"]] == ["sound"]


def test_an_export_leaves_nothing_behind_whatever_part_is_asked_for(served: Home) -> None:
    assert served.finished(served.upload("sound")) == "done"
    for asked in ("bytes=999999999-", "bytes=abc", "bytes=0-9", None):
        reply = served.client.get("/collections/sound/export", headers={"Range": asked} if asked else {})
        assert reply.status_code == 200 and zipfile.is_zipfile(io.BytesIO(reply.content)), asked
        assert not list(served.home.glob("**/.export-*"))


def test_what_was_forgotten_stands_nowhere_while_the_service_runs(served: Home) -> None:
    assert served.finished(served.upload("c", "secret.md", "The code of the safe is swordfish.")) == "done"
    (one,) = served.client.get("/documents?collection=c").json()["documents"]
    assert served.client.delete(f"/documents/{one['document_id']}?collection=c").status_code == 200
    files = [file for file in (served.home / "collections").glob("**/*") if file.is_file()]
    assert files and not [file for file in files if b"safe is swordfish" in file.read_bytes()]


def test_an_upload_that_was_cancelled_before_it_began_makes_no_collection(served: Home) -> None:
    served.shelves.add("never", [], lambda _: None, lambda: True)
    assert not (served.home / "collections" / "never").exists()


def test_the_fake_library_tells_the_same(client: TestClient, library: MemoryLibrary) -> None:
    assert client.post("/collections", json={"name": "new", "chunking": "64"}).json()["chunking"] == "64-9"
    assert client.post("/collections", json={"name": "new"}).status_code == 409
    assert client.delete("/collections/new").status_code == 204
    assert sorted(library.shelves) == ["default"]
