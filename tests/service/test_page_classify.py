"""The page's Classify tab in a real browser: named classifiers, one's own labels, and what became of a text."""

# ruff: noqa: F811 - fixtures are imported and then named as arguments

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from playwright.sync_api import Page, Route, expect

from tests.service.browsing import Opener, axe_script, breaches, browser, visit  # noqa: F401 - fixtures
from tests.service.test_page_library import PAYLOADS

pytestmark = pytest.mark.browser


def shares(page: Page) -> list[tuple[str, str]]:
    labels = page.locator(".result > .scores .score-label").all_text_contents()
    return list(zip(labels, page.locator(".result > .scores .score-share").all_text_contents(), strict=True))


def test_a_text_is_labelled_by_the_classifier_that_came_along(visit: Opener) -> None:
    page = visit("#/classify")
    expect(page.locator(".label-name")).to_have_count(4)
    assert sorted(box.input_value() for box in page.locator(".label-name").all()) == sorted(
        ["新闻报道", "财务报告", "公司公告", "分析师报告"]
    )
    expect(page.locator(".label-examples summary").first).to_have_text("12 examples")
    expect(page.get_by_role("button", name="Delete…")).to_be_hidden()  # it came with the program
    with page.expect_request("**/classify") as sent:
        page.get_by_label("Text", exact=True).fill("公司拟回购股份。")
        page.get_by_role("button", name="Classify").click()
    assert sent.value.post_data_json["classifier"] == "finance-zh"
    page.wait_for_selector(".result")
    found = shares(page)
    assert len(found) == 4
    assert page.locator(".result-label").text_content() == found[0][0]
    widths = page.evaluate(
        "[...document.querySelectorAll('.result > .scores .bar-fill')].map((n) => n.offsetWidth)"
    )
    assert widths == sorted(widths, reverse=True) and widths[0] > 0
    page.locator(".parts summary").click()
    expect(page.locator(".parts-title")).to_have_text(["Similar in meaning", "Similar in wording"])


@pytest.mark.parametrize(
    ("locale", "fact"), [("en-GB", "was not asked: with"), ("zh-CN", "没有使用语言模型：对")]
)
def test_why_no_language_model_was_asked_is_told_in_the_pages_language(
    visit: Opener, locale: str, fact: str
) -> None:
    page = visit("#/classify", locale=locale)

    def reply(route: Route) -> None:
        held = route.fetch().json()
        held["likelihood"] = "left aside, it only costs time: it changes the log-loss by +0.392"
        route.fulfill(json=held)

    page.route("**/classify", reply)
    page.locator("textarea").first.fill("公司前三季度净利润同比增长两成。")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".result-label")).to_be_visible()
    expect(page.locator("main")).to_contain_text(fact)
    expect(page.locator("main")).not_to_contain_text("log-loss")


def test_own_labels_are_tried_saved_changed_and_deleted(visit: Opener, app: FastAPI) -> None:
    page = visit("#/classify")
    page.watched.expected.append("422")  # type: ignore[attr-defined]
    page.get_by_label("Classifier", exact=True).select_option(label="New classifier")
    names, go = page.locator(".label-name"), page.get_by_role("button", name="Classify")
    expect(names).to_have_count(2)
    names.nth(0).fill("fruit")
    page.keyboard.press("Tab")
    for text in ("apple pear plum", "plum cherry apple"):
        page.locator(".label-card").nth(0).locator("textarea").last.fill(text)
        page.keyboard.press("Enter")  # the next example
    names.nth(1).fill("fruit")
    page.get_by_label("Text", exact=True).fill("apple plum")
    go.click()
    expect(page.locator(".problem:visible")).to_contain_text("The label 'fruit' stands twice")
    names.nth(1).fill("tool")
    page.locator(".label-card").nth(1).locator("textarea").fill("hammer saw drill")
    page.get_by_role("button", name="Add a label").click()
    expect(names.nth(2)).to_be_focused()
    page.locator(".label-card").nth(2).get_by_role("button", name="Remove this label").click()
    expect(names).to_have_count(2)
    go.click()
    expect(page.locator(".result-label")).to_have_text("fruit")
    expect(page.locator(".label-examples summary")).to_have_text(["2 examples", "1 example"])

    page.get_by_label("Each line is a text of its own").check()
    page.get_by_label("Text", exact=True).fill("hammer drill\n\npear cherry\nzzz")
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("No label below").fill("1")
    go.click()
    expect(page.locator(".result-label")).to_have_text(["tool", *["No label is probable enough"] * 2])
    assert [text.text_content() for text in page.locator(".result-text").all()] == [
        "hammer drill",
        "pear cherry",
        "zzz",
    ]
    page.get_by_label("No label below").fill("")
    go.click()
    expect(page.locator(".result-label").nth(2)).to_have_text(re.compile("fruit|tool"))
    expect(page.locator(".result-label").nth(0)).to_have_text("tool")

    page.get_by_role("button", name="Save…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("things")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    expect(page.get_by_label("Classifier", exact=True)).to_have_value("things")
    kept = app.state.parts.classifiers.get("things").classes.as_given()
    assert kept == {"fruit": ["apple pear plum", "plum cherry apple"], "tool": ["hammer saw drill"]}
    with page.expect_request("**/classify") as sent:
        go.click()
    assert sent.value.post_data_json["classifier"] == "things"
    page.reload()
    page.get_by_label("Classifier", exact=True).select_option("things")
    expect(names.nth(0)).to_have_value("fruit")
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_label("Classifier", exact=True)).to_have_value("finance-zh")
    assert app.state.parts.classifiers.names() == ["finance-zh"]


def test_hostile_labels_and_examples_are_text(visit: Opener, app: FastAPI) -> None:
    folder = Path(app.state.parts.home) / "classifiers"
    folder.mkdir()
    classes = {payload: [payload + " example"] for payload in PAYLOADS if "\n" not in payload}
    (folder / "hostile.json").write_text(json.dumps({"description": PAYLOADS[1], "classes": classes}))
    (folder / "broken.json").write_text("{")
    page = visit("#/classify")
    page.get_by_label("Classifier", exact=True).select_option("broken")
    expect(page.locator(".problem:visible")).to_contain_text("cannot be read")
    page.get_by_label("Classifier", exact=True).select_option("hostile")
    page.get_by_label("Text", exact=True).fill(PAYLOADS[0])
    page.get_by_role("button", name="Classify").click()
    page.wait_for_selector(".result")
    page.wait_for_timeout(200)
    assert page.evaluate("window.pwned") is None
    assert page.locator("main :is(script,img,iframe,style,link,base,object,embed)").count() == 0


@pytest.mark.parametrize(("scheme", "size"), [("light", (1280, 800)), ("dark", (390, 844))])
def test_accessibility_rules_hold(visit: Opener, scheme: str, size: tuple[int, int]) -> None:
    script = axe_script()
    page = visit("#/classify", color_scheme=scheme, viewport={"width": size[0], "height": size[1]})
    page.get_by_label("Text", exact=True).fill("公司拟回购股份。")
    page.get_by_role("button", name="Classify").click()
    page.wait_for_selector(".result")
    page.evaluate("for (const node of document.querySelectorAll('main details')) node.open = true")
    assert breaches(page, script) == []
    page.get_by_role("button", name="Save…").click()
    assert breaches(page, script) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
