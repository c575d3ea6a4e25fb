"""PDF: both engines, passwords, pages without text, and the mending of what drawing does to text."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pypdf
import pypdfium2
import pytest
from reportlab.pdfgen.canvas import Canvas

from ingest.errors import EmptyDocument, ParseError, PasswordRequired
from ingest.parse import parse_file
from ingest.parse.outline import Entry, locate
from ingest.parse.pdf_text import is_language, mend, ranges
from ingest.types import Document, Page

SAMPLES = Path(__file__).parent / "samples"
LINES = ("The lighthouse was built in 1871.", "The ferry leaves at nine.")


def parse(path: Path, password: str | None = None) -> Document:
    return parse_file(path, password=password, max_bytes=1 << 30, ocr="off")


def page_text(document: Document, number: int) -> str:
    page = document.pages[number - 1]
    assert page.number == number
    return document.text[page.char_start : page.char_end]


def make_pdf(path: Path, pages: list[str], outline: Sequence[tuple[str, int, int]] = ()) -> Path:
    """Pages of lines; a page "picture" is a drawing, an empty one is blank. Outline: (title, level, page)."""
    canvas = Canvas(str(path), invariant=1)
    for number, text in enumerate(pages, 1):
        for entry, (title, level, at) in enumerate(outline):
            if at == number:
                canvas.bookmarkPage(f"entry {entry}")
                canvas.addOutlineEntry(title, f"entry {entry}", level)
        if text == "picture":
            canvas.rect(100, 100, 300, 300, fill=1)
        else:
            for row, line in enumerate(text.split("\n") if text else []):
                canvas.drawString(72, 760 - 20 * row, line)
        canvas.showPage()
    canvas.save()
    return path


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("0000764478-23-000006", "minutes"),
        ("2023", "minutes"),
        ("untitled", "minutes"),
        ("", "minutes"),
        ("Microsoft Word - Minutes of May.docx", "Minutes of May"),
        ("报告 2023", "报告 2023"),
    ],
)
def test_a_title_is_words_that_somebody_chose(tmp_path: Path, written: str, title: str) -> None:
    canvas = Canvas(str(tmp_path / "minutes.pdf"))
    canvas.setTitle(written)
    canvas.drawString(72, 760, "The harbour opens at six.")
    canvas.save()
    assert parse(tmp_path / "minutes.pdf").title == title


@pytest.mark.parametrize("sample", ["trailer_without_root", "hole_in_page_tree", "page_lost"])
def test_pypdf_reads_what_pdfium_does_not(sample: str) -> None:
    path = SAMPLES / f"{sample}.pdf"
    try:
        alone = pypdfium2.PdfDocument(path)
        found = [alone[i].get_textpage().get_text_range() for i in range(len(alone))]
    except pypdfium2.PdfiumError:
        found = []
    assert found != list(LINES), "the sample no longer shows a file on which pdfium fails"
    document = parse(path)
    assert [page_text(document, 1), page_text(document, 2)] == list(LINES)
    assert document.title == "Harbour report"
    if sample == "trailer_without_root":
        assert any("pypdf" in warning for warning in document.warnings)


def test_passwords(tmp_path: Path) -> None:
    plain = make_pdf(tmp_path / "plain.pdf", ["secret harbour"])
    for user, owner, name in (("käse", "owner", "user.pdf"), ("", "owner", "owner.pdf")):
        writer = pypdf.PdfWriter(clone_from=plain)
        writer.encrypt(user, owner, algorithm="AES-256")
        writer.write(tmp_path / name)
    for wrong in (None, "", "kase"):
        with pytest.raises(PasswordRequired, match=r"user\.pdf: is encrypted.*`--password`"):
            parse(tmp_path / "user.pdf", wrong)
    assert parse(tmp_path / "user.pdf", "käse").text == "secret harbour"
    assert parse(tmp_path / "owner.pdf").text == "secret harbour"


def test_pages_without_text_are_named_and_blank_ones_are_not(tmp_path: Path) -> None:
    document = parse(make_pdf(tmp_path / "mixed.pdf", ["one", "picture", "", "picture", "picture", "six"]))
    assert document.warnings == ("pages 2, 4-5 have no text layer: OCR is needed",)
    assert [page_text(document, n) for n in range(1, 7)] == ["one", "", "", "", "", "six"]
    with pytest.raises(EmptyDocument, match="pages 1-2 have no text layer: OCR is needed"):
        parse(make_pdf(tmp_path / "scan.pdf", ["picture", "picture"]))
    with pytest.raises(EmptyDocument, match="blank"):
        parse(make_pdf(tmp_path / "blank.pdf", ["", ""]))


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_truncated_files_are_an_error_or_marked(tmp_path: Path, share: float) -> None:
    whole = make_pdf(tmp_path / "whole.pdf", ["page " + "abc " * 40 for _ in range(20)])
    data = whole.read_bytes()
    cut = tmp_path / "cut.pdf"
    cut.write_bytes(data[: int(share * len(data))])
    try:
        document = parse(cut)
    except ParseError as error:
        assert "damaged or incomplete" in str(error) and "cut.pdf" in str(error)
    else:
        assert document.text.count("page") == 20 or document.warnings


def test_sections_follow_the_outline(tmp_path: Path) -> None:
    pages = [
        "Contents\nHarbour 2\nTides 2\nFog 3",
        "about the Harbour\nHarbour and Tides\n1 Harbour\nships\n1.1 Tides\nhigh water",
        "2 Fog\nhorns",
    ]
    outline = [("Harbour", 0, 2), ("Tides", 1, 2), ("Fog", 0, 3)]
    document = parse(make_pdf(tmp_path / "outline.pdf", pages, outline))
    assert [
        (s.heading_path, document.text[s.char_start : s.char_end].split("\n")[0]) for s in document.sections
    ] == [
        ((), "Contents"),
        (("Harbour",), "1 Harbour"),
        (("Harbour", "Tides"), "1.1 Tides"),
        (("Fog",), "2 Fog"),
    ]


def test_a_heading_that_is_not_found_begins_with_its_page() -> None:
    text = "first page\n\nsecond page\nIntro-\nduction to TIDES\nmore"
    pages = (Page(1, 0, 10), Page(2, 12, len(text)))
    entries = [Entry("A picture", 1, 2), Entry("introduction  to tides", 1, 2), Entry("nowhere", 1, 7)]
    found = locate(entries, text.replace("Intro-\nduction", "Introduction"), pages)
    assert found == [(12, 1, "A picture"), (24, 1, "introduction  to tides")]


def test_equal_titles_on_one_page_are_told_apart() -> None:
    text = "1 Foo\nred\n2 Foo\nblue\n3 Foo"
    found = locate([Entry("Foo", 1, 1)] * 4, text, [Page(1, 0, len(text))])
    assert [at for at, _, _ in found] == [0, 10, 21, 21]


def test_hostile_outlines_do_not_lose_the_text(tmp_path: Path) -> None:
    path = make_pdf(tmp_path / "loop.pdf", ["the text is here"], [("One", 0, 1), ("Two", 0, 1)])
    data = path.read_bytes()
    reader = pypdf.PdfReader(io.BytesIO(data))
    first = reader.trailer["/Root"]["/Outlines"].raw_get("/First").idnum  # type: ignore[index]
    second = reader.trailer["/Root"]["/Outlines"].raw_get("/Last").idnum  # type: ignore[index]
    looped = data.replace(f"/Prev {first} 0 R".encode(), f"/Next {first} 0 R".encode())
    assert looped != data and second != first
    path.write_bytes(looped)
    assert parse(path).text == "the text is here"


@pytest.mark.parametrize(
    ("drawn", "read"),
    [
        ("an exam\ufffeple of it", "an example of it"),  # as pdfium marks a cut word
        ("an exam-\r\nple of it", "an example of it"),
        ("an exam\u00ad\nple", "an example"),
        ("a well\ufffeknown fact; well-known too", "a well-known fact; well-known too"),
        ("see lists.debian.org/debian\ufffeusers now", "see lists.debian.org/debian-users now"),
        ("state-of-the\ufffeart", "state-of-the-art"),
        ("by Jean\ufffePaul", "by Jean-Paul"),
        ("of\ufb01ce and \ufb02ow, e\ufb03cient", "office and flow, efficient"),
        ("dis\u00adcretionary", "discretionary"),
        ("ends with a dash-\nNext line", "ends with a dash-Next line"),
        ("10-\n20 ships", "10-\n20 ships"),
        ("tail \t\r\nline \u00a0\r\n", "tail\nline\n"),
    ],
)
def test_mending(drawn: str, read: str) -> None:
    assert mend([drawn]) == [read]


def test_chinese_lines_are_closed_where_they_are_full() -> None:
    full = "在你的开发环境中最重要的软件包是它将拉取其他基本构建环境所需的工具链"
    assert mend([f"标题\n{full}\n{full}。\n- 一\n- 二"]) == [f"标题\n{full}{full}。\n- 一\n- 二"]
    assert mend(["short\nlines\nof text"]) == ["short\nlines\nof text"]


def test_what_is_no_language() -> None:
    assert is_language("plain text, 12 % of 文字 и буквы")
    assert is_language("")
    assert not is_language("/g437/g258/g12 /g5")
    assert not is_language("(cid:12)(cid:7) (cid:44)")
    assert not is_language("\x19\x12\x03")
    assert not is_language("\ue012\ue013\ue014 a")
    assert not is_language("looks fine", unmapped=0.9)


def test_ranges() -> None:
    assert ranges([1]) == "1"
    assert ranges([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"
