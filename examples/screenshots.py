"""Takes the README's pictures of the page from a running service.

Start `make run` first; Chromium and the test extra (Playwright) must be installed.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

QUESTION = "How do I ingest a folder of documents?"


def open_page(browser: Browser, address: str, size: tuple[int, int], scheme: str, language: str) -> Page:
    """The page as somebody with such a screen and such preferences sees it."""
    page = browser.new_page(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        locale=language,
        reduced_motion="reduce",
    )
    page.set_default_timeout(600_000)  # the service ends a question by its own deadline
    page.goto(address)
    page.wait_for_selector(".chip, .documents table, .problem")
    return page


def ask(page: Page, question: str) -> None:
    """Ask, and wait for the end of the answer; a failed one ends the program with its reason."""
    page.fill("#question", question)
    page.press("#question", "Enter")
    turn = page.wait_for_selector(".turn:last-child:is([data-state=done], [data-state=failed])")
    if turn and turn.get_attribute("data-state") == "failed":
        raise SystemExit(f"no answer: {page.locator('.problem').inner_text()}")


def take(browser: Browser, address: str, folder: Path) -> list[Path]:
    """The pictures: an answer beside its source, the same question on a dark phone, the library."""
    answer = open_page(browser, address, (1280, 720), "light", "en")
    ask(answer, QUESTION)
    answer.locator(".marker, .card-open").first.click()
    answer.wait_for_selector("#cited")
    phone = open_page(browser, address, (390, 760), "dark", "zh-CN")
    ask(phone, QUESTION)
    library = open_page(browser, f"{address}/#/library", (1280, 720), "light", "en")
    pictures = {"page-answer": answer, "page-phone": phone, "page-library": library}
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in pictures.items():
        page.mouse.move(0, 0)
        page.screenshot(path=folder / f"{name}.png")
    return [folder / f"{name}.png" for name in pictures]


def main() -> None:
    """Take the pictures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("address", nargs="?", default="http://127.0.0.1:8000")
    options.add_argument("folder", nargs="?", type=Path, default=Path("examples/pictures"))
    given = options.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for path in take(browser, given.address.rstrip("/"), given.folder):
            print(f"{path}  {path.stat().st_size // 1000} kB")
        browser.close()


if __name__ == "__main__":
    main()
