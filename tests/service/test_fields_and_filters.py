"""Fields and filters over HTTP: set by upload and PATCH, asked for by list, search and question."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.settings import ServiceSettings
from tests.ingest.test_fetch import HTML, serving
from tests.service.conftest import TOWER
from tests.service.fakes import MemoryLibrary, ScriptedGenerator
from tests.service.test_documents import MARS, finished


@pytest.fixture
def filled(client: TestClient) -> TestClient:
    """Two documents of 2020 and 2021, beside what the library begins with."""
    tower = {"text": TOWER, "path": "a/tower.md", "metadata": {"year": 2020, "tags": ["law", "tax"]}}
    finished(client, client.post("/documents", json=tower).json())
    form = {"metadata": json.dumps({"year": 2021, "signed": "2021-05-17"})}
    finished(
        client, client.post("/documents", files=[("files", ("mars.md", MARS.encode()))], data=form).json()
    )
    return client


def paths(client: TestClient, filter_: str) -> list[str]:
    return [d["path"] for d in client.get("/documents", params={"filter": filter_}).json()["documents"]]


def test_documents_are_listed_and_searched_by_fields(filled: TestClient) -> None:
    assert paths(filled, "year >= 2020") == ["a/tower.md", "mars.md"]
    assert paths(filled, "tags in (tax) or signed > 2022") == ["a/tower.md"]
    tree = {
        "and": [
            {"field": "year", "op": ">", "value": 2000},
            {"not": {"field": "tags", "op": "=", "value": "law"}},
        ]
    }
    for filters in (tree, "year > 2000 and not tags = law"):
        hits = filled.post("/search", json={"query": "tower moons", "k": 9, "filters": filters}).json()[
            "hits"
        ]
        assert {hit["path"] for hit in hits} == {"mars.md"}
    asked = {"question": "How tall is the tower?", "filters": "year = 2021"}
    sources = filled.post("/ask", json=asked).json()["sources"]
    assert {source["path"] for source in sources} == {"mars.md"}


def test_patch_sets_changes_and_takes_away(filled: TestClient) -> None:
    (document,) = filled.get("/documents", params={"filter": "tags = tax"}).json()["documents"]
    assert document["own"] == {"tags": ["law", "tax"], "year": 2020}
    where = f"/documents/{document['document_id']}"
    changed = filled.patch(where, json={"metadata": {"year": None, "Author": "Li"}}).json()
    assert changed["own"] == {"author": "Li", "tags": ["law", "tax"]} == filled.get(where).json()["own"]
    assert paths(filled, "author = li") == ["a/tower.md"] and paths(filled, "year = 2020") == []
    again = {"text": TOWER + " Changed.", "path": "a/tower.md"}
    finished(filled, filled.post("/documents", json=again).json())
    assert filled.get(where).json()["own"] == {"author": "Li", "tags": ["law", "tax"]}
    assert filled.patch("/documents/none", json={"metadata": {"a": 1}}).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("post", "/search", {"query": "x", "filters": "year >="}, "character 8: expected a value after >="),
        ("post", "/ask", {"question": "x", "filters": {"or": [{"field": 1}]}}, r"filters.or[0]"),
        ("post", "/search", {"query": "x", "filters": 3}, "expected an object"),
        ("get", "/documents?filter=a%20=", None, "character 4"),
        ("patch", "/documents/x", {"metadata": {"path": "y"}}, "cannot be set"),
        ("patch", "/documents/x", {"metadata": {"a": {"b": 1}}}, "give a text, a number"),
        ("patch", "/documents/x", {"metadata": [1]}, "dictionary"),
        ("post", "/documents", {"text": "x", "path": "x.md", "metadata": {"and": 1}}, "cannot name a field"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_said_with_its_place(
    client: TestClient, method: str, path: str, body: Any, said: str
) -> None:
    reply = client.request(method, path, json=body) if body is not None else client.request(method, path)
    assert reply.status_code == 422, reply.text
    assert said in reply.json()["error"]["message"]


@pytest.mark.parametrize("metadata", ["[1]", "{", "[" * 100_000, '{"path": "x"}'])
def test_a_form_with_fields_that_are_none(client: TestClient, metadata: str) -> None:
    reply = client.post("/documents", files=[("files", ("a.md", b"x"))], data={"metadata": metadata})
    assert reply.status_code == 422


# Web pages


def test_no_page_is_fetched_unless_a_setting_says_so(client: TestClient) -> None:
    with serving() as site:
        reply = client.post("/documents", json={"url": site.put("/", HTML)})
        assert reply.status_code == 422 and "fetch_urls" in reply.json()["error"]["message"]
        assert site.asked == []


@pytest.fixture
def fetching(tmp_path: Path, library: MemoryLibrary, generator: ScriptedGenerator) -> Iterator[TestClient]:
    settings = ServiceSettings(model="scripted", shutdown_grace_s=0.5, fetch_urls=True)
    app = create_app(settings, tmp_path, library, generator)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        assert app.state.parts.readiness.wait(10)
        yield client


def test_no_page_of_a_private_network_is_fetched(fetching: TestClient, tmp_path: Path) -> None:
    with serving() as site:
        page = site.put("/", HTML)
        for url in (
            page,
            page.replace("127.0.0.1", "2130706433"),
            "file:///etc/passwd",
            "http://u:p@x.example/",
        ):
            reply = fetching.post("/documents", json={"url": url})
            assert reply.status_code == 422 and reply.json()["error"]["code"] == "page_not_fetched", (
                reply.text
            )
        assert site.asked == []
    assert list((tmp_path / "uploads").iterdir()) == []


def test_a_page_is_a_document_known_by_its_url(fetching: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.fetch.is_public", lambda address: True)
    with serving() as site:
        url = site.put("/guide", HTML)
        job = fetching.post("/documents", json={"url": url, "metadata": {"kind": "page"}}).json()
        assert finished(fetching, job)["files"][0]["path"] == url
        assert paths(fetching, "kind = page") == [url]
        missing = fetching.post("/documents", json={"url": f"http://{site.address}/missing"})
        assert missing.status_code == 422 and "404" in missing.json()["error"]["message"]


@pytest.mark.parametrize("body", [{"url": "http://x/", "text": "x"}, {"path": "x.md"}, {"text": "x"}, {}])
def test_a_text_or_a_page(client: TestClient, body: dict[str, str]) -> None:
    assert client.post("/documents", json=body).status_code == 422
