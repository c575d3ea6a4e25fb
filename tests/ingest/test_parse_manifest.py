"""The collection of real files, each against what its entry in the manifest expects.

Texts are compared after NFKC and without white space. What needs OCR says so without it, and is
read with it: no entry is passed over.
"""

from __future__ import annotations

import codecs
import json
import os
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import EmptyDocument, ParseError, PasswordRequired
from ingest.parse import OcrMode, parse_file
from ingest.parse.encoding import SUPERSETS
from ingest.types import Document

ROOT = Path(__file__).resolve().parents[2]
FOLDER = (ROOT / os.environ.get("LOREBASE_DATA", "../shared/data")).resolve() / "documents"
MANIFEST = FOLDER / "manifest.json"
ENTRIES = json.loads(MANIFEST.read_text(encoding="utf-8")) if MANIFEST.is_file() else []
MOST = 1 << 30

pytestmark = pytest.mark.skipif(not ENTRIES, reason="the data folder (LOREBASE_DATA) is not here")


def bare(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())


def check_laws(document: Document) -> None:
    """What every parser promises of its text, sections and pages."""
    text = document.text
    assert "\r" not in text and "\0" not in text and "\ufffe" not in text
    assert "".join(text[s.char_start : s.char_end] for s in document.sections) == text
    ends = [(page.char_start, page.char_end) for page in document.pages]
    assert [page.number for page in document.pages] == list(range(1, len(ends) + 1))
    assert all(a[1] <= b[0] for a, b in pairwise(ends))
    if ends:
        assert bare("".join(text[a:b] for a, b in ends)) == bare(text)
    assert document.title.strip() and "\n" not in document.title


def parse(entry: dict[str, Any], password: str | None = None, ocr: OcrMode = "auto") -> Document:
    document = parse_file(FOLDER / entry["file"], password=password, max_bytes=MOST, ocr=ocr)
    check_laws(document)
    return document


def check_text(entry: dict[str, Any], document: Document) -> None:
    text = bare(document.text)
    for wanted in entry["must_contain"]:
        assert bare(wanted) in text, wanted
    places = [text.find(bare(part)) for part in entry.get("in_order", [])]
    assert places == sorted(places) and -1 not in places
    if "pages" in entry:
        assert len(document.pages) == entry["pages"]
    if "encoding" in entry:
        expected = codecs.lookup(SUPERSETS.get(entry["encoding"], entry["encoding"])).name
        assert codecs.lookup(document.metadata["encoding"]).name.startswith(expected.removesuffix("hkscs"))
    for question in entry.get("questions", []):
        if question.get("page") and bare(question["answer"]) in text:
            page = document.pages[question["page"] - 1]
            assert bare(question["answer"]) in bare(document.text[page.char_start : page.char_end])


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry["file"] for entry in ENTRIES])
def test_a_real_file_yields_what_is_expected(entry: dict[str, Any]) -> None:
    expect = entry["expect"]
    if expect == "text":
        check_text(entry, parse(entry))
    elif expect == "needs_password":
        for wrong in (None, "wrong"):
            with pytest.raises(PasswordRequired, match="password"):
                parse(entry, wrong)
        if "password" in entry:
            check_text(entry, parse(entry, entry["password"]))
    elif expect == "ocr":
        with pytest.raises(EmptyDocument, match="page 1 has no text layer: OCR is needed"):
            parse(entry, ocr="off")
        document = parse(entry)
        assert document.warnings == ("page 1 read by OCR",)
        check_text(entry, document)
    elif expect == "garbled":
        with pytest.raises(EmptyDocument, match=r"no language.*OCR is needed"):
            parse(entry, ocr="off")
        assert parse(entry).warnings == ("page 1 read by OCR",)
    elif expect == "no_text":
        with pytest.raises(EmptyDocument, match="Nothing to ingest"):
            parse(entry)
    else:
        assert expect == "unreadable"
        with pytest.raises(ParseError, match="no PDF engine can read it"):
            parse(entry)


def test_every_kind_of_expectation_was_met() -> None:
    """Guards the test above: a manifest that lost its hard cases would pass too easily."""
    assert {entry["expect"] for entry in ENTRIES} >= {
        "text",
        "ocr",
        "needs_password",
        "unreadable",
        "garbled",
        "no_text",
    }
    assert len(ENTRIES) >= 42


def test_slides_and_sheets_are_where_they_were() -> None:
    slides = parse({"file": "slides_with_lists.pptx"})
    assert len(slides.pages) == 4
    last = slides.pages[3]
    assert "| 2 | A2 | B2 | C2 |" in slides.text[last.char_start : last.char_end]
    sheets = parse({"file": "stanley_cups_two_sheets.xlsx"})
    first, second = (sheets.text[s.char_start : s.char_end] for s in sheets.sections)
    assert "| Maple Leafs | TOR | 13 |" in first and "| Maple Leafs | TOR | 0 |" in second
    assert "| Team | Location | Stanley Cups |\n| --- " in first, "the title above is no header"
    placeholder = parse({"file": "malformed_placeholder.pptx"})
    assert placeholder.title == "Test Slide"


def test_headings_of_a_chinese_manual_come_from_its_outline_and_stand_where_they_are_printed() -> None:
    document = parse({"file": "zh_maint_guide.pdf"})
    at = {section.heading_path[-1]: section for section in document.sections if section.heading_path}
    tools = at["需要的开发工具"]
    assert tools.heading_path == ("正确的起点", "需要的开发工具")
    assert document.text[tools.char_start :].startswith("1.2 需要的开发工具\n")
    page = document.pages[9 - 1]
    assert page.char_start <= tools.char_start < page.char_end


def test_the_article_is_kept_and_the_menus_are_not() -> None:
    document = parse({"file": "duck_wikipedia.html"})
    assert document.title == "Duck"
    paths = {section.heading_path for section in document.sections}
    assert {("Duck", "Etymology"), ("Duck", "Behaviour", "Feeding")} <= paths
    assert "| Family: | Anatidae |" in document.text  # a table that stands above the first paragraph
    for menu in ("Create account", "Main page", "Privacy policy", "Jump to", "Donate", "[edit]"):
        assert menu not in document.text
