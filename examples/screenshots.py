"""Takes the pictures of the page from a running service: the README's, and a sheet of every tab in every dress.

    python -m examples.screenshots [ADDRESS] [FOLDER]

Start `make run` first; Chromium and the test extra (Playwright) must be installed.
"""

from __future__ import annotations

import argparse
import io
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

#: The sheet: height of each picture, how much smaller it is shown, and what stands between.
SHEET_PX, SMALLER, GAP_PX = 800, 2, 12
QUESTION = "How do I ingest a folder of documents?"
ANNOUNCEMENT = "公司拟以现金收购一家软件企业全部股权，交易完成后将纳入合并报表。"


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
    page.wait_for_selector(":is(.chip, .documents table, .bench h1, .problem):visible")
    return page


def ask(page: Page, question: str) -> None:
    """Ask, and wait for the end of the answer; a failed one ends the program with its reason."""
    page.fill("#question", question)
    page.press("#question", "Enter")
    turn = page.wait_for_selector(".turn:last-child:is([data-state=done], [data-state=failed])")
    if turn and turn.get_attribute("data-state") == "failed":
        raise SystemExit(f"no answer: {page.locator('.problem').inner_text()}")


def answer(page: Page) -> None:
    """An answer beside its source."""
    ask(page, QUESTION)
    page.locator(".marker, .card-open").first.click()
    page.wait_for_selector("#cited")


def compare(page: Page) -> None:
    """Two ways of answering, side by side; of the models that are there."""
    page.wait_for_selector(".column")
    page.fill(".compare-form textarea", QUESTION)
    page.click(".compare-form [type=submit]")
    page.wait_for_selector(".column:not([data-state=done])", state="detached")


def classify(page: Page) -> None:
    """A Chinese announcement, by the classifier that comes along."""
    page.wait_for_selector(".label-name")
    page.locator(".classify textarea").first.fill(ANNOUNCEMENT)
    page.click(".classify [type=submit]")
    page.wait_for_selector(".result")
    page.click(".parts summary")


def settled(page: Page) -> None:
    """What is there: a run, a comparison, models; or what the page says where there is none."""
    page.wait_for_load_state("networkidle")


#: Name of the picture -> route, width and height, colours, language, and what is done before it is taken.
PICTURES: dict[str, tuple[str, tuple[int, int], str, str, Callable[[Page], None]]] = {
    "page-answer": ("", (1280, 720), "light", "en", answer),
    "page-phone": ("", (390, 760), "dark", "zh-CN", lambda page: ask(page, QUESTION)),
    "page-library": ("#/library", (1280, 720), "light", "en", settled),
    "page-compare": ("#/compare", (1280, 800), "light", "en", compare),
    "page-classify": ("#/classify", (1280, 900), "light", "en", classify),
    "page-train": ("#/train", (1280, 900), "dark", "en", settled),
    "page-evaluate": ("#/evaluate", (1280, 900), "light", "en", settled),
    "page-models": ("#/models", (1280, 800), "light", "en", settled),
}


def take(browser: Browser, address: str, folder: Path) -> list[Path]:
    """Every tab, as a service with documents, a run and a comparison shows it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (route, size, scheme, language, prepare) in PICTURES.items():
        page = open_page(browser, f"{address}/{route}", size, scheme, language)
        prepare(page)
        page.mouse.move(0, 0)
        page.wait_for_load_state("networkidle")  # icons, too
        page.screenshot(path=folder / f"{name}.png")
        page.close()
    return [folder / f"{name}.png" for name in PICTURES]


def sheet(browser: Browser, address: str, file: Path) -> Path:
    """Every tab, a row each: desktop and phone, light and dark, one picture."""
    rows: dict[str, Callable[[Page], None]] = {"": lambda page: ask(page, QUESTION)}
    rows |= {route: prepare for route, _, _, _, prepare in PICTURES.values() if route}
    taken: list[list[Image.Image]] = []
    for route, prepare in rows.items():
        taken.append([])
        for size, scheme in itertools.product(((1280, SHEET_PX), (390, SHEET_PX)), ("light", "dark")):
            page = open_page(browser, f"{address}/{route}", size, scheme, "en")
            prepare(page)
            page.mouse.move(0, 0)
            page.wait_for_load_state("networkidle")
            taken[-1].append(Image.open(io.BytesIO(page.screenshot())))
            page.close()
    height = SHEET_PX // SMALLER
    widths = [picture.width // SMALLER for picture in taken[0]]
    whole = Image.new(
        "RGB", (sum(widths) + GAP_PX * (len(widths) + 1), (height + GAP_PX) * len(taken) + GAP_PX), "#888"
    )
    for at, row in enumerate(taken):
        left = GAP_PX
        for picture, width in zip(row, widths, strict=True):
            small = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
            whole.paste(small, (left, GAP_PX + at * (height + GAP_PX)))
            left += width + GAP_PX
    whole.quantize(128).save(file, optimize=True)
    return file


def main() -> None:
    """Take the pictures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("address", nargs="?", default="http://127.0.0.1:8000")
    options.add_argument("folder", nargs="?", type=Path, default=Path("examples/pictures"))
    given = options.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        address = given.address.rstrip("/")
        paths = take(browser, address, given.folder)
        for path in [*paths, sheet(browser, address, given.folder / "page-every-tab.png")]:
            print(f"{path}  {path.stat().st_size // 1000} kB")
        browser.close()


if __name__ == "__main__":
    main()
