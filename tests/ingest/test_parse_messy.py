"""Files as people have them: what once got lost, doubled or changed on its way into the text."""

from __future__ import annotations

import datetime
import json
from email.message import EmailMessage
from pathlib import Path

import docx
import openpyxl
import pytest
from docx.oxml import parse_xml

from ingest.parse import parse_file

LONG = "".join(
    f"<p>This is paragraph {n} on the library and its rooms, large and many.</p>" for n in range(3)
)
HOURS = "<table><tr><th>Day<th>Opens<tr><td>Monday<td>9:00</table>"
WORD = (
    'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
    'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
)


def read(folder: Path, name: str, data: str | bytes) -> str:
    file = folder / name
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    return parse_file(file, max_bytes=1 << 30).text


@pytest.mark.parametrize(
    ("markup", "kept"),
    [
        (f"<h1>The library</h1>{LONG}<h2>Opening hours</h2>{HOURS}", "| Monday | 9:00 |"),
        (f"<h1>The library</h1>{HOURS}{LONG}", "| Monday | 9:00 |"),
        (f"<h1>The library</h1>{LONG}<h2>Hours</h2><ul><li>Mon 9-17<li>Sun 10-12</ul>", "- Sun 10-12"),
        (f"<h1>The library</h1>{LONG}<p>PIN: 4711</p>", "PIN: 4711"),
    ],
)
def test_short_blocks_at_the_edge_of_an_article_stay(tmp_path: Path, markup: str, kept: str) -> None:
    assert kept in read(tmp_path, "a.html", f"<html><body>{markup}</body></html>")


def test_a_menu_at_the_edge_of_an_article_goes(tmp_path: Path) -> None:
    menu = "<ul><li><a href=/a>Home</a><li><a href=/b>Shop</a></ul>"
    text = read(tmp_path, "a.html", f"<html><body>{menu}<h1>The library</h1>{LONG}{menu}</body></html>")
    assert "Home" not in text
    assert "paragraph 2" in text


def test_headings_that_fold_warnings_and_who_said_it_are_read(tmp_path: Path) -> None:
    text = read(
        tmp_path,
        "a.html",
        "<h2><button>What does a card cost?</button></h2><p>It costs ten euros a year for everybody.</p>"
        '<div role="alert">Never open the valve above 5 bar.</div>'
        "<blockquote>To be or not to be.<footer>William Shakespeare</footer></blockquote>"
        f"<button>Buy now</button>{LONG}<footer>Imprint</footer>",
    )
    assert text.startswith("What does a card cost?\n\n")
    assert "Never open the valve above 5 bar." in text
    assert "William Shakespeare" in text
    assert "Buy now" not in text
    assert "Imprint" not in text


def test_table_cells_over_rows_and_columns_with_lists_and_hidden_ones(tmp_path: Path) -> None:
    text = read(
        tmp_path,
        "a.html",
        "<table><tr><th rowspan=2 colspan=2>Region<th colspan=2>2023<tr><th>Q1<th>Q2"
        "<tr><td>North<td><ul><li>A<li>B</ul><td>10<td>20"
        '<tr style="display:none"><td>secret<td>x<td>1<td>2</table>',
    )
    assert text.splitlines() == [
        "| Region |  | 2023 |  |",
        "| --- | --- | --- | --- |",
        "| Region |  | Q1 | Q2 |",
        "| North | A B | 10 | 20 |",
    ]


def test_raised_digits_do_not_melt_into_a_number(tmp_path: Path) -> None:
    text = read(
        tmp_path,
        "a.html",
        "<p>It makes 10<sup>6</sup> units on 5 m<sup>2</sup> for 20<sup>1</sup> EUR.</p>"
        "<table><tr><th>a<th>b<tr><td>2<sup>10</sup><td>H<sub>2</sub>O</table>",
    )
    assert "10⁶ units on 5 m² for 20¹ EUR" in text
    assert "| 2¹⁰ | H2O |" in text


@pytest.mark.parametrize(
    ("name", "data", "rows"),
    [
        (
            "a.csv",
            'Datum;Betrag;Text\n01.02.2024;1.234,50;"Miete; Februar"\n02.02.2024;-5,00;Brot\n',
            ["| 01.02.2024 | 1.234,50 | Miete; Februar |", "| 02.02.2024 | -5,00 | Brot |"],
        ),
        (
            "b.csv",
            'id,name,tags\n1,"Doe, John",a;b\n2,"Roe, Jane",c;d\n3,Smith,e;f\n',
            ["| 2 | Roe, Jane | c;d |", "| 3 | Smith | e;f |"],
        ),
        ("c.csv", "sep=;\nName;Preis\nA;1,5\n", ["| Name | Preis |", "| A | 1,5 |"]),
        ("d.csv", "id,text\n1,hello\u2028world\n", ["| 1 | hello world |"]),
        (
            "e.csv",
            "Konto;DE12\nZeitraum;Januar\n\nBuchung;Partner;Betrag\n2.1.;REWE;-12\n3.1.;Miete;-800\n",
            ["| Zeitraum | Januar |", "", "| Buchung | Partner | Betrag |", "| 2.1. | REWE | -12 |"],
        ),
        (
            "f.csv",
            "a,b,c\n1,2,3\n\n4,5,6\nTotal,,9\n",
            ["| 1 | 2 | 3 |", "| 4 | 5 | 6 |", "| Total |  | 9 |"],
        ),
    ],
)
def test_delimited_rows(tmp_path: Path, name: str, data: str, rows: list[str]) -> None:
    lines = [line for line in read(tmp_path, name, data).splitlines() if "---" not in line]
    at = lines.index(rows[0])
    assert lines[at : at + len(rows)] == rows


def test_json_values_stay_as_they_are_written(tmp_path: Path) -> None:
    written = (
        '{"phone": "111", "phone": "222", "price": 19.90, "long": 12345678901234567.89, "a": "x\u2028y"}'
    )
    file = tmp_path / "a.json"
    file.write_text(written, encoding="utf-8")
    document = parse_file(file, max_bytes=1 << 30)
    for kept in ('"phone": "111"', '"phone (2)": "222"', ": 19.90", ": 12345678901234567.89", '"x y"'):
        assert kept in document.text
    assert any("phone" in warning for warning in document.warnings)
    assert "| 19.90 |" in read(tmp_path, "b.json", '[{"a": 19.90, "b": 1}, {"a": 2.5, "b": 2}]')
    # Numbers that Python writes the same way are numbers still.
    assert json.loads(read(tmp_path, "c.json", '{"a": [1.5, 2, true]}')) == {"a": [1.5, 2, True]}


def test_mails_keep_every_part_that_says_something_else(tmp_path: Path) -> None:
    mail = EmailMessage()
    mail["Subject"], mail["From"] = "Party", "a@b.example"
    mail.set_content("<p>The party is in Hall 7.</p>", subtype="html")
    mail.make_mixed()
    mail.add_attachment("Party mailing list", disposition="inline")
    assert "Hall 7" in (text := read(tmp_path, "a.eml", mail.as_bytes()))
    assert "Party mailing list" in text
    both = EmailMessage()
    both["Subject"] = "Both"
    both.set_content("Said once.")
    both.add_alternative("<p>Said <b>twice</b>.</p>", subtype="html")
    assert "twice" not in read(tmp_path, "b.eml", both.as_bytes())


def test_a_forwarded_mail_is_read_whatever_it_is_called(tmp_path: Path) -> None:
    inner = EmailMessage()
    inner["Subject"] = "Budget"
    inner.set_content("The budget is 5000 EUR.")
    outer = EmailMessage()
    outer["Subject"] = "FW"
    outer.set_content("See below.")
    outer.add_attachment(inner, filename="Re: Budget 2024")
    assert "The budget is 5000 EUR." in read(tmp_path, "a.eml", outer.as_bytes())


def test_a_paragraph_of_a_mailbox_may_begin_with_from(tmp_path: Path) -> None:
    begin = "From ann@b.example Fri Nov 20 10:00:00 2026\nSubject: {}\n\n{}\n\n"
    text = read(
        tmp_path,
        "a.mbox",
        begin.format("One", "Hello.\n\nFrom now on the gate code is 4711.") + begin.format("Two", "Bye."),
    )
    assert "From now on the gate code is 4711." in text
    assert "Two" in text
    assert "2026" not in text


def test_numbers_of_sheets_are_written_as_shown(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    cells = [
        (1067, "00000", "01067"),
        (0.125, "[Green]0.0%;[Red]-0.0%", "12.5%"),
        (0.5, '0.0% "Rate"', "50.0%"),
        (99.9, "[$EUR] #,##0.00", "EUR 99.90"),
        (datetime.timedelta(hours=26, minutes=30), "[h]:mm", "26:30"),
        (1234.5, "0.00E+00", "1234.5"),
    ]
    sheet.append([f"column {n}" for n in range(len(cells))])
    sheet.append([value for value, _, _ in cells])
    for cell, (_, form, _) in zip(sheet[2], cells, strict=True):
        cell.number_format = form
    book.save(tmp_path / "a.xlsx")
    text = parse_file(tmp_path / "a.xlsx", max_bytes=1 << 30).text
    assert "| " + " | ".join(shown for _, _, shown in cells) + " |" in text


def test_symbols_raised_digits_and_fractions_of_a_word_document(tmp_path: Path) -> None:
    document = docx.Document()
    body = document.element.body
    for inner in (
        '<w:r><w:t xml:space="preserve">Dose </w:t><w:sym w:font="Symbol" w:char="F0B3"/>'
        '<w:t xml:space="preserve"> 5 </w:t><w:sym w:font="Symbol" w:char="F06D"/><w:t>g; box </w:t>'
        '<w:sym w:font="Wingdings" w:char="F0FE"/><w:sym w:font="Unheard" w:char="F0FE"/></w:r>',
        '<w:r><w:t>10</w:t></w:r><w:r><w:rPr><w:vertAlign w:val="superscript"/></w:rPr><w:t>6</w:t></w:r>'
        '<w:r><w:t xml:space="preserve"> units </w:t></w:r><m:oMath><m:f><m:num><m:r><m:t>1</m:t></m:r></m:num>'
        "<m:den><m:r><m:t>2</m:t></m:r></m:den></m:f></m:oMath>",
    ):
        body.insert(len(body) - 1, parse_xml(f"<w:p {WORD}>{inner}</w:p>"))
    document.save(tmp_path / "a.docx")
    text = parse_file(tmp_path / "a.docx", max_bytes=1 << 30).text
    assert "Dose ≥ 5 μg; box ☑□" in text
    assert "10⁶ units 1/2" in text


def test_a_note_on_pdf_is_no_pdf_and_a_folded_title_is_one_line(tmp_path: Path) -> None:
    text = "---\ntitle: >\n  My long\n  title\n---\n# About\n\nFiles begin with %PDF-1.7 and a number.\n"
    (tmp_path / "a.md").write_text(text, encoding="utf-8")
    document = parse_file(tmp_path / "a.md", max_bytes=1 << 30)
    assert "%PDF-1.7" in document.text
    assert document.title == "My long title"


def test_one_broken_line_of_many_is_kept_beside_the_others(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"a": 1, "b": 2}\n{"a": 3, "b": \n{"a": 5, "b": 6}\n', encoding="utf-8")
    document = parse_file(file, max_bytes=1 << 30)
    assert "| 5 | 6 |" in document.text
    assert '{"a": 3, "b":' in document.text
    assert any("no JSON" in warning and "2" in warning for warning in document.warnings)
