"""HTML: structure, what is left out, encodings, and pages made to do harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.errors import EmptyDocument, ParseError
from ingest.parse import parse_file
from ingest.types import Document

ARTICLE = "".join(
    f"<p>Sentence {n} tells at some length what happened in the harbour on day {n}.</p>" for n in range(12)
)
MENU = "".join(f"<li><a href=/{n}>Menu entry number {n}</a></li>" for n in range(30))


def parse(folder: Path, markup: str | bytes) -> Document:
    path = folder / "page.html"
    path.write_bytes(markup.encode() if isinstance(markup, str) else markup)
    return parse_file(path, max_bytes=1 << 30)


def test_structure(tmp_path: Path) -> None:
    document = parse(
        tmp_path,
        """<!doctype html><html lang=en><head><title>Harbour - Site</title>
        <meta name=author content="Ada L."></head><body>
        <h1>Harbour</h1><p>First <b>para</b>graph,<br>second
        line.</p><ul><li>rope<ul><li>thin</li></ul></li><li><p>chain</p></li></ul>
        <ol start=3><li>three<li>four</ol>
        <h2>Fees</h2><table><caption>Prices</caption><tr><th>Length<th>Fee</tr>
        <tr><td rowspan=2>10&nbsp;m<td>5|6</tr><tr><td>7</tr><tr><td colspan=2>all</tr></table>
        <h3>Code</h3><pre>if x:
    return  1</pre><dl><dt>Term<dd>Meaning</dl></body></html>""",
    )
    assert document.text == (
        "Harbour\n\nFirst paragraph,\nsecond line.\n\n- rope\n  - thin\n- chain\n3. three\n4. four\n\n"
        "Fees\n\nPrices\n\n| Length | Fee |\n| --- | --- |\n| 10 m | 5\\|6 |\n| 10 m | 7 |\n| all |  |\n\n"
        "Code\n\nif x:\n    return  1\n\nTerm\n\nMeaning"
    )
    assert document.title == "Harbour"
    assert document.metadata["author"] == "Ada L." and document.metadata["language"] == "en"
    assert [s.heading_path for s in document.sections] == [
        ("Harbour",),
        ("Harbour", "Fees"),
        ("Harbour", "Fees", "Code"),
    ]


@pytest.mark.parametrize(
    "frame",
    [
        f"<nav><ul>{MENU}</ul></nav><main><h1>Harbour</h1>{{}}</main><footer>Imprint here</footer>",
        f"<div id=m><ul>{MENU}</ul></div><div><h1>Harbour</h1>{{}}</div><div><p>Imprint here</p></div>",
        f"<h1>Harbour</h1><div hidden>Imprint here</div>{{}}<div role=navigation>{MENU}</div>",
    ],
    ids=["declared", "divs", "roles"],
)
def test_menus_and_footers_do_not_drown_the_article(tmp_path: Path, frame: str) -> None:
    table = "<table><tr><th>Pier</th><th>Depth</th></tr><tr><td>North</td><td>4 m</td></tr></table>"
    text = parse(tmp_path, "<html><body>" + frame.format(ARTICLE + table + ARTICLE)).text
    assert text.startswith("Harbour\n\nSentence 0")
    assert text.count("what happened in the harbour") == 24
    assert "| North | 4 m |" in text
    assert "Menu entry" not in text and "Imprint" not in text


def test_pages_that_are_no_articles_keep_everything(tmp_path: Path) -> None:
    rows = "".join(f"<tr><td>SKU-{n}</td><td>{n} pieces</td></tr>" for n in range(40))
    text = parse(tmp_path, f"<html><body><h1>Stock</h1><table>{rows}</table><p>Counted.</p>").text
    assert all(f"| SKU-{n} | {n} pieces |" in text for n in range(40)) and "Counted." in text


def test_layout_tables_are_read_through(tmp_path: Path) -> None:
    text = parse(
        tmp_path, f"<html><body><table><tr><td><h2>Left</h2>{ARTICLE}</td><td>right</td></tr></table>"
    ).text
    assert "|" not in text and "Left\n\nSentence 0" in text and "right" in text


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ('<meta charset="gb2312">', "gbk"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=Shift_JIS">', "cp932"),
        ('<?xml version="1.0" encoding="iso-8859-1"?>', "cp1252"),
        ("", "utf-16"),
    ],
)
def test_encodings(tmp_path: Path, head: str, encoding: str) -> None:
    said = {
        "gbk": "港口在早上开放",
        "cp932": "港は朝に開きます",
        "cp1252": "Größe „quoted“",
        "utf-16": "港口 🚢",
    }[encoding]
    assert parse(tmp_path, f"{head}<html><body><p>{said}</p></body></html>".encode(encoding)).text == said


def test_nothing_to_read(tmp_path: Path) -> None:
    for markup in (
        "<html></html>",
        "<html><body><script>var x = 'text';</script><nav><p>menu</p></nav></body></html>",
    ):
        with pytest.raises(EmptyDocument, match="Nothing to ingest"):
            parse(tmp_path, markup)


def test_deep_nesting_is_told_not_lost_in_silence(tmp_path: Path) -> None:
    document = parse(tmp_path, "<html><body><p>before</p>" + "<div>" * 5000 + "inside")
    assert "before" in document.text and "read only up to line" in document.warnings[0]
    with pytest.raises(ParseError, match="read only up to line"):
        parse(tmp_path, "<html><body>" + "<div>" * 100_000 + "inside")


@pytest.mark.parametrize(
    "unit", ["<!---->", "<b", "&", "<table><tr><td>", "<a href=x>y</a>", "</p><p>", "<ul><li>", "'\""]
)
def test_hostile_markup_gives_a_document_or_a_typed_error(tmp_path: Path, unit: str) -> None:
    try:
        document = parse(tmp_path, "<html><body>" + unit * 3000)
    except (EmptyDocument, ParseError):
        return
    assert document.text.strip()
