"""DOCX: reading order and structure of a document made with python-docx, and containers made to do harm."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import docx
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls, qn

from ingest.errors import EmptyDocument, ParseError, PasswordRequired, UnsupportedFormat
from ingest.parse import parse_file
from ingest.parse.docx_numbering import number_as
from ingest.types import Document

NAMESPACES = (
    'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
    'xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
    'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
)


def parse(path: Path) -> Document:
    return parse_file(path, max_bytes=1 << 30)


def test_a_document_in_reading_order(tmp_path: Path) -> None:
    made = docx.Document()
    made.core_properties.title = "Harbour rules"
    made.core_properties.author = "Ada"
    made.sections[0].header.paragraphs[0].text = "HEADER"
    made.sections[0].footer.paragraphs[0].text = "FOOTER"
    made.add_paragraph("before any heading")
    made.add_heading("Mooring", 1)
    made.add_paragraph("ropes", style="List Bullet")
    made.add_paragraph("fenders", style="List Bullet")
    made.add_heading("Fees", 2)
    table = made.add_table(3, 2)
    for row, cells in enumerate([("length", "fee"), ("10 m", "5 | 6"), ("", "")]):
        for column, text in enumerate(cells):
            table.cell(row, column).text = text
    inner = table.cell(2, 1).add_table(1, 2)
    inner.cell(0, 0).text, inner.cell(0, 1).text = "nested", "cell"
    made.add_paragraph("after the table")
    made.add_heading("Fog", 1)
    made.add_paragraph("horns")
    made.save(tmp_path / "a.docx")
    document = parse(tmp_path / "a.docx")
    assert document.text == (
        "before any heading\n\nMooring\n\n- ropes\n- fenders\n\nFees\n\n"
        "| length | fee |\n| --- | --- |\n| 10 m | 5 \\| 6 |\n|  | nested, cell |\n\n"
        "after the table\n\nFog\n\nhorns"
    )
    starts = [(s.heading_path, document.text[s.char_start :].split("\n")[0]) for s in document.sections]
    assert starts == [
        ((), "before any heading"),
        (("Mooring",), "Mooring"),
        (("Mooring", "Fees"), "Fees"),
        (("Fog",), "Fog"),
    ]
    assert document.title == "Harbour rules" and document.metadata["author"] == "Ada"


def test_headings_by_localised_style_and_by_outline_level(tmp_path: Path) -> None:
    made = docx.Document()
    style = made.styles["Heading 1"].element  # what Word writes in German: another id, the same built-in name
    style.set(qn("w:styleId"), "berschrift1")
    paragraph = made.add_paragraph("Kapitel")
    paragraph._p.get_or_add_pPr().insert(0, parse_xml(f'<w:pStyle {nsdecls("w")} w:val="berschrift1"/>'))
    own = made.styles.add_style("Abschnitt", 1)
    own.element.get_or_add_pPr().append(parse_xml(f'<w:outlineLvl {nsdecls("w")} w:val="1"/>'))
    made.add_paragraph("Unterkapitel", style="Abschnitt")
    made.add_paragraph("text")
    made.save(tmp_path / "a.docx")
    assert [s.heading_path for s in parse(tmp_path / "a.docx").sections] == [
        ("Kapitel",),
        ("Kapitel", "Unterkapitel"),
    ]


def test_what_readers_see_and_nothing_else(tmp_path: Path) -> None:
    made = docx.Document()
    made.add_paragraph("start")
    body = made.element.body
    for xml in (
        "<w:sdt {ns}><w:sdtContent><w:p><w:r><w:t>content control</w:t></w:r></w:p></w:sdtContent></w:sdt>",
        "<w:p {ns}><w:ins><w:r><w:t>inserted</w:t></w:r></w:ins>"
        "<w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>"
        "<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r></w:p>",
        "<w:p {ns}><w:r><w:instrText>PAGEREF x</w:instrText></w:r>"
        "<w:hyperlink><w:r><w:t>link</w:t></w:r></w:hyperlink>"
        "<w:r><w:tab/><w:t>tab</w:t><w:br/><w:t>line</w:t></w:r>"
        "<m:oMath><m:r><m:t>x=1</m:t></m:r></m:oMath></w:p>",
        "<w:p {ns}><w:r><mc:AlternateContent><mc:Choice Requires='wps'><w:drawing><wps:txbx><w:txbxContent>"
        "<w:p><w:r><w:t>in a box</w:t><w:drawing><w:txbxContent><w:p><w:r><w:t>inner</w:t></w:r></w:p>"
        "</w:txbxContent></w:drawing></w:r></w:p></w:txbxContent></wps:txbx></w:drawing></mc:Choice><mc:Fallback><w:pict><w:txbxContent>"
        "<w:p><w:r><w:t>in a box</w:t></w:r></w:p></w:txbxContent></w:pict></mc:Fallback>"
        "</mc:AlternateContent></w:r></w:p>",
    ):
        body.insert(len(body) - 1, parse_xml(xml.replace("{ns}", NAMESPACES)))
    made.save(tmp_path / "a.docx")
    assert (
        parse(tmp_path / "a.docx").text
        == "start\n\ncontent control\n\ninserted\n\nlink\ttab\nlinex=1\n\nin a box\n\ninner"
    )


def test_merged_cells(tmp_path: Path) -> None:
    made = docx.Document()
    table = made.add_table(3, 3)
    for row in range(3):
        for column in range(3):
            table.cell(row, column).text = f"{row}{column}"
    table.cell(0, 0).merge(table.cell(0, 1)).text = "wide"
    table.cell(1, 2).merge(table.cell(2, 2)).text = "tall"
    made.save(tmp_path / "a.docx")
    assert parse(tmp_path / "a.docx").text.split("\n")[2:] == ["| 10 | 11 | tall |", "| 20 | 21 | tall |"]
    assert parse(tmp_path / "a.docx").text.startswith("| wide |  | 02 |")


def test_numbers_as_word_shows_them(tmp_path: Path) -> None:
    made = docx.Document()
    numbering = made.part.numbering_part.element
    numbering.insert(0, parse_xml(
        f'<w:abstractNum {nsdecls("w")} w:abstractNumId="900">'
        '<w:lvl w:ilvl="0"><w:start w:val="3"/><w:numFmt w:val="upperRoman"/><w:lvlText w:val="%1."/></w:lvl>'
        '<w:lvl w:ilvl="1"><w:start w:val="1"/><w:numFmt w:val="decimal"/><w:lvlText w:val="%1.%2)"/></w:lvl>'
        "</w:abstractNum>"
    ))  # fmt: skip
    numbering.append(parse_xml(f'<w:num {nsdecls("w")} w:numId="900"><w:abstractNumId w:val="900"/></w:num>'))
    for level, text in ((0, "a"), (1, "b"), (1, "c"), (0, "d"), (1, "e")):
        properties = made.add_paragraph(text)._p.get_or_add_pPr()
        properties.append(parse_xml(
            f'<w:numPr {nsdecls("w")}><w:ilvl w:val="{level}"/><w:numId w:val="900"/></w:numPr>'
        ))  # fmt: skip
    made.save(tmp_path / "a.docx")
    assert parse(tmp_path / "a.docx").text == "III. a\n  III.1) b\n  III.2) c\nIV. d\n  IV.1) e"


@pytest.mark.parametrize(
    ("value", "form", "shown"),
    [
        (28, "lowerLetter", "bb"),
        (1994, "upperRoman", "MCMXCIV"),
        (21, "chineseCounting", "二十一"),
        (7, "decimalZero", "07"),
        (12, "ordinalText", "12"),
    ],
)
def test_number_formats(value: int, form: str, shown: str) -> None:
    assert number_as(value, form) == shown


def rezip(path: Path, change: dict[str, bytes], extra: int = 0) -> Path:
    """A plain document whose parts are replaced."""
    stream = io.BytesIO()
    made = docx.Document()
    made.add_paragraph("harmless")
    made.save(stream)
    with zipfile.ZipFile(stream) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, change.get(name, old.read(name)))
        for number in range(extra):
            new.writestr(f"word/x{number}.xml", b"")
    return path


NO_RELATIONS = b'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"/>'
W_OPEN = '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>'
W_CLOSE = "</w:body></w:document>"


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    paragraphs = (W_OPEN + "<w:p/>" * 588_000 + W_CLOSE).encode()
    bombs = {
        "paragraphs": ({"word/document.xml": paragraphs}, 0),
        "times its size": ({"word/document.xml": (W_OPEN + " " * 20_000_000 + W_CLOSE).encode()}, 0),
        "entries": ({}, 10_000),
    }
    for told, (change, extra) in bombs.items():
        with pytest.raises(ParseError, match=told):
            parse(rezip(tmp_path / "bomb.docx", change, extra))


def test_a_directory_that_lies_about_sizes(tmp_path: Path) -> None:
    path = rezip(tmp_path / "lies.docx", {})
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("word/document.xml").file_size
    lied = data.replace(size.to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lied != data
    path.write_bytes(lied)
    with pytest.raises(ParseError, match="damaged"):
        parse(path)


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE x [<!ENTITY e SYSTEM "http://127.0.0.1:9/secret">]>',
        '<!DOCTYPE x [<!ENTITY a "SPILLSPILL"><!ENTITY b "'
        + "&a;" * 40
        + '"><!ENTITY c "'
        + "&b;" * 40
        + '"><!ENTITY e "'
        + "&c;" * 40
        + '">]>',
    ],
    ids=["file", "network", "bomb"],
)
def test_entities_are_inert(tmp_path: Path, doctype: str) -> None:
    xml = (
        f'<?xml version="1.0"?>{doctype}'
        + W_OPEN
        + "<w:p><w:r><w:t>before &e; after</w:t></w:r></w:p>"
        + W_CLOSE
    )
    path = rezip(tmp_path / "entity.docx", {"word/document.xml": xml.encode()})
    try:
        text = parse(path).text
    except ParseError:
        return
    assert "root:" not in text and "SPILL" not in text and text.startswith("before")


def test_damaged_encrypted_and_foreign_containers(tmp_path: Path) -> None:
    good = rezip(tmp_path / "good.docx", {})
    assert parse(good).text == "harmless"
    cut = tmp_path / "cut.docx"
    cut.write_bytes(good.read_bytes()[:-200])
    with pytest.raises(ParseError, match="ZIP"):
        parse(cut)
    with pytest.raises(ParseError, match="python-docx"):
        parse(rezip(tmp_path / "norels.docx", {"_rels/.rels": NO_RELATIONS}))
    ole = tmp_path / "secret.docx"
    ole.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le"))
    with pytest.raises(PasswordRequired, match="encrypted"):
        parse(ole)
    ole.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "WordDocument".encode("utf-16-le"))
    with pytest.raises(UnsupportedFormat, match="old Word document"):
        parse(ole)
    archive = tmp_path / "archive.docx"
    with zipfile.ZipFile(archive, "w") as container:
        container.writestr("../../escape.txt", "x")
    assert parse(archive).parser == "zip/1"  # and is no document
    empty = docx.Document()
    empty.save(tmp_path / "empty.docx")
    with pytest.raises(EmptyDocument, match="no text"):
        parse(tmp_path / "empty.docx")
