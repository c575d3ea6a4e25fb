"""The key in front of the service: nothing answers without it but what has to, and nothing repeats it."""

# ruff: noqa: F811 - fixtures are imported and then named as arguments

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, example, given
from hypothesis import settings as trials
from hypothesis import strategies as st
from playwright.sync_api import expect

from service.app import create_app
from service.auth import SharedKey
from service.errors import BadKeyFile
from service.settings import ServiceSettings, check_bind
from tests.service.browsing import Opener, ask, axe_script, breaches, browser, visit  # noqa: F401 - fixtures
from tests.service.fakes import MemoryLibrary, ScriptedGenerator

KEY = "correct-horse-battery-staple-0123"
BEARER = {"Authorization": f"Bearer {KEY}"}
OPEN = {"/", "/healthz", "/readyz"}


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    return file


@pytest.fixture
def settings(key_file: Path) -> ServiceSettings:
    return ServiceSettings(model="scripted", shutdown_grace_s=0.5, api_key_file=key_file)


def operations(app: FastAPI) -> list[tuple[str, str]]:
    """Every live route, hidden ones included, with its parameters filled in."""
    found = [
        (method.upper(), re.sub(r"{[^}]*}", "1", path))
        for path, item in app.openapi()["paths"].items()
        for method in item
    ]
    return [*found, ("GET", "/openapi.json"), ("GET", "/no/such/route"), ("OPTIONS", "/ask")]


def test_every_route_but_the_open_ones_asks_for_the_key(client: TestClient, app: FastAPI) -> None:
    asked = 0
    for method, path in operations(app):
        for headers in ({}, {"Authorization": "Bearer " + KEY[:-1]}):
            reply = client.request(method, path, headers=headers)
            if path in OPEN:
                assert reply.status_code == 200, path
                continue
            asked += 1
            assert reply.status_code == 401, (method, path)
            challenge = reply.headers["www-authenticate"]
            assert challenge.startswith('Bearer realm="lorebase"')
            assert ("invalid_token" in challenge) == bool(headers)
            assert "Content-Security-Policy" in reply.headers
            if not path.startswith(("/api/", "/v1/")):  # these have their families' own shapes
                assert set(reply.json()["error"]) == {"code", "message", "detail"}
                assert reply.json()["error"]["code"] == "unauthorized"
        assert client.request(method, path, headers=BEARER).status_code != 401, (method, path)
    assert asked > 30


def test_the_pages_own_files_are_open_and_lead_nowhere_else(client: TestClient) -> None:
    for path in ("/", "/web/page.js", "/web/key.js"):
        assert client.get(path).status_code == 200
    for path in (
        "/web/../documents",
        "/web/%2e%2e/documents",
        "/web/..%2fdocuments",
        "/documents/",
    ):
        assert client.get(path).status_code in (401, 404), path


def test_a_key_is_brought_once_and_as_a_bearer(client: TestClient) -> None:
    def status(*values: str) -> int:
        return client.get("/documents", headers=[("Authorization", v) for v in values]).status_code

    assert status(f"Bearer {KEY}") == status(f"bearer  {KEY} ") == 200
    for wrong in (KEY, f"Basic {KEY}", f"Bearer{KEY}", "Bearer", "Bearer ", f"Bearer {KEY} {KEY}", ""):
        assert status(wrong) == 401, wrong
    assert status(f"Bearer {KEY}", f"Bearer {KEY}") == 401
    assert client.get("/documents", params={"key": KEY, "access_token": KEY}).status_code == 401


def test_a_refused_upload_is_not_read_and_leaves_nothing(client: TestClient, library: MemoryLibrary) -> None:
    before = dict(library.shelves["default"])
    assert client.post("/documents", files={"files": ("a.md", b"x" * 100)}).status_code == 401
    assert client.delete("/documents/1").status_code == 401
    assert library.shelves["default"] == before


def test_the_key_is_in_no_log_and_no_reply(
    client: TestClient, app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for brought in (KEY, KEY + "x"):
        for path in ("/documents", "/no/such", "/jobs/none"):
            reply = client.get(path, headers={"Authorization": f"Bearer {brought}"})
            assert KEY not in reply.text + str(reply.headers)
    assert KEY not in caplog.text
    assert KEY not in repr(app.state.parts) and KEY not in repr(vars(SharedKey(KEY)))


@given(st.text(max_size=600))
@example(KEY + "\n")
@example("é" * 30)
@trials(max_examples=200)
def test_only_the_key_itself_is_admitted(presented: str) -> None:
    assert SharedKey(KEY).admits(presented) == (presented == KEY)


@given(st.binary(max_size=600))
@example(b"")
@example(b"short")
@example(KEY.encode() + b"\nsecond-line")
@example(b"\xff" * 40)
@example(b"  " + KEY.encode() + b"\r\n")
@trials(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_key_file_holds_one_long_key(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "some-key"
    file.write_bytes(content)
    stripped = content.decode("utf-8", "replace").strip()
    if re.fullmatch(r"[A-Za-z0-9._~+/=-]{24,512}", stripped):
        assert SharedKey.read(file).admits(stripped)
    else:
        with pytest.raises(BadKeyFile, match="24 to 512") as raised:
            SharedKey.read(file)
        assert len(stripped) < 8 or stripped not in str(raised.value)


def test_a_missing_key_file_ends_the_start(tmp_path: Path) -> None:
    for file in (tmp_path / "none", tmp_path):
        settings = ServiceSettings(model="scripted", api_key_file=file)
        with pytest.raises(BadKeyFile, match="LOREBASE_SERVICE_API_KEY_FILE"):
            create_app(settings, tmp_path, MemoryLibrary(), ScriptedGenerator())


def test_with_a_key_the_service_may_listen_beyond_loopback(key_file: Path) -> None:
    check_bind(ServiceSettings(host="0.0.0.0", api_key_file=key_file))


def test_openapi_says_how_a_key_is_brought(app: FastAPI) -> None:
    document = app.openapi()
    assert document["components"]["securitySchemes"]["key"] == {"type": "http", "scheme": "bearer"}
    assert document["security"] == [{"key": []}, {}]
    assert "401" in document["paths"]["/documents"]["get"]["responses"]


@pytest.mark.browser
def test_the_page_asks_for_the_key_once_and_keeps_it_in_this_tab(visit: Opener) -> None:
    page = visit()
    page.watched.expected += ["401"]
    dialog = page.locator("dialog[open]")
    expect(dialog).to_have_count(1)
    expect(dialog.locator("h1")).to_have_text("This service asks for a key")
    assert breaches(page, axe_script()) == []
    page.fill("#key", "not-the-key-of-this-service")
    page.keyboard.press("Enter")
    expect(page.locator("dialog[open] .problem")).to_have_text("That is not the key.")
    expect(page.locator("#key")).to_be_focused()
    page.fill("#key", KEY)
    page.keyboard.press("Enter")
    expect(page.locator("dialog[open]")).to_have_count(0)
    ask(page, "How tall is the Eiffel Tower?")
    expect(page.locator(".status")).to_have_text("Answered from 1 source")
    held = page.evaluate(
        "(key) => [localStorage, sessionStorage].map((s) => Object.values(s).includes(key))", KEY
    )
    assert held == [False, True] and page.evaluate("document.cookie") == ""
    assert KEY not in page.content() and KEY not in " ".join(page.watched.requested)
    page.reload()
    page.goto(page.url.split("#")[0] + "#/library")
    page.wait_for_selector("input[type=file]", state="attached")  # it is hidden behind its label
    expect(page.locator("dialog[open]")).to_have_count(0)
    page.set_input_files(
        "input[type=file]", [{"name": "new.md", "mimeType": "text/markdown", "buffer": b"A new text."}]
    )
    expect(page.get_by_text("in the library", exact=False).first).to_be_visible()


@pytest.mark.browser
def test_an_upload_asks_for_a_key_that_was_lost_and_goes_on(visit: Opener, library: MemoryLibrary) -> None:
    page = visit()
    page.watched.expected += ["401"]
    page.fill("#key", KEY)
    page.keyboard.press("Enter")
    page.goto(page.url.split("#")[0] + "#/library")
    page.wait_for_selector("input[type=file]", state="attached")
    page.evaluate("sessionStorage.clear()")
    page.set_input_files(
        "input[type=file]", [{"name": "new.md", "mimeType": "text/markdown", "buffer": b"A new text."}]
    )
    page.fill("#key", KEY)
    page.keyboard.press("Enter")
    expect(page.get_by_text("in the library", exact=False).first).to_be_visible()
    assert "new.md" in library.shelves["default"]
