"""The originals of documents: kept, found, refused when they changed, and pages as pictures."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from reportlab.pdfgen.canvas import Canvas

from ingest.settings import IngestSettings
from service.app import create_app
from service.errors import Busy
from service.originals import MOST_DRAWN, Originals
from service.settings import ServiceSettings
from service.shelves import Shelves
from tests.fakes import HashEmbedder
from tests.service.conftest import until
from tests.service.fakes import ScriptedGenerator


def pdf(*pages: str) -> bytes:
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=(300, 200))
    for text in pages:
        canvas.drawString(40, 150, text)
        canvas.rect(0, 0, 150, 20, fill=1)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "project" / ".lorebase"


@pytest.fixture
def client(home: Path) -> Iterator[TestClient]:
    library = Shelves(home, "default", IngestSettings(), lambda name: HashEmbedder(name=name))
    app = create_app(
        ServiceSettings(model="scripted", shutdown_grace_s=0.5), home, library, ScriptedGenerator()
    )
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def upload(client: TestClient, name: str, content: bytes) -> str:
    job = client.post("/documents", files={"files": (name, content)}).json()
    until(lambda: client.get(f"/jobs/{job['id']}").json()["finished_at"] is not None, 60)
    assert client.get(f"/jobs/{job['id']}").json()["status"] == "done"
    (found,) = [d for d in client.get("/documents").json()["documents"] if d["path"] == name]
    return str(found["document_id"])


def kept(home: Path) -> list[str]:
    return sorted(
        p.name
        for p in (home / "collections" / "default").glob("*/*")
        if p.parent.name in ("originals", "pages")
    )


def code(reply: Any, status: int) -> str:
    assert reply.status_code == status, reply.text
    return str(reply.json()["error"]["code"])


def test_an_upload_comes_back_and_leaves_with_its_document(client: TestClient, home: Path) -> None:
    content = pdf("The tower is tall.", "The bridge is old.")
    one = upload(client, "塔 tower.pdf", content)
    reply = client.get(f"/documents/{one}/file")
    assert reply.content == content and reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["content-disposition"] == "attachment; filename*=UTF-8''%E5%A1%94%20tower.pdf"

    picture = client.get(f"/documents/{one}/pages/2.png")
    assert picture.headers["content-type"] == "image/png"
    drawn = Image.open(io.BytesIO(picture.content))
    assert drawn.size == (600, 400)
    assert drawn.getpixel((100, 390)) == (0, 0, 0) and drawn.getpixel((500, 390)) == (255, 255, 255)
    assert client.get(f"/documents/{one}/pages/2.png").content == picture.content
    assert len(kept(home)) == 2
    for page in ("0", "3", "-1", "x", "1.5", "99999999", "２"):
        assert client.get(f"/documents/{one}/pages/{page}.png").status_code == 404, page

    two = upload(client, "copy.pdf", content)  # the same bytes are kept once, for both
    assert len(kept(home)) == 2
    client.delete(f"/documents/{one}")
    assert client.get(f"/documents/{two}/file").content == content
    upload(client, "copy.pdf", pdf("Another text about a river."))  # replaced: the old bytes are nobody's
    assert len(kept(home)) == 1
    client.delete(f"/documents/{two}")
    assert kept(home) == []


def test_a_file_in_a_folder_is_found_only_as_it_was_read(
    client: TestClient, home: Path, tmp_path: Path
) -> None:
    from ingest.collections import open_collection
    from ingest.pipeline import ingest_path  # as the command line does

    folder = home.parent / "docs"
    folder.mkdir(parents=True)
    file = folder / "tower.md"
    file.write_text("The tower is tall.\n")
    store = open_collection(home, "default", create=True)
    ingest_path(
        [folder], store, HashEmbedder(name=IngestSettings().embedder), IngestSettings(), base=home.parent
    )
    store.close()
    (document,) = client.get("/documents").json()["documents"]
    address = f"/documents/{document['document_id']}/file"
    assert document["path"] == "docs/tower.md" and client.get(address).content == file.read_bytes()
    file.write_text("secret\n")
    assert code(client.get(address), 410) == "original_gone" and "secret" not in client.get(address).text
    file.unlink()
    assert "no longer where" in client.get(address).json()["error"]["message"]
    assert code(client.get("/documents/none/file"), 404) == "unknown_document"


def test_what_is_kept_is_handed_out_only_if_it_is_whole_and_mended_by_the_next_upload(
    client: TestClient, home: Path
) -> None:
    content = pdf("The tower is tall.")
    address = f"/documents/{upload(client, 'tower.pdf', content)}/file"
    (file,) = (home / "collections" / "default" / "originals").iterdir()
    for damaged in (b"", b"secret", content[:-1]):
        file.write_bytes(damaged)
        assert (
            code(client.get(address), 410) == "original_gone" and b"secret" not in client.get(address).content
        )
    upload(client, "again.pdf", content)
    assert client.get(address).content == content


def test_a_document_with_a_name_longer_than_a_files_has_no_original_once_it_is_gone(
    client: TestClient, home: Path
) -> None:
    one = upload(client, "n" * 300 + ".md", b"The tower is tall.")
    assert client.get(f"/documents/{one}/file").status_code == 200
    (file,) = (home / "collections" / "default" / "originals").iterdir()
    file.unlink()
    assert code(client.get(f"/documents/{one}/file"), 410) == "original_gone"


def test_pictures_are_removed_by_age_while_others_look_at_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service import originals
    from tests.service.fakes import MemoryLibrary

    (document,) = MemoryLibrary({"a.pdf": "x"}).documents("default")
    (tmp_path / "collections" / "default").mkdir(parents=True)
    shelf = originals.Originals(tmp_path)
    monkeypatch.setattr(shelf, "find", lambda *_: tmp_path)
    monkeypatch.setattr(originals, "MOST_PICTURES", 3)
    drawn: list[int] = []

    def draw(_: Path, page: int, target: Path) -> None:
        drawn.append(page)
        target.write_bytes(b"png")
        os.utime(target, (page, page))  # long ago, in this order

    monkeypatch.setattr(originals, "draw", draw)
    for page in (1, 2, 3):
        shelf.picture("default", document, page)
    shelf.picture("default", document, 1)  # looked at: the last to go
    shelf.picture("default", document, 4)
    shelf.picture("default", document, 1)
    assert drawn == [1, 2, 3, 4]
    glob = Path.glob  # one goes with its document between the list and the look at each
    monkeypatch.setattr(Path, "glob", lambda self, what: [*glob(self, what), self / "gone.png"])
    shelf.picture("default", document, 5)
    assert drawn == [1, 2, 3, 4, 5]


def test_a_file_that_goes_after_it_was_found_is_gone_by_name_and_one_that_is_open_comes_whole(
    client: TestClient, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service import originals

    content = pdf("The tower is tall.", "The bridge is old.")
    file = f"/documents/{upload(client, 'tower.pdf', content)}/file"
    page = file.removesuffix("file") + "pages/1.png"
    folder = home / "collections" / "default"
    picture = client.get(page).content

    real = {name: getattr(originals.Originals, name) for name in ("find", "picture")}
    for name, address in (("find", file), ("picture", page)):

        def found_and_removed(*given: Any, found: Any = real[name]) -> Path:
            place: Path = found(*given)
            place.unlink()
            return place

        with monkeypatch.context() as patched:
            patched.setattr(originals.Originals, name, found_and_removed)
            assert code(client.get(address), 410) == "original_gone", address
        (folder / "originals").mkdir(exist_ok=True)
        upload(client, "again.pdf", content)

    with monkeypatch.context() as patched:  # between the file's finding and its drawing
        patched.setattr(originals.Originals, "_draw", _removing(originals.Originals._draw))
        assert code(client.get(page), 410) == "original_gone"
    upload(client, "again.pdf", content)

    opened = os.open
    for address, bytes_of_it in ((file, content), (page, picture)):
        client.get(address)  # the picture is drawn

        def open_and_remove(path: Any, *more: Any, **given: Any) -> int:
            descriptor = opened(path, *more, **given)
            if Path(path).parent.name in ("originals", "pages"):
                Path(path).unlink()
            return descriptor

        with monkeypatch.context() as patched:
            patched.setattr(os, "open", open_and_remove)
            reply = client.get(address, headers={"Range": "bytes=1-"})
        assert (reply.status_code, reply.content) == (206, bytes_of_it[1:])
        upload(client, "again.pdf", content)


def _removing(draw: Any) -> Any:
    def removed_and_drawn(self: Any, collection: str, document: Any, file: Path, *rest: Any) -> None:
        file.unlink()
        draw(self, collection, document, file, *rest)

    return removed_and_drawn


@pytest.mark.parametrize(
    "content", [b"%PDF-1.7\n" + b"\x00" * 2000, b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<</Root 1 0 R>>"]
)
def test_a_page_that_cannot_be_drawn_costs_one_process(tmp_path: Path, content: bytes) -> None:
    from service import page_picture
    from service.errors import UnknownName, UnreadablePage

    file = tmp_path / "bad.pdf"
    file.write_bytes(content)
    with pytest.raises((UnreadablePage, UnknownName)):
        page_picture.draw(file, 1, tmp_path / "out.png")
    assert [p.name for p in tmp_path.iterdir()] == ["bad.pdf"]
    good = tmp_path / "good.pdf"
    good.write_bytes(pdf("x"))
    with pytest.raises(UnknownName, match="no page 2"):
        page_picture.draw(good, 2, tmp_path / "out.png")


def test_many_pages_at_once_leave_threads_to_others(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, begun = threading.Event(), threading.Event()

    def draw(file: Path, page: int, target: Path) -> None:
        begun.set()
        assert held.wait(20)
        target.write_bytes(b"png")

    monkeypatch.setattr("service.originals.draw", draw)
    file = home / "a.pdf"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x")
    (home / "collections" / "c").mkdir(parents=True)
    digest = hashlib.sha256(b"x").hexdigest()
    document = SimpleNamespace(path=str(file), content_hash=f"sha256:{digest}")
    kept_files = Originals(home)
    with ThreadPoolExecutor(MOST_DRAWN + 1) as pool:
        drawn = [pool.submit(kept_files.picture, "c", document, n) for n in range(1, MOST_DRAWN + 1)]  # type: ignore[arg-type]
        assert begun.wait(20)
        until(lambda: not kept_files._waiting._value)  # type: ignore[attr-defined]
        with pytest.raises(Busy):
            kept_files.picture("c", document, 99)  # type: ignore[arg-type]
        held.set()
        assert all(future.result(20).is_file() for future in drawn)
    assert kept_files.picture("c", document, 99).is_file()  # type: ignore[arg-type]
