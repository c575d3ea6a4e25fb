"""The page in a real browser: asking, reading the sources, refusing, stopping, failing, and the keyboard."""

# ruff: noqa: F811 - fixtures are imported and then named as arguments

from __future__ import annotations

import random
import re

import pytest
from playwright.sync_api import Page, Request, Route, expect

from service.errors import Busy
from tests.service.browsing import Opener, Turnstile, ask, browser, visit  # noqa: F401 - fixtures
from tests.service.conftest import TOWER, until
from tests.service.fakes import MemoryLibrary, ScriptedGenerator

pytestmark = pytest.mark.browser

QUESTION = "How tall is the Eiffel Tower?"
QUOTE = "The tower is 330 metres tall."
#: What makes UTF-16 units, code points and letters differ, and line ends that a browser might change.
BEFORE = "\ufeff🗼👨‍👩‍👧‍👦 埃菲尔铁塔在巴黎。𠮷野家也在巴黎。\r\n\r\nnaïve cafe\u0301 👩🏽‍🚀\n\n"


def test_a_streamed_answer_opens_its_source_at_exactly_the_quoted_words(
    visit: Opener, library: MemoryLibrary, generator: ScriptedGenerator
) -> None:
    library.shelves["default"] = {"塔/tower 🗼.md": BEFORE + TOWER}
    generator.gate = turnstile = Turnstile()
    page = visit()
    ask(page, QUESTION, wait=False)
    expect(page.locator(".status")).to_contain_text("Reading 4 passages")
    turnstile.let(3)
    expect(page.locator(".answer .streamed")).to_have_text("The tower is")
    expect(page.locator(".answer")).to_have_attribute("aria-busy", "true")
    turnstile.let(100)
    expect(page.locator(".status")).to_have_text("Answered from 1 source")
    expect(page.locator(".answer")).to_have_text(QUOTE + "1")
    expect(page.locator(".answer")).to_have_attribute("aria-busy", "false")
    expect(page.locator(".card-quote").first).to_have_text(QUOTE)

    page.click(".answer .marker")
    cited = page.locator("#cited")
    expect(cited).to_be_in_viewport()
    assert cited.text_content() == QUOTE
    expect(cited).to_be_focused()
    assert page.locator(".source-text").text_content() == BEFORE + TOWER
    assert page.locator(".passage").text_content() == TOWER[TOWER.index(QUOTE) : TOWER.index("Painting")]
    expect(page.locator(".card.current")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("#source")).to_be_hidden()
    expect(page.locator(".answer .marker")).to_be_focused()


def test_a_long_document_is_drawn_around_the_passage_and_whole_on_demand(
    visit: Opener, library: MemoryLibrary
) -> None:
    filler = "".join(f"第{n}段 🧱 nothing to see here.\n\n" for n in range(2000))
    text = filler + TOWER + filler
    library.shelves["default"] = {"long.md": text}
    page = visit()
    ask(page, QUESTION)
    page.click(".card-open")
    cited = page.locator("#cited")
    expect(cited).to_be_in_viewport()
    assert cited.text_content() == QUOTE
    shown = "".join(page.locator(".source-run").all_text_contents())
    assert len(shown) < 10_000 and shown in text
    before = cited.bounding_box()
    page.evaluate(
        "document.querySelector('.source-cut button').click()"
    )  # a real click would scroll there first
    expect(page.locator(".source-cut")).to_have_count(0)
    assert page.locator(".source-text").text_content() == text
    assert cited.text_content() == QUOTE
    after = cited.bounding_box()
    assert before and after and abs(before["y"] - after["y"]) <= 1, "what one reads must stay where it is"


def test_a_document_that_changed_since_is_not_highlighted_in_the_wrong_place(
    visit: Opener, library: MemoryLibrary
) -> None:
    page = visit()
    ask(page, QUESTION)
    library.shelves["default"]["tower.md"] = "A new first line.\n\n" + TOWER
    page.click(".marker")
    expect(page.locator("#cited")).to_have_text(QUOTE)
    page.keyboard.press("Escape")
    library.shelves["default"]["tower.md"] = "Nothing is left of it. " * 20
    page.click(".marker")
    expect(page.locator(".source .problem")).to_contain_text("has changed since this answer")
    expect(page.locator("#cited")).to_have_count(0)


def test_a_low_confidence_stands_out(visit: Opener) -> None:
    page = visit()
    for n, (confidence, marked) in enumerate((("0.2", 1), ("0.8", 0))):

        def reply(route: Route, _request: Request, said: str = f'"confidence":{confidence}') -> None:
            route.fulfill(
                content_type="text/event-stream",
                body=re.sub(r'"confidence":\s*[\d.]+', said, route.fetch().text()),
            )

        page.route("**/ask", reply)
        ask(page, QUESTION)
        turn = page.locator(".turn").nth(n)
        expect(turn.locator(".facts")).to_contain_text(f"confidence {float(confidence):.0%}")
        expect(turn.locator(".doubtful")).to_have_count(marked)


def test_a_refusal_says_so_and_shows_the_nearest_passages(visit: Opener) -> None:
    page = visit()
    ask(page, "Who sells bicycles on Neptune?")
    expect(page.locator(".status")).to_have_text("Your documents do not seem to answer this")
    expect(page.locator(".answer")).to_have_text(
        "No passage is close enough to the question to answer from it."
    )
    expect(page.locator(".margin-title")).to_have_text("The nearest passages")
    assert page.locator(".card").count() > 1 and page.locator(".marker, .card-number").count() == 0
    page.locator(".card-open").nth(1).click()
    passage = page.locator("#cited").text_content()
    assert (
        passage
        and passage in TOWER + "The old bridge of Mostar crosses the river Neretva. It was rebuilt in 2004.\n"
    )


def test_what_is_quoted_and_what_is_unsupported_is_marked(
    visit: Opener, generator: ScriptedGenerator
) -> None:
    generator.reply = QUOTE + " It was painted blue by Napoleon."
    page = visit()
    ask(page, QUESTION)
    expect(page.locator(".answer .unsupported")).to_have_attribute(
        "title", "No passage supports this sentence."
    )
    expect(page.locator(".legend")).to_contain_text("No passage that was read supports")
    page.click(".options summary")
    page.select_option("select[name=mode]", "quote")
    ask(page, QUESTION)
    expect(page.locator(".status").last).to_contain_text("Quoted from 1 source, not written by the model")
    page.select_option("select[name=mode]", "closed_book")
    ask(page, QUESTION)
    expect(page.locator(".status").last).to_contain_text("without a source")


def test_an_answer_is_stopped_asked_again_and_kept_over_a_reload(
    visit: Opener, generator: ScriptedGenerator
) -> None:
    generator.gate = turnstile = Turnstile()
    page = visit()
    ask(page, QUESTION, wait=False)
    turnstile.let(2)
    expect(page.locator(".answer")).to_have_text("The tower")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".status")).to_have_text("Stopped")
    until(lambda: generator.cancelled == 1)  # the slot is free again
    turnstile.let(100)
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator(".status")).to_have_text("Answered from 1 source")
    expect(page.locator(".turn")).to_have_count(1)
    page.reload()
    expect(page.locator(".answer")).to_have_text(QUOTE + "1")
    page.click(".marker")
    expect(page.locator("#cited")).to_have_text(QUOTE)
    page.keyboard.press("Escape")
    page.click(".options summary")
    page.get_by_role("button", name="Clear these questions").click()
    expect(page.locator(".turn")).to_have_count(0)
    expect(page.locator("h1:visible")).to_have_text("What do you want to know?")
    page.reload()
    expect(page.locator("h1:visible")).to_be_visible()


def test_a_question_asked_too_early_waits_until_the_models_are_loaded(
    visit: Opener,
) -> None:
    page = visit()
    page.watched.expected.append("503")  # type: ignore[attr-defined]
    loading = {"status": "loading", "parts": {"index": "loading"}}
    page.route("**/readyz", lambda route: route.fulfill(status=503, json=loading))
    ask(page, QUESTION, wait=False)
    expect(page.locator(".status")).to_have_text("Waiting until the models are loaded")
    page.reload()
    expect(page.locator(".readiness")).to_contain_text("Loading the models")
    expect(page.locator(".status")).to_have_text("Stopped")  # the question is not lost
    ask(page, QUESTION, wait=False)
    expect(page.locator(".status").last).to_have_text("Waiting until the models are loaded")
    page.unroute("**/readyz")
    expect(page.locator(".status").last).to_have_text("Answered from 1 source")
    expect(page.locator(".readiness")).to_be_hidden()


def test_nothing_moves_while_an_answer_streams(visit: Opener, generator: ScriptedGenerator) -> None:
    generator.reply = " ".join(
        [QUOTE] + [f"Sentence {n} about the tower is long enough to fill a line." for n in range(40)]
    )
    generator.gate = turnstile = Turnstile()
    page = visit()
    ask(page, QUESTION, wait=False)
    expect(page.locator(".status")).to_contain_text("Reading")
    page.wait_for_timeout(
        600
    )  # shifts within half a second of a key are the reader's own doing and not counted
    page.evaluate(
        """() => {
            window.shifts = [];
            new PerformanceObserver((list) => {
                for (const entry of list.getEntries()) {
                    window.shifts.push([entry.value, entry.sources.map(({ node }) => node?.className ?? "")]);
                }
            }).observe({type: "layout-shift"});
        }"""
    )
    for _ in range(20):
        turnstile.let(20)
        page.wait_for_timeout(20)
    expect(page.locator(".streamed")).to_contain_text("Sentence 30")
    assert page.evaluate("document.documentElement.scrollHeight > innerHeight * 1.2"), (
        "the answer must outgrow the window"
    )
    moved = [names for _, names in page.evaluate("window.shifts") if set(names) != {"caret"}]
    assert moved == []  # the caret stands behind the last word, wherever that is
    turnstile.let(1000)
    page.wait_for_selector(".turn[data-state=done]")


def test_an_error_is_a_readable_sentence(
    visit: Opener, library: MemoryLibrary, generator: ScriptedGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = visit()
    page.watched.expected += ["429", "404", "ERR_FAILED", "net::"]  # type: ignore[attr-defined]
    library.failure = Busy("Four questions are waiting already.", 7)
    ask(page, QUESTION, wait=False)
    expect(page.locator(".problem")).to_have_text("Four questions are waiting already. Try again in 7 s.")
    expect(page.locator(".status")).to_have_text("No answer")
    library.failure = None

    def broken(*_: object) -> object:
        yield from ()
        raise ConnectionError("secret inside")

    monkeypatch.setattr(
        generator, "stream", broken
    )  # fails when the stream has begun: the last event is `error`
    ask(page, QUESTION, wait=False)
    expect(page.locator(".problem").last).to_have_text(
        "An error inside the service; its log has the details."
    )
    monkeypatch.undo()
    page.route("**/ask", lambda route: route.abort())
    ask(page, QUESTION, wait=False)
    expect(page.locator(".problem").last).to_contain_text("The service does not answer. Is it still running?")
    page.unroute("**/ask")
    cut = 'event: token\ndata: {"text": "The"}\n\n'  # and then nothing
    page.route("**/ask", lambda route: route.fulfill(content_type="text/event-stream", body=cut))
    ask(page, QUESTION, wait=False)
    expect(page.locator(".problem").last).to_contain_text(
        "The connection broke before the answer was complete"
    )
    expect(page.locator(".answer").last).to_have_text("The")
    page.unroute("**/ask")
    page.get_by_role("button", name="Ask again").last.click()
    expect(page.locator(".status").last).to_have_text("Answered from 1 source")


def test_everything_works_from_the_keyboard(visit: Opener) -> None:
    page = visit()
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.type("How tall is")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("the Eiffel Tower?")
    assert page.input_value("#question") == "How tall is\nthe Eiffel Tower?"
    page.evaluate(
        """document.activeElement.dispatchEvent(
            new KeyboardEvent("keydown", { key: "Enter", isComposing: true, bubbles: true })
        )"""
    )
    expect(page.locator(".turn")).to_have_count(0)  # an input method's Enter picks a character
    page.keyboard.press("Enter")
    page.wait_for_selector(".turn[data-state=done]")
    tab_to(page, ".marker", backwards=True)
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.locator("#cited")).to_be_focused()
    tab_to(page, "#source .icon-button[aria-label=Close]", backwards=True)
    page.keyboard.press("Enter")
    expect(page.locator(".marker")).to_be_focused()
    tab_to(page, ".tabs a[href='#/library']", backwards=True)
    page.keyboard.press("Enter")
    expect(page.locator(".library h1")).to_be_visible()
    tab_to(page, ".act button:last-child")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("Delete this document?")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator(".act button:last-child").first).to_be_focused()
    page.reload()
    page.wait_for_selector(".library h1")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    assert page.url.endswith("#/library")


def tab_to(page: Page, selector: str, *, backwards: bool = False) -> None:
    for _ in range(40):
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
        if page.evaluate("(s) => document.activeElement.matches(s)", selector):
            return
    pytest.fail(f"{selector} cannot be reached with the Tab key")


def test_offsets_are_code_points_as_python_counts_them(visit: Opener) -> None:
    random.seed(7)
    alphabet = "aé\u0301中𠮷🗼\u200d\U0001f3fd\r\n\ufeff"
    cases = []
    for _ in range(300):
        text = "".join(random.choices(alphabet, k=random.randrange(40)))
        start = random.randrange(len(text) + 1)
        end = random.randrange(start, len(text) + 3)  # an end past the text is cut to it
        cases.append([text, start, end, text[start:end]])
    page = visit()
    wrong = page.evaluate(
        """async (cases) => {
            const { unitSpan } = await import("./web/offsets.js");
            const cut = (text, start, end) => text.slice(...unitSpan(text, start, end));
            return cases.filter(([text, start, end, expected]) => cut(text, start, end) !== expected);
        }""",
        cases,
    )
    assert wrong == []


def test_events_survive_every_way_of_being_cut_into_packets(visit: Opener) -> None:
    stream = (
        ': a comment\r\nevent: token\r\ndata: {"text": "塔🗼"}\r\n\r\n'
        'event: token\ndata: {"text":\ndata: "two lines"}\nid: 7\n\n'
        'event: sources\rdata:{"n": 1}\r\revent: final\ndata: {"ok": true}\n\n'
        'event: lost\ndata: {"never": "dispatched"}\n'
    )
    expected = [
        ["token", {"text": "塔🗼"}],
        ["token", {"text": "two lines"}],
        ["sources", {"n": 1}],
        ["final", {"ok": True}],
    ]
    page = visit()
    results = page.evaluate(
        """async (stream) => {
            const { readEvents } = await import("./web/events.js");
            const bytes = new TextEncoder().encode(stream);
            const results = new Set();
            for (let cut = 0; cut <= bytes.length; cut += 1) {
                const body = new ReadableStream({
                    start(controller) {
                        controller.enqueue(bytes.slice(0, cut));
                        controller.enqueue(bytes.slice(cut));
                        controller.close();
                    },
                });
                const events = [];
                for await (const { event, data } of readEvents(body)) events.push([event, data]);
                results.add(JSON.stringify(events));
            }
            return Array.from(results, JSON.parse);
        }""",
        stream,
    )
    assert results == [expected]
