"""A document's page, passages and original in the source panel, the retrieval test, and earlier conversations."""

# ruff: noqa: F811 - fixtures are imported and then named as arguments

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.service.browsing import Opener, ask, axe_script, breaches, browser, visit  # noqa: F401 - fixtures
from tests.service.conftest import TOWER
from tests.service.fakes import MemoryLibrary

pytestmark = pytest.mark.browser

QUESTION = "How tall is the Eiffel Tower?"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "page.png"
    Image.new("RGB", (120, 170), "white").save(file)
    return file


def test_a_citation_shows_the_page_of_its_pdf_and_the_original_is_saved(
    visit: Opener, library: MemoryLibrary, picture: Path
) -> None:
    library.shelves["default"] = {"tower.pdf": TOWER, "notes.md": "Nothing about it.\n"}
    page = visit()
    page.watched.expected += ["410", "404"]  # type: ignore[attr-defined]
    ask(page, QUESTION)
    page.click(".marker")
    expect(page.locator("#cited")).to_be_visible()
    panel = page.locator("#source")
    library.originals["tower.pdf"] = picture
    panel.get_by_role("button", name="Page", exact=True).click()
    shown = panel.get_by_role("img", name="Page 1 of tower.pdf")
    expect(shown).to_be_visible()
    assert shown.evaluate("(node) => node.decode().then(() => [node.naturalWidth, node.naturalHeight])") == [
        120,
        170,
    ]
    expect(panel.locator(".source-text")).to_be_hidden()
    expect(panel.get_by_role("button", name="Previous page")).to_be_disabled()
    panel.get_by_role("button", name="Next page").click()  # it has one: the panel finds out
    expect(panel.locator(".page-steps")).to_contain_text("page 1")
    expect(panel.get_by_role("button", name="Next page")).to_be_disabled()
    with page.expect_download() as saved:
        panel.get_by_role("button", name="Save the original file").click()
    assert saved.value.suggested_filename == "tower.pdf"
    assert Path(saved.value.path()).read_bytes() == picture.read_bytes()

    panel.get_by_role("button", name="Passages").click()
    expect(panel.locator(".passage-card p")).to_have_text([p.strip() for p in TOWER.split("\n\n")])
    panel.get_by_role("button", name="Text", exact=True).click()
    expect(page.locator("#cited")).to_be_visible()
    library.originals.clear()
    panel.get_by_role("button", name="Save the original file").click()
    expect(panel.locator(".problem")).to_contain_text("no longer where it was read")
    page.keyboard.press("Escape")

    page.get_by_role("link", name="Library").click()
    page.get_by_role("button", name="notes.md", exact=True).click()
    expect(panel.get_by_role("button", name="Text", exact=True)).to_be_visible()
    expect(panel.get_by_role("button", name="Page", exact=True)).to_be_hidden()  # it is no PDF


def test_the_search_is_tried_without_asking(visit: Opener, library: MemoryLibrary) -> None:
    page = visit("#/library")
    page.get_by_text("Try the search").click()
    page.get_by_label("Words or a question").fill("bridge of Mostar")
    page.keyboard.press("Enter")
    hits = page.locator(".hit")
    expect(hits.first.get_by_role("button")).to_have_text("bridge.md")
    scores = [float(hit.locator(".facts li").first.inner_text().split()[1]) for hit in hits.all()]
    assert len(scores) == 4 and scores == sorted(scores, reverse=True)
    hits.first.get_by_role("button").click()
    expect(page.locator("#cited")).to_contain_text("crosses the river Neretva")


def test_reranking_and_sections_are_asked_for_where_they_are_ticked(
    visit: Opener, library: MemoryLibrary
) -> None:
    page = visit("#/library")
    sent: list[dict[str, object]] = []
    page.on(
        "request", lambda r: sent.append(r.post_data_json) if r.url.endswith(("/search", "/ask")) else None
    )
    page.get_by_text("Try the search").click()
    page.get_by_label("Words or a question").fill("bridge of Mostar")
    page.get_by_label("Show the section around each passage").check()
    page.keyboard.press("Enter")
    expect(page.locator(".hit").first).to_contain_text("crosses the river Neretva")
    page.get_by_role("link", name="Ask").click()
    page.click(".options summary")
    page.get_by_label("Let the model order the passages first").check()
    page.get_by_label("Read whole sections").check()
    page.keyboard.press("Escape")
    page.watched.expected += ["503", "422"]  # type: ignore[attr-defined] - this model cannot order passages
    page.get_by_role("textbox").first.fill(QUESTION)
    with page.expect_request("**/ask"):
        page.keyboard.press("Enter")
    assert "rerank" not in sent[0] and sent[0]["context"] == "section"
    assert sent[1]["rerank"] is True and sent[1]["context"] == "section"


def test_fields_are_set_shown_found_and_taken_away(visit: Opener, library: MemoryLibrary) -> None:
    library.shelves["default"] |= {f"{n}.md": "x\n" for n in range(9)}
    page = visit("#/library")
    dialog, edit = page.get_by_role("dialog"), page.get_by_role("button", name="Fields of tower.md")
    edit.click()
    dialog.get_by_label("Fields").fill("tags = physics, <b>exam</b>\nno sign")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.locator(".problem")).to_contain_text("'no sign' should read: name = value.")
    dialog.get_by_label("Fields").fill("tags = physics, <b>exam</b>\nyear = 2026\n")
    dialog.get_by_role("button", name="Save").click()
    expect(page.locator(".fields-shown li")).to_have_text(["tags: physics, <b>exam</b>", "year: 2026"])
    own = {d.path: d.own for d in library.documents("default")}["tower.md"]
    assert [*own["tags"]] == ["physics", "<b>exam</b>"] and own["year"] == 2026
    page.get_by_label("Find by title or path").fill("physics")
    expect(page.locator(".documents .document-open")).to_have_text(["tower.md"])
    edit.click()
    dialog.get_by_label("Fields").fill("year = 2027")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    page.get_by_label("Find by title or path").fill("")
    expect(page.locator(".fields-shown li")).to_have_text(["year: 2027"])


def test_an_earlier_conversation_is_taken_up_and_deleted(visit: Opener) -> None:
    page = visit()
    ask(page, QUESTION)
    page.click(".options summary")
    page.get_by_role("button", name="Clear these questions").click()
    ask(page, "Where is the bridge of Mostar?")
    page.click(".options summary")
    page.get_by_role("button", name="Earlier conversations…").click()
    dialog = page.get_by_role("dialog")
    rows = dialog.locator(".history .run-name")
    expect(rows).to_have_text(["Where is the bridge of Mostar?", QUESTION])
    rows.nth(1).click()
    expect(page.locator(".question")).to_have_text([QUESTION])
    expect(page.locator(".answer")).to_contain_text("330 metres")
    expect(page.locator(".status")).to_contain_text("From an earlier conversation")
    expect(page.locator(".card-quote").first).to_have_text("The tower is 330 metres tall.")
    page.click(".marker")
    expect(page.locator("#cited")).to_have_text("The tower is 330 metres tall.")
    page.keyboard.press("Escape")
    with page.expect_request("**/ask") as sent:
        ask(page, "Which bridge crosses the Neretva?")
    earlier = page.evaluate("sessionStorage.getItem('lorebase.session')")
    assert sent.value.post_data_json["session_id"] == earlier
    page.reload()
    expect(page.locator(".question")).to_have_count(2)
    page.click(".options summary")
    page.get_by_role("button", name="Earlier conversations…").click()
    dialog.get_by_role("button", name="Delete Where is the bridge of Mostar?").click()
    expect(rows).to_have_text([QUESTION])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility_rules_hold(visit: Opener, library: MemoryLibrary, picture: Path, scheme: str) -> None:
    script = axe_script()
    library.shelves["default"] = {"tower.pdf": TOWER}
    library.originals["tower.pdf"] = picture
    page = visit("#/library", color_scheme=scheme, viewport={"width": 390, "height": 844})
    page.get_by_text("Try the search").click()
    page.get_by_label("Words or a question").fill("tower")
    page.keyboard.press("Enter")
    page.locator(".hit button").first.click()
    for mode in ("Passages", "Page"):
        page.get_by_role("button", name=mode, exact=True).click()
        page.wait_for_selector(".passage-card:visible, .paper img:visible")
        assert breaches(page, script) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
