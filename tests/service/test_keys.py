"""Keys with roles and collections: made once, stored hashed, void at once, and never good for more than they say."""

from __future__ import annotations

import ast
import inspect
import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import Response

from ingest.errors import IndexDamaged
from service import access, limited
from service import app as composition
from service import keys as keys_module
from service.__main__ import main
from service.access import Access
from service.database import FILE_NAME, Database
from service.errors import Forbidden, InvalidKey, RecordsUnavailable, UnknownKey
from service.keys import ROLES, Keys
from service.library import Library
from service.models import AdapterInfo
from service.settings import ServiceSettings
from tests.service.conftest import BRIDGE, TOWER, until
from tests.service.fakes import MemoryLibrary, ScriptedGenerator, document_id

QUESTION = {"question": "How tall is the Eiffel Tower?"}


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    database = Database(tmp_path)
    yield Keys(database)
    database.close()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def live(app: FastAPI) -> set[tuple[str, str]]:
    """Every route, those that the OpenAPI document hides included, with the path as the router has it."""
    found: set[tuple[str, str]] = set()

    def walk(routes: Any) -> None:
        for route in routes:
            if inner := getattr(route, "original_router", None):
                walk(inner.routes)
            elif methods := getattr(route, "methods", None):
                found.update((m, route.path) for m in methods)

    walk(app.routes)
    return found - {("GET", "/openapi.json"), ("HEAD", "/openapi.json")}


def send(client: TestClient, method: str, path: str, key: str) -> Response:
    return client.request(method, re.sub(r"{[^}]*}", "no-such", path), headers=bearer(key))


def test_every_live_route_has_its_row_and_no_row_is_left_over(app: FastAPI) -> None:
    assert live(app) == set(access.NEEDS)
    shown = {(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods}
    heads = {("HEAD", "/"), ("HEAD", "/healthz"), ("HEAD", "/readyz")}
    assert {(m, p.replace(":path", "")) for m, p in live(app)} - shown == {("GET", "/")} | heads


def test_every_live_route_lets_in_exactly_the_roles_of_its_row(
    client: TestClient, app: FastAPI, keys: Keys
) -> None:
    made = {role: keys.create(role, role)[1] for role in ROLES}
    some = keys.create("some", "editor", ["elsewhere"])[1]
    refused = 0
    for method, path in sorted(live(app)):
        need = access.NEEDS[method, path]
        for role, key in made.items():
            reply = send(client, method, path, key)
            may = need.role == "open" or ROLES.index(role) >= ROLES.index(need.role)
            assert (reply.status_code == 403) == (not may), (method, path, role, reply.text)
            assert reply.status_code != 401
            refused += not may
        reply = send(client, method, path, some)
        assert (reply.status_code == 403) == (need.whole or need.role == "admin"), (method, path)
    assert refused >= 5


def test_a_missing_a_wrong_and_a_revoked_key_get_the_same_401_everywhere(
    client: TestClient, app: FastAPI, keys: Keys
) -> None:
    _, revoked = keys.create("old", "admin")
    keys.revoke("old")
    wrong = revoked[:-1] + ("A" if revoked[-1] != "A" else "B")
    for method, path in sorted(live(app)):
        if access.NEEDS[method, path].role == "open":
            continue
        replies = [
            send(client, method, path, key) for key in (revoked, wrong, "lb_0123456789abcdef_" + "x" * 43)
        ]
        bare = client.request(method, re.sub(r"{[^}]*}", "no-such", path))
        assert {r.status_code for r in (*replies, bare)} == {401}, path
        assert len({(r.text, r.headers["www-authenticate"]) for r in replies}) == 1
        assert set(bare.headers) == set(replies[0].headers)


def test_making_and_revoking_are_effective_at_the_next_request(client: TestClient, keys: Keys) -> None:
    assert client.get("/documents").status_code == 200  # no key on loopback, none asked for
    _, text = keys.create("ann", "reader")
    assert client.get("/documents").status_code == 401
    assert client.get("/documents", headers=bearer(text)).status_code == 200
    assert client.post("/documents", headers=bearer(text)).status_code == 403
    keys.revoke("ann")
    assert client.get("/documents", headers=bearer(text)).status_code == 401
    assert client.get("/documents").status_code == 401  # the last key is void: the door stays shut
    keys.forget("ann")
    assert client.get("/documents").status_code == 200


def test_a_key_counts_only_where_it_belongs(client: TestClient, keys: Keys) -> None:
    _, text = keys.create("ann", "admin")
    for headers, params in (
        ({"X-API-Key": text}, {}),
        ({"Cookie": f"key={text}; Authorization=Bearer {text}"}, {}),
        ({}, {"key": text, "api_key": text, "access_token": text}),
        ({"Authorization": f"Basic {text}"}, {}),
        ({"Authorization": text}, {}),
    ):
        assert client.get("/documents", headers=headers, params=params).status_code == 401, headers
    for odd in ("' OR 1=1 --", "lb_' OR '1'='1_" + "x" * 43, "lb_%_%", text.upper(), text + " ", text[:-1]):
        assert (client.get("/documents", headers=bearer(odd)).status_code == 200) == (odd.strip() == text), (
            odd
        )


def test_keys_are_random_hashed_and_compared_in_constant_time(tmp_path: Path, keys: Keys) -> None:
    made = [keys.create(f"k{n}", "reader") for n in range(200)]
    secrets_ = {text.split("_", 2)[2] for _, text in made}
    assert len(secrets_) == 200 and {len(s) for s in secrets_} == {43}  # 32 bytes in base64
    assert len({key.id for key, _ in made}) == 200
    stored = b"".join(f.read_bytes() for f in tmp_path.glob(FILE_NAME + "*"))
    assert not any(s.encode() in stored for s in secrets_)
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o077 == 0
    tree = ast.parse(inspect.getsource(keys_module.Keys.find).lstrip().replace("\n    ", "\n"))
    assert "compare_digest" in {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    drawn = {keys_module.secrets.token_urlsafe(keys_module.SECRET_BYTES) for _ in range(10_000)}
    assert len(drawn) == 10_000 and keys_module.SECRET_BYTES * 8 >= 128


def test_what_cannot_be_made_is_said(keys: Keys, tmp_path: Path) -> None:
    keys.create("ann", "reader")
    for name, role, only in (
        ("ann", "admin", None), ("", "reader", None), ("a\nb", "reader", None), ("x" * 81, "reader", None),
        ("bob", "admin", ["a"]), ("bob", "reader", []), ("bob", "reader", [""]),
    ):  # fmt: skip
        with pytest.raises(InvalidKey):
            keys.create(name, role, only)  # type: ignore[arg-type]
    for act in (keys.revoke, keys.forget):
        with pytest.raises(UnknownKey):
            act("nobody")
    with pytest.raises(UnknownKey, match="revoked before"):
        keys.forget("ann")
    keys.revoke("ann")
    keys.create("ann", "editor")  # the name is free again
    assert [k.revoked_at is None for k in keys.all()] == [False, True]


def test_a_damaged_or_newer_file_shuts_the_door(client: TestClient, tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    file.write_bytes(b"not a database " * 400)
    reply = client.get("/documents")
    assert reply.status_code == 503 and reply.json()["error"]["code"] == "records_unavailable"
    assert str(tmp_path) not in reply.text and client.get("/healthz").status_code == 200
    file.unlink()
    newer = sqlite3.connect(file)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(RecordsUnavailable, match="newer"):
        Keys(Database(tmp_path)).all()


def test_beyond_loopback_nobody_gets_in_without_a_key(
    tmp_path: Path, library: MemoryLibrary, keys: Keys
) -> None:
    app = composition.create_app(ServiceSettings(host="0.0.0.0"), tmp_path, library, ScriptedGenerator())
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert client.get("/documents").status_code == 401
        assert client.get("/healthz").status_code == 200
        assert client.get("/documents", headers=bearer(keys.create("a", "reader")[1])).status_code == 200


# --- keys that are held to some collections -----------------------------------------------------------------

CANARY = "canary-7731"


@pytest.fixture
def two(client: TestClient, library: MemoryLibrary, keys: Keys) -> tuple[str, str]:
    """Keys A and B, each an editor of its own collection."""
    library.shelves = {"a": {"tower.md": TOWER}, "b": {"secret.md": f"{CANARY} {BRIDGE} {TOWER}"}}
    return keys.create("A", "editor", ["a"])[1], keys.create("B", "editor", ["b"])[1]


def operations(foreign: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Every route that can name a collection, naming this one."""
    held = document_id("secret.md")
    query = {"params": {"collection": foreign}}
    turns = [{"role": "user", "content": "How tall is the Eiffel Tower?"}]
    named = {"model": f"lorebase:{foreign}", "messages": turns}
    return [
        ("POST", "/ask", {"json": QUESTION | {"collection": foreign}}),
        ("POST", "/ask", {"json": QUESTION | {"collection": foreign, "stream": True}}),
        ("POST", "/search", {"json": {"query": "tower", "collection": foreign}}),
        ("GET", "/documents", query),
        ("POST", "/documents", {"json": {"text": "x", "path": "x.md", "collection": foreign}}),
        ("POST", "/documents", {"files": {"files": ("x.md", b"x")}, "data": {"collection": foreign}}),
        *((m, f"/documents/{held}{p}", query) for m, p in (("GET", ""), ("GET", "/text"), ("GET", "/chunks"), ("DELETE", ""))),
        ("POST", "/v1/chat/completions", {"json": named}),
        ("POST", "/v1/completions", {"json": {"model": f"lorebase:{foreign}", "prompt": "How tall?"}}),
        ("POST", "/api/chat", {"json": named}),
        ("POST", "/api/chat", {"json": named | {"stream": False}}),
        ("POST", "/api/generate", {"json": {"model": f"lorebase:{foreign}", "prompt": "How tall?"}}),
        ("GET", f"/v1/models/lorebase:{foreign}", {}),
    ]  # fmt: skip


def test_a_foreign_collection_is_answered_as_an_unknown_one_is(
    client: TestClient, two: tuple[str, str], library: MemoryLibrary
) -> None:
    a, _ = two
    before = {name: dict(shelf) for name, shelf in library.shelves.items()}
    for (method, path, foreign), (_, other, unknown) in zip(operations("b"), operations("nope"), strict=True):
        there = client.request(method, path, headers=bearer(a), **foreign)
        absent = client.request(method, other, headers=bearer(a), **unknown)
        assert there.status_code == absent.status_code == 404, (method, path, there.text)
        assert there.text.replace("'b'", "'nope'").replace(":b'", ":nope'") == absent.text
    assert library.shelves == before and library.searched == []


def test_nothing_that_a_key_can_list_or_ask_tells_of_the_others(
    client: TestClient, two: tuple[str, str]
) -> None:
    a, b = two
    job = client.post(
        "/documents", json={"text": CANARY, "path": "x.md", "collection": "b"}, headers=bearer(b)
    ).json()
    until(lambda: client.get(f"/jobs/{job['id']}", headers=bearer(b)).json()["finished_at"] is not None)
    for suffix in ("", "/events"):
        assert client.get(f"/jobs/{job['id']}{suffix}", headers=bearer(a)).status_code == 404
    for path in ("/collections", "/jobs", "/documents", "/v1/models", "/api/tags", "/models", "/classifiers"):
        reply = client.get(path, headers=bearer(a))
        assert reply.status_code == 200 and "lorebase:b" not in reply.text and CANARY not in reply.text
        assert '"b"' not in reply.text and job["id"] not in reply.text, path
    for question in ("How tall is the Eiffel Tower?", f"What is {CANARY}?", "Where is the bridge?") * 5:
        for body in ({}, {"mode": "quote"}, {"mode": "closed_book"}, {"on_no_answer": "answer"}):
            reply = client.post("/ask", json={"question": question} | body, headers=bearer(a))
            assert reply.status_code == 200 and f"{CANARY} The old" not in reply.text
            assert all(c["path"] == "tower.md" for c in reply.json()["citations"])
    # without a name it is the key's own collection that is asked
    assert client.get("/documents", headers=bearer(a)).json()["collection"] == "a"
    assert client.get("/collections", headers=bearer(a)).json()["default"] == "a"
    assert client.get("/documents", headers=bearer(b)).json()["collection"] == "b"


def test_what_is_open_names_no_collection_to_strangers_and_to_keys_of_others(
    client: TestClient, two: tuple[str, str], keys: Keys
) -> None:
    calibrators = client.app.state.parts.answerer.calibrators  # type: ignore[attr-defined]
    calibrators._notes["b"] = "the collection 'b' has a calibrator that was made for another reader"
    whole = keys.create("whole", "reader")[1]
    for headers in ({}, bearer(two[0]), bearer("lb_" + "0" * 16 + "_" + "x" * 43)):
        assert client.get("/readyz", headers=headers).json()["notes"] == []
    assert "'b'" in client.get("/readyz", headers=bearer(whole)).json()["notes"][0]
    readiness = client.app.state.parts.readiness  # type: ignore[attr-defined]
    readiness._errors["index"] = IndexDamaged("The index in collections/b is damaged: row 7 of secret.md")
    for headers in ({}, bearer(two[0])):
        told = client.get("/readyz", headers=headers)
        assert told.status_code == 503 and told.json()["parts"]["index"] == "failed"
    assert "secret.md" in client.get("/readyz", headers=bearer(whole)).json()["parts"]["index"]


def test_a_stale_adapter_tells_nothing_of_documents_of_others(
    client: TestClient, two: tuple[str, str], keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = "since it was trained: contracts/secret.md deleted"
    adapters = [AdapterInfo("lore", "scripted", 4, (), stale), AdapterInfo("new", "scripted", 4)]
    monkeypatch.setattr(client.app.state.parts.models, "list_adapters", lambda: adapters)  # type: ignore[attr-defined]
    whole = keys.create("whole", "reader")[1]
    for key, told in ((two[0], "what it was trained on has changed"), (whole, stale)):
        listed = client.get("/models", headers=bearer(key)).json()["adapters"]
        assert [adapter["stale"] for adapter in listed] == [told, None]


def test_what_knows_a_collection_by_heart_is_not_for_keys_of_others(
    client: TestClient, two: tuple[str, str], keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = client.app.state.parts.models  # type: ignore[attr-defined]
    installed = models._installed
    monkeypatch.setattr(installed, "adapters", lambda: [AdapterInfo("lore", "scripted", 4)])
    monkeypatch.setattr(installed, "trained_on", lambda _, adapter: {adapter: ["b"]} if adapter else {})
    monkeypatch.setattr("service.wiring._GivenResident.attach", lambda *_: None)
    whole = keys.create("whole", "reader")[1]
    turns = [{"role": "user", "content": "Hi"}]

    def asked(model: str) -> list[tuple[str, dict[str, Any]]]:
        return [
            ("/ask", QUESTION | {"model": model, "mode": "closed_book"}),
            ("/ask", QUESTION | {"model": model}),
            ("/v1/chat/completions", {"model": model, "messages": turns}),
            ("/v1/completions", {"model": model, "prompt": "Hi"}),
            ("/api/chat", {"model": model, "messages": turns, "stream": False}),
            ("/api/generate", {"model": model, "prompt": "Hi", "stream": False}),
        ]

    def told(model: str, key: str) -> set[int]:
        replies = [client.post(path, json=body, headers=bearer(key)) for path, body in asked(model)]
        refused = [reply.text for reply in replies if reply.status_code == 403]
        assert all("'lore'" in text and "'b'" not in text for text in refused), refused
        return {int(reply.status_code) for reply in replies}

    answered = {200, 400}  # it cannot complete a text, and says so
    assert told("scripted+lore", two[0]) == {403}
    assert told("scripted+lore", two[1]) == told("scripted+lore", whole) == answered
    assert told("scripted", two[0]) == answered
    assert client.post("/ask", json=QUESTION | {"model": "x+y"}, headers=bearer(two[0])).status_code == 404
    models.switch("scripted", "lore")  # now it answers by the plain name, too
    assert told("scripted", two[0]) == {403} and told("scripted", two[1]) == answered
    held = limited.models(models, Access("k", "k", "reader", frozenset({"a"})))
    models.switch("scripted", None)
    choice = held.choose(None)
    models.switch("scripted", "lore")  # while the question waited
    with pytest.raises(Forbidden):
        choice.get()


def test_whatever_the_library_learns_is_limited_too() -> None:
    """A method that names no collection is shut, unless it is known to tell of none."""
    free = {"collections", "failing", "embedder", "embedders", "warm", "close"}
    held = limited.library(MemoryLibrary({"a.md": "x"}), Access("k", "k", "editor", frozenset({"default"})))  # type: ignore[arg-type]
    for name, method in inspect.getmembers(Library, inspect.isfunction):
        if name.startswith("_"):
            continue
        if "collection" not in inspect.signature(method).parameters:
            assert name in free, f"{name}: say in service.limited what a limited key gets of it"
    for shut in ("failing", "warm", "close", "shelves", "generation"):
        with pytest.raises(AttributeError):
            getattr(held, shut)


# --- the command line ---------------------------------------------------------------------------------------


def test_the_command_line_makes_lists_revokes_and_forgets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], client: TestClient
) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(["keys", *arguments, "--home", str(tmp_path)])
        said = capsys.readouterr()
        return status, said.out, said.err

    assert "no keys" in run("list")[1]
    status, out, err = run("create", "ann", "--role", "editor", "--collections", "default, other")
    assert status == 0 and "every request" in err and out.strip() not in err
    assert client.get("/documents", headers=bearer(out.strip())).status_code == 200
    status, listed, _ = run("list", "--json")
    (key,) = json.loads(listed)
    assert (key["name"], key["role"], key["collections"]) == ("ann", "editor", ["default", "other"])
    assert out.strip().split("_", 2)[2] not in listed
    assert run("create", "ann")[0] == 2 and run("revoke", "bob")[0] == 2
    assert run("revoke", key["id"])[0] == 0
    assert client.get("/documents", headers=bearer(out.strip())).status_code == 401
    assert "revoked" in run("list")[1] and run("forget", "ann")[0] == 0
