"""PowerPoint, Excel, OpenDocument, RTF and EPUB: structure, traps, and what hostile files cost."""

from __future__ import annotations

import datetime
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pptx
import pytest
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from ingest.errors import EmptyDocument, IngestError, ParseError, PasswordRequired, UnsupportedFormat
from ingest.parse import parse_file
from ingest.parse.xlsx import shown
from ingest.types import Document

SAMPLES = Path(__file__).parent / "samples" / "formats"
BOX = (Inches(1), Inches(1), Inches(4), Inches(2))
ENTITIES = (
    '<!DOCTYPE x [<!ENTITY a "SPILLSPILL"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY e SYSTEM "file:///etc/passwd">]>'
)


def parse(path: Path, password: str | None = None) -> Document:
    return parse_file(path, password=password, max_bytes=1 << 30)


def rezip(sample: str, path: Path, change: Callable[[str, bytes], bytes], extra: int = 0) -> Path:
    """A sample whose parts are replaced."""
    with zipfile.ZipFile(SAMPLES / sample) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        for number in range(extra):
            new.writestr(f"x{number}.xml", b"")
    return path


def slide_of(document: Document, number: int) -> str:
    page = document.pages[number - 1]
    return document.text[page.char_start : page.char_end]


def test_what_a_presentation_holds_is_found_on_its_slide(tmp_path: Path) -> None:
    deck = pptx.Presentation()
    first = deck.slides.add_slide(deck.slide_layouts[5])
    first.shapes.title.text = "Stations"
    group = first.shapes.add_group_shape()
    group.shapes.add_group_shape().shapes.add_textbox(*BOX).text_frame.text = "in a group"
    table = first.shapes.add_table(2, 3, *BOX).table
    for at, text in enumerate(("Name", "Height", "Share|2", "Gull Rock", "1.98", "50%")):
        table.cell(at // 3, at % 3).text = text
    table.cell(1, 1).merge(table.cell(1, 2))
    first.notes_slide.notes_text_frame.text = "said aloud"
    deck.slides.add_slide(deck.slide_layouts[6])  # blank
    third = deck.slides.add_slide(deck.slide_layouts[6])
    data = CategoryChartData()
    data.categories = ["spring", "autumn"]
    data.add_series("highest", (3.5, 4.87))
    third.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, *BOX, data)
    deck.save(str(tmp_path / "deck.pptx"))
    document = parse(tmp_path / "deck.pptx")
    assert document.title == "Stations" and [page.number for page in document.pages] == [1, 2, 3]
    one = slide_of(document, 1)
    assert one.startswith("Stations\n\nin a group\n\n| Name | Height | Share\\|2 |")
    assert one.endswith("Notes: said aloud")
    assert slide_of(document, 2) == ""
    assert (
        slide_of(document, 3)
        == "Slide 3\n\n|  | highest |\n| --- | --- |\n| spring | 3.5 |\n| autumn | 4.87 |"
    )
    assert [s.heading_path for s in document.sections] == [("Stations",), ("Slide 3",)]


def test_an_empty_presentation_and_an_empty_workbook(tmp_path: Path) -> None:
    deck = pptx.Presentation()
    deck.slides.add_slide(deck.slide_layouts[5])
    deck.save(str(tmp_path / "x.pptx"))
    openpyxl.Workbook().save(tmp_path / "x.xlsx")
    for name in ("x.pptx", "x.xlsx"):
        with pytest.raises(EmptyDocument, match=name):
            parse(tmp_path / name)


@pytest.mark.parametrize(
    ("value", "form", "expected"),
    [
        (0.972, "0.0%", "97.2%"),
        (4287.5, '"$"#,##0.00', "$4,287.50"),
        (4287.5, '#,##0.00 "€"', "4,287.50 €"),
        (-5.5, "$#,##0.00_);($#,##0.00)", "-$5.50"),
        (1234567, "#,##0", "1,234,567"),
        (0.1 + 0.2, "General", "0.3"),
        (5.25, "0.##", "5.25"),
        (5, "[Red]0;[Blue]-0", "5"),
        (True, "General", "TRUE"),
        (float("inf"), "0", "inf"),
        (datetime.datetime(2026, 3, 1), "mm-dd-yy", "2026-03-01"),
        (datetime.datetime(2026, 3, 1, 4, 7), "h:mm", "2026-03-01 04:07:00"),
        ("text", "0.00", "text"),
        ("two_x000D_\nlines, _x005F_x000D_ as it is", "General", "two\r\nlines, _x000D_ as it is"),
    ],
)
def test_numbers_as_excel_shows_them(value: object, form: str, expected: str) -> None:
    assert shown(value, form) == expected


def test_sheets_columns_and_captions(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Heights"
    sheet.append(["All stations of 2026"])
    sheet.append([None])
    sheet.append(["Name", None, "Height", "Opened"])
    sheet.append(["Gull | Rock", None, 1.98, datetime.date(1923, 5, 1)])
    book.create_sheet("Empty")
    secret = book.create_sheet("Secret")
    secret.append(["hidden", "value"])
    secret.sheet_state = "veryHidden"
    book.save(tmp_path / "x.xlsx")
    document = parse(tmp_path / "x.xlsx")
    heights, other = (document.text[s.char_start : s.char_end] for s in document.sections)
    assert heights.strip() == (
        "Heights\n\nAll stations of 2026\n\n"
        "| Name | Height | Opened |\n| --- | --- | --- |\n| Gull \\| Rock | 1.98 | 1923-05-01 |"
    )
    assert "hidden" in other and document.warnings == ("hidden sheets were read, too: Secret",)
    assert document.metadata["sheets"] == "Heights, Empty, Secret"


def test_formulas_that_nothing_has_computed_are_told(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["Item", "Total"])
    for row in range(2, 5002):
        book.active.append(["x", f"=SUM(A{row},1)"])
    book.save(tmp_path / "x.xlsx")
    (told,) = parse(tmp_path / "x.xlsx").warnings
    assert "'Sheet': 5,000 formulas have no value" in told
    cells = (
        '<row r="1"><c r="A1"><v>11</v></c><c r="B1"><f>A1+1</f><v>12</v></c>'
        '<c r="C1" t="str"><f>IF(A1,"")</f><v></v></c><c r="D1" s="1"><f t="shared" si="0"/><v>13</v></c></row>'
    )
    path = rezip("sample.xlsx", tmp_path / "x.xlsx", sheet_with(f"<sheetData>{cells}</sheetData>"))
    assert "formulas" not in str(parse(path).warnings), "computed, or computed to an empty text"


SHEET = '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'


def sheet_with(inside: str) -> Callable[[str, bytes], bytes]:
    return lambda name, data: (SHEET + inside + "</worksheet>").encode() if "sheet1.xml" in name else data


def test_sheets_that_claim_more_than_they_hold(tmp_path: Path) -> None:
    """Two cells at the corners of the largest sheet there is: neither laid out nor waited for."""
    cells = '<row r="1"><c r="A1"><v>11</v></c><c r="B1"><v>12</v></c></row>'
    cells += '<row r="1048576"><c r="XFD1048576"><v>13</v></c></row>'
    path = rezip(
        "sample.xlsx", tmp_path / "x.xlsx",
        sheet_with(f'<dimension ref="A1:XFD1048576"/><sheetData>{cells}</sheetData>'),
    )  # fmt: skip
    document = parse(path)
    assert "| 11 | 12 |" in document.text and "columns after the 2,000th" in document.warnings[-1]
    path = rezip(
        "sample.xlsx", tmp_path / "x.xlsx",
        sheet_with(f'<dimension ref="A1:XFD1048576"/><sheetData>{cells.replace("XFD", "B")}</sheetData>'),
    )  # fmt: skip
    document = parse(path)
    assert "|  | 13 |" in document.text and len(document.warnings) == 1, "the hidden sheet, nothing cut"


def test_a_sheet_of_millions_of_cells_is_cut_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.parse.tables.MOST_CELLS", 30)
    row = '<row r="{0}"><c r="A{0}"><v>{0}</v></c><c r="B{0}"><v>7</v></c></row>'
    rows = "".join(row.format(n) for n in range(1, 101))
    path = rezip("sample.xlsx", tmp_path / "x.xlsx", sheet_with(f"<sheetData>{rows}</sheetData>"))
    document = parse(path)
    assert "| 15 | 7 |" in document.text and "| 16 | 7 |" not in document.text
    assert any("cut after 15 rows" in warning for warning in document.warnings)
    monkeypatch.setattr("ingest.parse.xlsx.MOST_TAGS", 500)
    with pytest.raises(ParseError, match=r"sheet1.xml has .* tags"):
        parse(path)


def test_opendocument_lists_notes_tables_and_what_is_not_read(tmp_path: Path) -> None:
    body = (
        '<text:h text:outline-level="1">Top</text:h><text:p>a<text:s text:c="2"/>b<text:tab/>c'
        "<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>below</text:p>"
        "</text:note-body></text:note></text:p>"
        "<text:list><text:list-item><text:p>one</text:p><text:list><text:list-item><text:p>two</text:p>"
        "</text:list-item></text:list></text:list-item></text:list>"
        "<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>"
        '<table:table><table:table-row><table:table-cell table:number-columns-repeated="2"><text:p>x</text:p>'
        '</table:table-cell></table:table-row><table:table-row table:number-rows-repeated="1048576">'
        '<table:table-cell table:number-columns-repeated="16384"/></table:table-row></table:table>'
    )

    def change(name: str, data: bytes) -> bytes:
        if name != "content.xml":
            return data
        text = data.decode()
        start = text.index("<office:text")
        start = text.index(">", start) + 1
        return (text[:start] + body + text[text.index("</office:text>") :]).encode()

    document = parse(rezip("sample.odt", tmp_path / "x.odt", change))
    assert document.text == "Top\n\na  b\tc [below]\n\n- one\n  - two\n\n| x | x |\n| --- | --- |"


def test_repeated_cells_are_not_laid_out_without_end(tmp_path: Path) -> None:
    cell = b'<text:p><text:p/></text:p><table:table><table:table-row table:number-rows-repeated="99999999">'
    cell += (
        b'<table:table-cell table:number-columns-repeated="200000000"><text:p>x</text:p></table:table-cell>'
    )
    cell += b"</table:table-row></table:table></office:text>"
    path = rezip("sample.odt", tmp_path / "x.odt", lambda _, d: d.replace(b"</office:text>", cell))
    assert 1_000 < parse(path).text.count("x |") <= 1_000_000


@pytest.mark.parametrize(
    "sample", ["sample.pptx", "sample.xlsx", "sample.odt", "sample.ods", "sample.odp", "sample.epub"]
)
def test_hostile_containers(sample: str, tmp_path: Path) -> None:
    """Bombs, entities, cuts and lies: a typed error or harmless text, for each kind of container."""
    path = tmp_path / sample
    bomb = rezip(sample, path, lambda n, d: d + b" " * 20_000_000 if n.endswith((".xml", ".opf")) else d)
    with pytest.raises(ParseError, match="times its size"):
        parse(bomb)
    with pytest.raises(ParseError, match="entries"):
        parse(rezip(sample, path, lambda _, d: d, extra=10_000))

    def entity(_: str, data: bytes) -> bytes:
        at = data.find(b"?>") + 2
        if not data.startswith(b"<?xml") or b"<!DOCTYPE" in data:
            return data
        return (
            data[:at]
            + ENTITIES.encode()
            + data[at:].replace(b"Lantern", b"&b;&e;").replace(b"radar", b"&b;&e;")
        )

    try:
        text = parse(rezip(sample, path, entity)).text
    except IngestError:
        text = ""
    assert "root:" not in text and text.count("SPILL") <= 64
    whole = (SAMPLES / sample).read_bytes()
    for part in (0.3, 0.95):
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(ParseError, match="ZIP"):
            parse(path)
    broken = rezip(sample, path, lambda n, d: d[: len(d) // 2] if n.endswith(".xml") else d)
    try:
        assert parse(broken).text
    except IngestError as error:
        assert str(error).startswith(sample)


def test_encrypted_opendocument_and_epub(tmp_path: Path) -> None:
    mark = b"<manifest:encryption-data>"
    path = rezip("sample.odt", tmp_path / "x.odt", lambda n, d: mark if n.endswith("manifest.xml") else d)
    with pytest.raises(PasswordRequired, match="without a password"):
        parse(path)
    with zipfile.ZipFile(SAMPLES / "sample.epub") as book:
        chapter = next(n for n in book.namelist() if n.endswith("ch001.xhtml"))
    path = rezip("sample.epub", tmp_path / "x.epub", lambda _, d: d)
    with zipfile.ZipFile(path, "a") as book:
        book.writestr("META-INF/encryption.xml", f'<e><CipherReference URI="{chapter}"/></e>')
    with pytest.raises(PasswordRequired, match="digital rights"):
        parse(path)


def test_a_name_that_lies_about_its_container(tmp_path: Path) -> None:
    path = tmp_path / "x.docx"
    path.write_bytes((SAMPLES / "sample.ods").read_bytes())
    document = parse(path)
    assert document.parser.startswith("ods/") and "read as ods" in document.warnings[0]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.graphics")
    with pytest.raises(UnsupportedFormat, match="OpenDocument"):
        parse(path)


def test_chapters_come_in_the_order_of_the_spine(tmp_path: Path) -> None:
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        "<dc:title>Two</dc:title><dc:creator>Ada</dc:creator></metadata><manifest>"
        '<item id="b" href="b%20b.xhtml"/><item id="a" href="a.xhtml"/><item id="n" href="n.xhtml" properties="nav"/>'
        '<item id="out" href="../../../etc/passwd"/></manifest>'
        '<spine><itemref idref="n"/><itemref idref="b"/><itemref idref="a"/><itemref idref="out"/></spine></package>'
    )
    with zipfile.ZipFile(tmp_path / "x.epub", "w") as book:
        book.writestr("mimetype", "application/epub+zip")
        book.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="O/p.opf"/></rootfiles></container>',
        )
        book.writestr("O/p.opf", package)
        book.writestr("O/a.xhtml", "<html><body><h1>Alpha</h1><p>first</p></body></html>")
        book.writestr("O/b b.xhtml", "<html><body><p>second</p></body></html>")
        book.writestr("O/n.xhtml", '<html><body><a href="b%20b.xhtml#x">Beta</a></body></html>')
    document = parse(tmp_path / "x.epub")
    assert document.text == "Beta\n\nsecond\n\nAlpha\n\nfirst"
    assert document.title == "Two" and document.metadata["author"] == "Ada"
    assert "etc/passwd is missing" in document.warnings[0]


def test_rtf(tmp_path: Path) -> None:
    path = tmp_path / "x.rtf"
    path.write_bytes(
        rb"{\rtf1\ansi\ansicpg1252{\info{\title Gr\'fc\'dfe}}{\fonttbl{\f0 Arial;}}"
        rb"one \u28526?\u20301? caf\'e9\par two{\pict\pngblip 89504e470d0a}\par a\cell b\cell\row c\cell d\cell\row end}"
    )
    document = parse(path)
    assert document.title == "Grüße"
    assert document.text.split("\n\n")[0] == "one 潮位 café"
    assert "| a | b |\n| --- | --- |\n| c | d |" in document.text and "89504e" not in document.text
    title = "".join(f"\\'{byte:02x}" for byte in "Привет".encode("cp1251")).encode()
    path.write_bytes(
        rb"{\rtf1\ansi\ansicpg1251{\info{\title " + title + rb"}} " + title + rb" \u-10179?\u-8704?!}"
    )
    document = parse(path)
    assert (document.title, document.text) == ("Привет", "Привет 😀!")
    path.write_bytes(rb"{\rtf1 one \par two")
    with pytest.raises(ParseError, match="cut short"):
        parse(path)
    path.write_bytes(rb"{\rtf1 }")
    with pytest.raises(EmptyDocument):
        parse(path)
    stream = io.BytesIO(b"{\\rtf1 " + b"{" * 200_000 + b"deep" + b"}" * 200_001)
    path.write_bytes(stream.getvalue())
    assert parse(path).text == "deep"
