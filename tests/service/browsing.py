"""A real browser for the page's tests: Debian's or any other installed Chromium, driven through Playwright.

Every page that a test opens is watched: at the end it must have asked no other origin for anything, broken no
content-security policy and left no error on its console, except those that the test says it expects.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
expect.set_options(timeout=20_000)  # a busy machine is no failure

#: Keeps what breaks the policy where a test can read it.
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`);
});
"""


def chromium() -> str | None:
    """Where Chromium is, if it is."""
    return next(
        (
            found
            for name in ("chromium", "chromium-browser", "google-chrome")
            if (found := shutil.which(name))
        ),
        None,
    )


class Turnstile:
    """Stands where a scripted generator waits before each piece, and lets through as many as it is told."""

    def __init__(self) -> None:
        self._permits = threading.Semaphore(0)

    def wait(self, timeout: float) -> bool:
        return self._permits.acquire(timeout=timeout)

    def let(self, pieces: int) -> None:
        self._permits.release(pieces)


@dataclass
class Watched:
    """What a page did besides what the test asked of it."""

    address: str
    requested: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)  #: parts of complaints that the test provokes

    def heed(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text} {message.location.get('url', '')}")

    def verify(self, page: Page) -> None:
        assert page.evaluate("window.violations") == []
        assert [c for c in self.complaints if not any(e in c for e in self.expected)] == []
        own = (f"{self.address}/", f"blob:{self.address}/", "data:")
        elsewhere = [url for url in self.requested if not url.startswith(own)]
        assert self.requested and elsewhere == []


Opener = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        pytest.skip("no Chromium is installed; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Opener]:
    """Opens the page in a context of its own: `visit(route="#/library", locale="zh-CN", ...)`."""
    opened: list[tuple[BrowserContext, Page, Watched]] = []

    def open_page(route: str = "", **options: Any) -> Page:
        settings = {
            "locale": "en-GB",
            "viewport": {"width": 1280, "height": 800},
            "reduced_motion": "reduce",
        } | options
        context = browser.new_context(**settings)
        context.set_default_timeout(20_000)
        context.add_init_script(WATCH)
        page = context.new_page()
        watched = Watched(address)
        context.on("request", lambda r: watched.requested.append(r.url))
        page.on("console", watched.heed)
        page.on("pageerror", lambda error: watched.complaints.append(f"uncaught: {error}"))
        page.watched = watched  # type: ignore[attr-defined]
        opened.append((context, page, watched))
        page.goto(f"{address}/{route}")
        page.wait_for_selector("h1, .turn")
        return page

    yield open_page
    for context, page, watched in opened:
        try:
            watched.verify(page)
        finally:
            context.close()


def ask(page: Page, question: str, *, wait: bool = True) -> None:
    """Type a question, ask it, and wait for the end of its answer."""
    turns = page.locator(".turn").count()
    page.fill("#question", question)
    page.press("#question", "Enter")
    latest = page.locator(".turn").nth(turns)
    latest.wait_for()
    if wait:
        page.wait_for_function(
            "(n) => document.querySelectorAll('.turn')[n].dataset.state === 'done'", arg=turns
        )


def axe_script() -> str:
    """The accessibility rules of axe-core."""
    package = pytest.importorskip("axe_core_python")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def breaches(page: Page, script: str) -> list[str]:
    """What axe finds wrong with the page as it is now."""
    if not page.evaluate("typeof window.axe === 'object'"):
        page.evaluate(script)
    found = page.evaluate("axe.run(document)")
    ran = {rule["id"] for rule in found["passes"] + found["violations"]}
    assert "color-contrast" in ran, "a colour that axe cannot read silences the rule"
    return [
        f"{v['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for v in found["violations"]
        for node in v["nodes"]
    ]
