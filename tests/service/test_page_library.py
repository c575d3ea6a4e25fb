"""The page's library, its words and colours, and hostile documents, in a real browser."""

# ruff: noqa: F811 - fixtures are imported and then named as arguments

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.service.browsing import Opener, ask, axe_script, breaches, browser, visit  # noqa: F401 - fixtures
from tests.service.fakes import MemoryLibrary, ScriptedGenerator

pytestmark = pytest.mark.browser

QUESTION = "How tall is the Eiffel Tower?"
WEB = Path(__file__).resolve().parents[2] / "service" / "web"

#: Each sets `window.pwned` or asks another origin if it is ever taken for markup or followed.
PAYLOADS = [
    "<script>window.pwned=1</script>",
    "<img src=x onerror='window.pwned=1'>",
    "<img src=https://evil.example/a.png>",
    "<svg onload=window.pwned=1></svg>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "<details open ontoggle=window.pwned=1>x</details>",
    "<style>*{background:url(https://evil.example/s)}</style>",
    "<a href=javascript:window.pwned=1 autofocus onfocus=window.pwned=1>x</a>",
    "![p](https://evil.example/i.png) [l](javascript:window.pwned=1)",
    "![r][ref]\n\n[ref]: https://evil.example/ref.png",
    "</textarea></title><script>window.pwned=1</script>",
    "<link rel=stylesheet href=https://evil.example/c.css><base href=https://evil.example/>",
    "<form action=https://evil.example><button autofocus>x</button></form>",
    "{{constructor.constructor('window.pwned=1')()}} ${window.pwned=1}",
]


def test_uploaded_files_are_listed_found_and_deleted(visit: Opener, library: MemoryLibrary) -> None:
    library.shelves.clear()
    page = visit()
    expect(page.locator("h1:visible")).to_have_text("First, something to read")
    page.get_by_role("link", name="Add documents").click()
    expect(page.locator(".empty h2")).to_have_text("Nothing here yet")
    tower = "The Eiffel Tower 🗼 was finished in 1889.\n\nThe tower is 330 metres tall.\n"
    page.set_input_files(
        "#files",
        [
            {"name": "塔 tower.md", "mimeType": "text/markdown", "buffer": tower.encode()},
            {"name": "broken.md", "mimeType": "text/markdown", "buffer": b"\xff\xfe\xfd"},
        ],
    )
    rows = page.locator(".upload-row")
    expect(rows.nth(0)).to_contain_text("Added")
    expect(rows.nth(1)).to_contain_text("Not added")
    expect(rows.nth(1).locator(".upload-reason")).to_have_text("not text")
    expect(page.locator(".document-open")).to_have_text(["塔 tower.md"])
    expect(page.locator(".library .lead")).to_have_text("1 document, 2 passages")
    page.click(".document-open")
    assert page.locator(".source-text").text_content() == tower
    page.keyboard.press("Escape")

    page.get_by_role("link", name="Ask", exact=True).click()
    expect(page.locator("#question")).to_be_focused()
    ask(page, QUESTION)
    page.click(".marker")
    expect(page.locator("#cited")).to_have_text("The tower is 330 metres tall.")

    page.goto(page.url.replace("#/ask", "#/library"))
    page.get_by_role("button", name="Delete 塔 tower.md").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".document-open")).to_have_count(1)
    page.get_by_role("button", name="Delete 塔 tower.md").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator(".document-open")).to_have_count(0)
    expect(page.locator("#announcements")).to_contain_text("was deleted")
    assert library.documents("default") == []


def test_a_dropped_file_is_taken_and_a_refused_one_says_why(visit: Opener, library: MemoryLibrary) -> None:
    page = visit("#/library")
    page.watched.expected.append("422")  # type: ignore[attr-defined]
    drop = """(names) => {
        const data = new DataTransfer();
        for (const name of names) data.items.add(new File(["Mostar has a bridge."], name));
        const target = document.querySelector(".drop");
        const options = { dataTransfer: data, bubbles: true, cancelable: true };
        for (const type of ["dragenter", "dragover", "drop"]) {
            target.dispatchEvent(new DragEvent(type, options));
        }
    }"""
    page.evaluate(drop, ["dropped.txt", "x" * 1100 + ".txt"])
    rows = page.locator(".upload-row")
    expect(rows.nth(0)).to_contain_text("Added")
    expect(rows.nth(1).locator(".upload-reason")).to_contain_text("cannot name a document")
    expect(page.locator(".drop")).not_to_have_class(re.compile("over"))
    assert "dropped.txt" in library.shelves["default"]


def test_hostile_documents_names_and_answers_execute_nothing(
    visit: Opener, library: MemoryLibrary, generator: ScriptedGenerator
) -> None:
    sentence = "The tower is 330 metres tall."
    library.shelves["default"] = {
        f"{p.replace('/', '_')} {n}.md": f"{p} {sentence}\n\n{p}\n" for n, p in enumerate(PAYLOADS)
    }
    generator.reply = " ".join(f"{sentence} {p}" for p in PAYLOADS)
    page = visit()
    ask(page, QUESTION)
    for index in range(min(4, page.locator(".card-open").count())):
        page.locator(".card-open").nth(index).click()
        page.wait_for_selector("#cited")
        assert page.locator(".source-text").text_content() in library.shelves["default"].values()
        page.keyboard.press("Escape")
    for payload in PAYLOADS:  # the question itself, and what a stream shows before it is replaced
        generator.reply = payload + " " + sentence
        ask(page, f"{QUESTION} {payload}")
    page.get_by_role("link", name="Library").click()
    page.set_input_files(
        "#files",
        [
            {"name": f"{p.replace('/', '_')}.md", "mimeType": "text/html", "buffer": p.encode()}
            for p in PAYLOADS[:4]
        ],
    )
    expect(page.locator(".upload-row.good")).to_have_count(4)
    page.locator(".act button:last-child").first.click()
    expect(page.locator(".confirm")).to_be_visible()
    page.wait_for_timeout(300)
    assert page.evaluate("window.pwned") is None
    strange = "script,img,iframe,style,link,base,object,embed,form:not(.composer,.retrieval-form),[onerror],[onload],[onfocus]"
    assert page.locator(f"main :is({strange})").count() == 0
    assert page.locator("main a:not([href^='#/'])").count() == 0


def test_the_sanitiser_is_not_the_only_wall(visit: Opener) -> None:
    """Were the service's sanitiser to fail, the page would still load and run nothing."""
    page = visit()
    for payload in PAYLOADS:
        page.evaluate(
            """async (html) => {
                const { sanitised } = await import("./web/elements.js");
                document.querySelector(".hero").append(sanitised(html));
            }""",
            payload,
        )
    page.wait_for_timeout(300)
    assert page.evaluate("window.pwned") is None
    assert page.locator(".hero :is(script,img,iframe,style,link,base,form)").count() == 0
    page.watched.expected.append("Content Security Policy")  # type: ignore[attr-defined]
    page.evaluate("window.violations = []")  # inline handlers: refused by the policy, as they should be


def test_english_and_chinese_say_the_same_things(visit: Opener) -> None:
    page = visit(locale="zh-CN")
    assert page.locator("html").get_attribute("lang") == "zh-Hans"
    expect(page.locator("h1:visible")).to_have_text("想了解什么？")
    ask(page, QUESTION)
    expect(page.locator(".status")).to_have_text("依据 1 处出处作答")
    page.get_by_role("button", name="English").click()
    expect(page.locator(".status")).to_have_text("Answered from 1 source")
    expect(page.locator("#question")).to_have_attribute("placeholder", "Ask your documents…")
    assert page.locator("html").get_attribute("lang") == "en"
    page.reload()
    expect(page.locator(".tabs a").first).to_have_text("Ask")

    tables = page.evaluate(
        """async () => {
            const { words } = await import("./web/i18n.js");
            const kinds = (table) => Object.entries(table).map(([key, value]) => [key, typeof value]);
            return Object.values(words).map(kinds);
        }"""
    )
    english, chinese = tables
    assert english == chinese, "same keys, same kinds, same order"
    code = "".join(f.read_text(encoding="utf-8") for f in WEB.glob("*.js") if f.name != "i18n.js")
    computed = (
        *re.findall(r"`([a-z_]+\.[a-z_.]+\.)\$\{", code),
        *("refusal.", "upload.", "tab.", "ask.send", "ask.stop", "ask.collection", "ask.model"),
    )
    assert "ask.mode." in computed
    unused = [key for key, _ in english if f'"{key}"' not in code and not key.startswith(computed)]
    assert unused == []
    known = {key for key, _ in english}
    assert set(re.findall(r'phrase\(\s*"([^"]+)"', code)) <= known


def test_colours_follow_the_system_until_the_reader_chooses(visit: Opener) -> None:
    page = visit(color_scheme="dark")
    background = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(background)
    page.get_by_role("button", name="Switch to light").click()
    light = page.evaluate(background)
    assert light != dark
    page.reload()
    assert page.evaluate(background) == light
    page.get_by_role("button", name="Switch to dark").click()
    page.emulate_media(color_scheme="light")
    page.wait_for_function(
        "document.documentElement.dataset.theme === 'light'"
    )  # it follows the system again
    assert page.evaluate(background) == light


def test_the_script_for_the_pictures_runs(
    browser: Browser, address: str, library: MemoryLibrary, tmp_path: Path
) -> None:
    library.shelves["default"]["ingest.md"] = "To ingest a folder of documents, run the ingest command.\n"
    script = runpy.run_path(str(WEB.parents[1] / "examples" / "screenshots.py"))
    pictures = script["take"](browser, address, tmp_path)
    assert len(pictures) == 8
    assert all(p.read_bytes().startswith(b"\x89PNG") and p.stat().st_size < 200_000 for p in pictures)


def test_collections_and_their_documents_are_kept_apart(visit: Opener, library: MemoryLibrary) -> None:
    library.shelves["bridges"] = {"mostar.md": "The old bridge of Mostar was rebuilt in 2004.\n"}
    page = visit()
    page.select_option("select[name=collection]", "bridges")
    ask(page, "When was the bridge of Mostar rebuilt?")
    page.click(".card-open")
    expect(page.locator(".source-title")).to_have_text("mostar.md")
    page.get_by_role("link", name="Library").click()
    expect(page.locator(".document-open")).to_have_text(["mostar.md"])
    page.select_option(".library-head select", "default")
    expect(page.locator(".document-open")).to_have_text(["bridge.md", "tower.md"])


def test_a_collection_is_made_as_chosen_and_deleted_when_that_is_confirmed(
    visit: Opener, library: MemoryLibrary
) -> None:
    page = visit("#/library")
    tools = page.locator(".collection-tools")
    expect(tools.locator("select")).to_be_hidden()
    page.get_by_role("button", name="New collection").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Meaning is compared by").locator("option")).to_have_text(
        ["words (usual)", "other-words"]
    )
    dialog.get_by_label("Name").fill("../out")
    page.watched.expected.append("422")  # type: ignore[attr-defined]
    dialog.get_by_role("button", name="Make it").click()
    expect(dialog.get_by_role("alert")).to_contain_text("cannot name a collection")
    dialog.get_by_label("Name").fill("桥 bridges")
    dialog.get_by_label("Meaning is compared by").select_option("other-words")
    dialog.get_by_label("Documents are cut into").select_option(label="short passages")
    assert breaches(page, axe_script()) == []
    dialog.get_by_role("button", name="Make it").click()
    expect(dialog).to_be_hidden()
    assert library.made["桥 bridges"] == ("other-words", "112-16")
    expect(tools.locator("select")).to_have_value("桥 bridges")
    expect(page.locator(".library-head .hint")).to_have_text(
        "Compared by other-words, passages of up to 112 tokens"
    )
    expect(page.locator(".empty h2")).to_have_text("Nothing here yet")
    bridge = {"name": "mostar.md", "mimeType": "text/markdown", "buffer": b"The bridge of Mostar.\n"}
    page.set_input_files("#files", [bridge])
    expect(page.locator(".document-open")).to_have_text(["mostar.md"])
    assert "mostar.md" in library.shelves["桥 bridges"] and "mostar.md" not in library.shelves["default"]

    page.get_by_role("link", name="Ask").click()
    expect(page.locator("select[name=collection]")).to_have_value("桥 bridges")
    page.get_by_role("link", name="Library").click()
    page.get_by_role("button", name="Delete this collection").click()
    expect(dialog).to_contain_text("Its document leaves at once")
    dialog.get_by_role("button", name="Cancel").click()
    assert "桥 bridges" in library.shelves
    page.get_by_role("button", name="Delete this collection").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(dialog).to_be_hidden()
    expect(page.locator(".document-open")).to_have_text(["bridge.md", "tower.md"])
    assert list(library.shelves) == ["default"]
    expect(tools.locator("select")).to_be_hidden()
    page.get_by_role("link", name="Ask").click()
    expect(page.locator("select[name=collection]")).to_be_hidden()
    ask(page, QUESTION)
    expect(page.locator(".status")).to_have_text("Answered from 1 source")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=["desk", "phone"])
def test_accessibility_rules_hold_in_every_state(
    visit: Opener, generator: ScriptedGenerator, scheme: str, size: tuple[int, int]
) -> None:
    script = axe_script()
    generator.reply = "The tower is 330 metres tall. It was painted blue by Napoleon."
    page = visit(color_scheme=scheme, viewport={"width": size[0], "height": size[1]})
    page.wait_for_selector(".chip")
    assert breaches(page, script) == []
    ask(page, QUESTION)
    page.locator(".also summary").click()
    assert breaches(page, script) == []
    page.click(".marker")
    page.wait_for_selector("#cited")
    assert breaches(page, script) == []
    page.keyboard.press("Escape")
    ask(page, "Who sells bicycles on Neptune?")
    page.click(".options summary")
    assert breaches(page, script) == []
    page.get_by_role("link", name="Library").click()
    page.set_input_files("#files", [{"name": "x.md", "mimeType": "text/plain", "buffer": b"\xff"}])
    expect(page.locator(".upload-row.bad")).to_be_visible()
    assert breaches(page, script) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
        "nothing may stick out sideways"
    )
    page.locator(".act button:last-child").first.click()
    expect(page.locator(".confirm")).to_be_visible()
    assert breaches(page, script) == []
