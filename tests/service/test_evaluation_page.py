"""The report's page: parsed, and opened in a browser."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from service.evaluation.page import render
from service.evaluation.pictures import points
from tests.service.browsing import axe_script, breaches, browser
from tests.service.evaluating import compare, parts_of, questions
from tests.service.fakes import ScriptedGenerator

__all__ = ["browser", "questions"]


class Outline(HTMLParser):
    """Notes what a page would load, and whether its elements close."""

    VOID = frozenset({"meta", "link", "br", "input", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.loads += [v for k in ("src", "href", "action", "data", "poster") if (v := values.get(k))]
        self.ids += [v for k in ("id",) if (v := values.get(k))]
        assert tag != "script"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def report(tmp_path: Path, questions: Path) -> Path:
    hostile = '330 metres </div><script>alert(1)</script><img src="http://evil.example/x.png">'
    compare(
        questions, parts_of(tmp_path, ScriptedGenerator(hostile)), tmp_path / "out", "--modes", "base,rag"
    )
    return tmp_path / "out" / "report.html"


def test_the_page_is_one_file_that_loads_nothing(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    outline = Outline()
    outline.feed(text)
    outline.close()
    assert outline.open == [] and outline.loads == ["data:,"]
    assert len(set(outline.ids)) == len(outline.ids)
    assert "url(" not in text and "@import" not in text and "alert(1)&lt;/script&gt;" in text


@pytest.mark.browser
def test_the_table_says_nothing_twice_and_nought_has_no_sign(report: Path) -> None:
    told = json.loads(report.with_suffix(".json").read_text(encoding="utf-8"))
    heads = re.findall(r"<th[^>]*>([^<]+)</th>", render(told))
    assert told["questions"]["answerable"] < told["questions"]["asked"] and "F1, answerable" in heads
    told["questions"]["answerable"] = told["questions"]["asked"]  # then it is the F1 beside it
    heads = re.findall(r"<th[^>]*>([^<]+)</th>", render(told))
    assert "F1" in heads and "F1, answerable" not in heads
    for mode in told["modes"]:
        mode["figures"]["right"]["mean"] = 0
    assert "No way of answering was right" in (page := render(told)) and "right most often" not in page
    assert [points(share) for share in (0.333, -0.333, 0.004, -0.004)] == ["+33", "−33", "0", "0"]


def test_the_page_in_a_browser(browser: Any, report: Path) -> None:
    for options in (
        {"viewport": {"width": 1280, "height": 900}},
        {"viewport": {"width": 375, "height": 720}, "color_scheme": "dark"},
    ):
        context = browser.new_context(**options)
        asked: list[str] = []
        complaints: list[str] = []
        context.on("request", lambda r, asked=asked: asked.append(r.url))
        opened = context.new_page()
        opened.on("console", lambda m, complaints=complaints: complaints.append(m.text))
        opened.on("pageerror", lambda e, complaints=complaints: complaints.append(str(e)))
        opened.goto(report.as_uri())
        assert opened.title().startswith("Lorebase: 4 questions")
        assert opened.evaluate("document.documentElement.scrollWidth") <= options["viewport"]["width"]

        def visible(opened: Any = opened) -> list[str]:
            return [q.inner_text() for q in opened.locator("details.q:visible .text").all()]

        assert len(visible()) == 4
        opened.locator("label", has_text="person").click()
        assert visible() == ["Who was the first visitor of the tower?"]
        opened.locator("label[for=kany]").click()
        opened.locator("label[for=w3]").click()  # what the quoting baseline got wrong
        assert visible() == ["Who was the first visitor of the tower?"]
        opened.locator("label[for=wany]").click()
        opened.locator("details.q").first.click()
        assert opened.get_by_text("330 metres", exact=True).first.is_visible()
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == [] and complaints == []
        context.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(browser: Any, report: Path, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme, bypass_csp=True)
    opened = context.new_page()
    opened.goto(report.as_uri())
    opened.locator("details.q").first.click()
    assert breaches(opened, axe_script()) == []
    context.close()
