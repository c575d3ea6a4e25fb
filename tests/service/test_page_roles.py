"""The page with keys: who one is, what is hidden from whom, and a collection saved as one file; in a real browser."""

# ruff: noqa: F811 - fixtures are imported and then named as arguments

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from service.database import Database
from service.keys import Keys, Role
from tests.service.browsing import Opener, ask, axe_script, breaches, browser, visit  # noqa: F401 - fixtures
from tests.service.conftest import until
from tests.service.fakes import MemoryLibrary

pytestmark = pytest.mark.browser

TABS = ("library", "classify", "train", "evaluate", "models")


def enter(page: Page, key: str) -> None:
    page.get_by_label("Key", exact=True).fill(key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)


def opened(visit: Opener, tmp_path: Path, role: Role, only: list[str] | None = None) -> Page:
    keys = Keys(Database(tmp_path))
    _, text = keys.create(f"ann-{role}-{len(only or [])}", role, only)
    page = visit()
    page.watched.expected += ["401", "403"]  # type: ignore[attr-defined]
    enter(page, text)
    expect(page.locator(".who")).to_be_visible()
    return page


def test_a_reader_sees_who_it_is_and_is_offered_nothing_that_it_may_not_do(
    visit: Opener, tmp_path: Path
) -> None:
    page = opened(visit, tmp_path, "reader")
    expect(page.locator(".who")).to_have_text("Reader")
    expect(page.locator(".who")).to_have_attribute("title", "Your key: ann-reader-0 (Reader)")
    ask(page, "How tall is the Eiffel Tower?")
    expect(page.locator(".lacking")).to_be_hidden()
    script = axe_script()
    for tab in TABS:
        page.goto(page.url.split("#")[0] + f"#/{tab}")
        page.wait_for_selector(f"#main > section:not([hidden]) h1:visible, .{tab} h1:visible")
        expect(page.locator(".lacking")).to_contain_text("Your key’s role is reader")
        expect(page.locator(f".{tab} .quiet:visible", has_text="…")).to_have_count(0)
        expect(page.locator("[data-needs]:visible")).to_have_count(0)
        assert breaches(page, script) == []
    page.get_by_role("button", name="用中文显示").or_(page.get_by_text("中文")).first.click()
    expect(page.locator(".who")).to_have_text("读者")
    expect(page.locator(".lacking")).to_contain_text("你的密钥角色是读者")


def test_an_editor_changes_documents_and_saves_a_collection_but_makes_none(
    visit: Opener, tmp_path: Path, library: MemoryLibrary
) -> None:
    page = opened(visit, tmp_path, "editor", ["default"])
    page.goto(page.url.split("#")[0] + "#/library")
    expect(page.locator(".drop")).to_be_visible()
    expect(page.locator(".lacking")).to_be_hidden()
    expect(page.get_by_role("button", name="New collection")).to_be_hidden()
    expect(page.get_by_role("button", name="Delete tower.md")).to_be_visible()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download this collection as one file").click()
    assert saved.value.suggested_filename == "default.zip"
    assert saved.value.path().read_text(encoding="utf-8") == "\n".join(library.shelves["default"])
    until(lambda: not list(tmp_path.glob(".export-*")))  # removed a moment after its last byte was sent
    page.goto(page.url.split("#")[0] + "#/train")
    expect(page.locator(".lacking")).to_contain_text("held to some collections")


def test_an_admin_is_offered_everything(visit: Opener, tmp_path: Path) -> None:
    page = opened(visit, tmp_path, "admin")
    page.goto(page.url.split("#")[0] + "#/library")
    expect(page.get_by_role("button", name="New collection")).to_be_visible()
    expect(page.locator(".lacking")).to_be_hidden()


def test_without_keys_nothing_is_said_of_roles(visit: Opener) -> None:
    page = visit("#/train")
    expect(page.get_by_role("button", name="Start")).to_be_visible()
    expect(page.locator(".who")).to_be_hidden()
    expect(page.locator(".lacking")).to_be_hidden()
