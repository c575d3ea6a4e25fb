"""Fields and filters over HTTP: set by upload and PATCH, asked for by list, search and question."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.service.conftest import TOWER
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
