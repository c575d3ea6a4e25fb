"""Text in any encoding, Markdown, and the table that chooses a parser by what a file contains."""

from __future__ import annotations

import importlib
import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.errors import EmptyDocument, IngestError, ParseError, UnsupportedFormat
from ingest.parse import FORMATS, parse_file, recipe, supported
from ingest.parse.encoding import decode, looks_utf16
from ingest.parse.tidy import LONGEST_TITLE, one_line, sections_of, tidy
from ingest.types import Document

MOST = 1 << 30
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


def parse(folder: Path, name: str, content: str | bytes) -> Document:
    return parse_file(put(folder, name, content), max_bytes=MOST)


# --- the table


def test_every_row_of_the_table_can_be_loaded_and_no_suffix_is_claimed_twice() -> None:
    suffixes = [suffix for row in FORMATS for suffix in row.suffixes]
    assert len(suffixes) == len(set(suffixes)) and all(s == s.lower() and s.startswith(".") for s in suffixes)
    for row in FORMATS:
        assert callable(importlib.import_module(row.module).parse)
        written = f"{row.name}/{row.version}"
        assert recipe(f"x{row.suffixes[0].upper()}") == (f"{written}-auto" if row.has_pictures else written)
    assert supported("a/b.PDF") and not supported("a.xyz") and not supported("README")


@pytest.mark.parametrize(
    ("name", "content", "parser", "warned"),
    [
        ("page.txt", "<!-- x --> <!DOCTYPE html><p>hello", "html", "html"),
        ("page.pdf", "<html><body>hello", "html", "html"),
        ("note.docx", "hello", "text", "text"),
        ("note.unheard", "hello", "text", "text"),
        ("LICENSE", "hello", "text", "text"),
        ("page.md", "<html> is a tag; hello", "markdown", None),
        ("page.py", "<html>hello", "code", None),
        ("letter.txt", r"{\rtf1 hello}", "rtf", "rtf"),
        ("id3.txt", "ID3 tags, RIFF and GIF8: hello", "text", None),
    ],
)
def test_the_content_decides(
    tmp_path: Path, name: str, content: str, parser: str, warned: str | None
) -> None:
    document = parse(tmp_path, name, content)
    assert document.parser.partition("/")[0] == parser and "hello" in document.text
    assert [warned in warning for warning in document.warnings] == ([True] if warned else [])


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("photo.md", b"GIF89a" + bytes(100), "GIF picture"),
        ("program.txt", b"\x7fELF" + bytes(range(256)), "a program"),
        ("noise.txt", bytes(range(256)) * 8, "binary data"),
        ("drawing.svg", b"<svg><text>hello</text></svg>", "a drawing"),
        ("paper.txt", b"%!PS-Adobe-3.0 hello", "PostScript"),
        ("film.ts", b"G\x40\x00\x10" + bytes(184) * 4, "binary data"),
    ],
)
def test_what_is_not_read_is_refused_by_name(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    with pytest.raises(UnsupportedFormat, match=told) as caught:
        parse(tmp_path, name, content)
    assert str(caught.value).startswith(name)


def test_a_pdf_under_another_name_is_parsed_as_a_pdf(tmp_path: Path) -> None:
    pdf = (Path(__file__).parent / "samples" / "page_lost.pdf").read_bytes()
    document = parse(tmp_path, "notes.txt", b"junk before\n" + pdf)
    assert document.parser.startswith("pdf/") and len(document.pages) == 2
    assert "named .txt, but its content is pdf" in document.warnings[0]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EmptyDocument, match="0 bytes"):
        parse(tmp_path, "empty.pdf", b"")
    with pytest.raises(EmptyDocument, match="white space"):
        parse(tmp_path, "blank.md", " \n\t\r\n")
    with pytest.raises(ParseError, match="cannot be read"):
        parse_file(tmp_path / "missing.txt", max_bytes=MOST)
    with pytest.raises(ParseError, match="no regular file"):
        parse_file(tmp_path, max_bytes=MOST)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.txt")
        with pytest.raises(ParseError, match="no regular file"):  # and is not waited for
            parse_file(tmp_path / "pipe.txt", max_bytes=MOST)


def test_large_files_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.txt"
    with path.open("wb") as stream:
        stream.truncate(500 << 20)
    opened: list[Path] = []
    plain_open = Path.open

    def watched(self: Path, *args: object, **named: object) -> object:
        opened.append(self)
        return plain_open(self, *args, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", watched)
    with pytest.raises(ParseError, match=r"500\.0 MiB is over the limit of 100 MiB.*max_file_mb"):
        parse_file(path, max_bytes=100 << 20)
    assert not opened
    path.write_bytes(b"a" * 8192)
    with path.open("r+b") as stream:
        stream.truncate(500 << 20)
    with pytest.raises(ParseError, match=r"500\.0 MiB is over the limit of 64 MiB for a text file; split it"):
        parse_file(path, max_bytes=MOST)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    data=st.binary(max_size=300) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace")),
    head=st.sampled_from(
        [b"", b"PK\x03\x04", b"%PDF-1.4\n", b"<html>", b"\xff\xfe", b"---\n", OLE, b"{\\rtf1 ", b"From a\nB: c\n"]
    ),
    suffix=st.sampled_from([*{s for row in FORMATS for s in row.suffixes}, ""]),
)  # fmt: skip
def test_any_bytes_give_a_document_or_a_typed_error(
    tmp_path: Path, data: bytes, head: bytes, suffix: str
) -> None:
    try:
        document = parse(tmp_path, f"x{suffix}", head + data)
    except IngestError as error:
        assert str(error).startswith(f"x{suffix}: ") and str(tmp_path) not in str(error)
        return
    text = document.text
    assert text.strip() and "".join(text[s.char_start : s.char_end] for s in document.sections) == text
    assert tidy(text) == (text, 0)
    assert text.encode("utf-8").decode("utf-8") == text


# --- encodings

SENTENCES = {
    "de": ("Grüße aus Köln, es kostet 15 €.", ("cp1252", "utf-16-le", "utf-16-be")),
    "fr": ("Où est la bibliothèque ? L’été à Noël coûte cher, ça va déjà.", ("cp1252",)),
    "es": ("El niño comió paella y pagó. ¿Qué tal, señor?", ("cp1252",)),
    "pl": ("Zażółć gęślą jaźń. Pójdź, kińże tę chmurność w głąb flaszy!", ("cp1250",)),
    "cs": (
        "Příliš žluťoučký kůň úpěl ďábelské ódy. Dnešní ráno bylo velmi chladné a nikdo nepřišel.",
        ("cp1250",),
    ),
    "it": ("Perché la città è più bella così? Però l'età...", ("cp1252",)),
    "sv": ("Flygande bäckasiner söka hwila på mjuka tuvor, 3 m³ och 15 m².", ("cp1252",)),
    "ru": ("Съешь же ещё этих мягких французских булок, да выпей чаю.", ("cp1251", "koi8_r", "utf-16-le")),
    "el": ("Ξεσκεπάζω την ψυχοφθόρα βδελυγμία", ("cp1253",)),
    "ja": ("これは日本語のテキストです。吾輩は猫である。名前はまだ無い。", ("cp932", "euc_jp")),
    "ko": ("모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.", ("cp949",)),
    "zh": ("分布式训练技术原理：在每个设备上维护一个模型副本。", ("gb18030", "utf-16-be")),
    "zh-hant": ("新北市政府是新北市的最高行政機關，屬直轄市地方政府。", ("big5", "gb18030")),
}


@pytest.mark.parametrize(
    ("text", "encoding"),
    [(text, encoding) for text, encodings in SENTENCES.values() for encoding in encodings],
    ids=[
        f"{language}-{encoding}" for language, (_, encodings) in SENTENCES.items() for encoding in encodings
    ],
)
def test_legacy_encodings_are_told_apart(text: str, encoding: str) -> None:
    lines = "plain ASCII first\r\n" * 3 + "\n".join([text] * 3) + "\n"
    assert decode(lines.encode(encoding)).text == lines


@given(st.text(st.characters(exclude_characters="\0\ufeff"), min_size=1))
def test_unicode_is_never_guessed(text: str) -> None:
    text = text.encode("utf-8", "replace").decode("utf-8")
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        decoded = decode(text.encode(encoding))
        assert decoded.text == text and not decoded.warnings
    assert decode(text.encode("utf-8")).text == text


def test_what_is_uncertain_or_lost_is_told() -> None:
    assert "guessed from 6 bytes" in decode("äöü äöü".encode("latin-1")).warnings[0]
    mostly = decode("ein schöner Tag für große Bäume, ".encode() * 50 + b"\xff\xfe\xff broken")
    assert mostly.encoding == "utf-8" and "3 byte sequences are no UTF-8" in mostly.warnings[0]
    cut = decode("在每个设备上维护一个模型副本".encode()[:-1])
    assert cut.encoding == "utf-8" and cut.text == "在每个设备上维护一个模型副\ufffd" and cut.warnings
    assert looks_utf16(b"a log of a program\nwith a stray\0 zero") is None
    assert "no utf-16-le" in decode("abc".encode("utf-16")[:-1]).warnings[0]


def test_a_declared_encoding_is_believed_only_if_it_fits() -> None:
    assert decode("文字".encode("gbk"), "GB2312").text == "文字"
    assert decode("文字".encode(), "iso-8859-1").text == "文字"  # what it says is Latin-1 is valid UTF-8
    assert decode("日本語".encode("iso2022_jp"), "iso-2022-jp").text == "日本語"
    assert decode("naïve café".encode("cp1252"), "no-such-thing").text == "naïve café"


# --- tidying and sections


@given(st.text())
def test_tidying_keeps_every_character_of_text(text: str) -> None:
    tidied, dropped = tidy(text)
    assert tidy(tidied) == (tidied, 0)
    kept = [c for c in text if c.isalnum()]
    assert [c for c in tidied if c.isalnum()] == kept and dropped <= len(text) - len(kept)


def test_tidying_by_example() -> None:
    assert tidy("\ufeffa\r\nb\rc\fd\u2028e\0f\ud800g\x85h\ufffei") == ("a\nb\nc\nd\nefg\nhi", 3)
    assert tidy("e\u0301 ﬁ ½ \u200d \t") == ("e\u0301 ﬁ ½ \u200d \t", 0)  # no normal form is imposed
    assert one_line(" a\n\tb ") == "a b" and len(one_line("x" * 999)) == LONGEST_TITLE


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 6), st.sampled_from("abc"))), st.integers(50, 60)
)
def test_sections_cover_the_text_and_nest(headings: list[tuple[int, int, str]], length: int) -> None:
    headings.sort(key=lambda h: h[0])
    sections = sections_of(headings, length)
    assert [s.char_start for s in sections][:1] == [0] and sections[-1].char_end == length
    assert all(a.char_end == b.char_start for a, b in pairwise(sections))
    for section in sections:
        path: list[tuple[int, str]] = []
        for _, level, title in (h for h in headings if h[0] <= section.char_start):
            path = [*(p for p in path if p[0] < level), (level, title)]
        if section.char_start not in [h[0] for h in headings] or section.heading_path:
            assert section.heading_path == tuple(title for _, title in path)


# --- Markdown

NO_HEADINGS = [
    "words\nmore words",
    "#no heading",
    "\\# no heading",
    "    # code",
    "```\n# comment\n---\n```",
    "~~~sh\n## x\n~~~",
    "> # quoted",
    "- # item",
    "| a | b |\n| --- | --- |\n| # | 1 |",
    "<!--\n# hidden\n-->",
]
BLOCKS = st.one_of(
    st.tuples(st.just("heading"), st.integers(1, 6), st.sampled_from(["Start", "次の章", "C# and `#tags`"])),
    st.tuples(st.just("setext"), st.integers(1, 2), st.sampled_from(["Under", "line"])),
    st.tuples(st.just("text"), st.just(0), st.sampled_from(NO_HEADINGS)),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(blocks=st.lists(BLOCKS, min_size=1, max_size=12), matter=st.booleans())
def test_markdown_headings_are_those_that_were_written(
    tmp_path: Path, blocks: list[tuple[str, int, str]], matter: bool
) -> None:
    text = "---\ntitle: The Title\nauthor: 'Ada'\n---\n\n" if matter else ""
    expected: list[tuple[int, int, str]] = []
    for kind, level, content in blocks:
        if kind == "heading":
            expected.append((len(text), level, content.replace("`", "")))
            text += "#" * level + f" {content} ##\n\n"
        elif kind == "setext":
            expected.append((len(text), level, content))
            text += f"{content}\n{'=-'[level - 1] * 3}\n\n"
        else:
            text += content + "\n\n"
    document = parse(tmp_path, "x.md", text)
    assert document.text == text
    assert document.sections == sections_of(expected, len(text))
    tops = [title for _, level, title in expected if level == 1]
    assert document.title == ("The Title" if matter else tops[0] if tops else "x")
    assert document.metadata.get("author") == ("Ada" if matter else None)


@pytest.mark.parametrize(
    ("matter", "fields"),
    [
        (
            "tags:\n  - law\n  - tax\nauthor:\n- Li, Wei\n- Bo\n",
            {"tags": "law, tax", "author": "Li, Wei; Bo"},
        ),
        (
            "date: 2026-11-22\ndraft: no\naliases: []\nnested:\n  a: 1\n",
            {"date": "2026-11-22", "draft": "no"},
        ),
        ("title: Lore: a tale\ntags: [a, b]\n", {"title": "Lore: a tale", "tags": "[a, b]"}),  # no YAML
        ("作者: 李伟\n", {"作者": "李伟"}),
        ("a: &a [x, x]\nb: [*a, *a]\n", {"a": "x, x"}),
        ("[" * 60_000 + "\n", {}),
    ],
)
def test_front_matter_as_notes_have_it(tmp_path: Path, matter: str, fields: dict[str, str]) -> None:
    document = parse(tmp_path, "x.md", f"---\n{matter}---\n\ntext\n")
    assert {key: text for key, text in document.metadata.items() if key != "encoding"} == fields


def test_markdown_marks_are_not_part_of_a_heading_path(tmp_path: Path) -> None:
    document = parse(
        tmp_path, "x.md", "# A **bold** [link](http://x) ![picture](y.png) `code` &amp; *more*\r\ntext\r\n"
    )
    assert document.title == "A bold link picture code & more"
    assert document.text.endswith("*more*\ntext\n")


def test_source_code_is_text_of_the_kind_code(tmp_path: Path) -> None:
    (section,) = parse(tmp_path, "x.py", "def f():\n    return 1\n").sections
    assert section.kind == "code"
    assert parse(tmp_path, "x.csv", "a,b\n1,2\n").sections[0].kind == "table"
    assert parse(tmp_path, "x.yml", "a: b\n").sections[0].kind == "text"
