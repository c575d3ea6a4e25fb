"""The options below the question, in a real browser: chosen with the keyboard, sent, and remembered."""

# ruff: noqa: F811 - fixtures are imported and then named as arguments

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.service.browsing import Opener, ask, axe_script, breaches, browser, visit  # noqa: F401 - fixtures

pytestmark = pytest.mark.browser

QUESTION = "How tall is the Eiffel Tower?"


def test_the_acceptable_error_is_chosen_with_the_keyboard_sent_and_remembered(visit: Opener) -> None:
    page = visit()
    sent: list[dict[str, object]] = []
    page.on("request", lambda r: sent.append(r.post_data_json) if r.url.endswith("/ask") else None)
    ask(page, QUESTION)
    page.locator(".options summary").focus()
    page.keyboard.press("Enter")
    error = page.get_by_label("Wrong answers accepted")
    expect(error).to_have_value("")
    for _ in range(3):
        page.keyboard.press("Tab")
    expect(error).to_be_focused()
    page.keyboard.type("at most 10")
    expect(error).to_have_value("0.1")
    assert breaches(page, axe_script()) == []
    page.keyboard.press("Escape")
    ask(page, QUESTION)
    page.reload()
    ask(page, QUESTION)
    page.get_by_text("中文").click()
    page.get_by_text("选项").click()
    error = page.get_by_label("可接受的错误率")
    assert error.locator("option").all_inner_texts()[:3] == ["默认", "最多 5%", "最多 10%"]
    expect(error).to_have_value("0.1")
    error.select_option("")
    page.keyboard.press("Escape")
    ask(page, QUESTION)
    assert [request.get("acceptable_error") for request in sent] == [None, 0.1, 0.1, None]
    page.reload()
    expect(page.locator("[name=error]")).to_have_value("")
