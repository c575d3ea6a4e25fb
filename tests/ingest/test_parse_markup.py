"""reStructuredText, LaTeX, tables, JSON and source code; and parsers that come from other packages."""

from __future__ import annotations

import csv
import io
import json
from importlib.metadata import EntryPoint
from pathlib import Path

import docutils.core
import pytest
from docutils import nodes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.errors import EmptyDocument, ParseError
from ingest.parse import formats, parse_file, recipe, supported
from ingest.sandbox import ParserPool
from ingest.types import Document, Section

MOST = 1 << 30


def parse(folder: Path, name: str, content: str | bytes) -> Document:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    document = parse_file(path, max_bytes=MOST)
    assert "".join(document.text[s.char_start : s.char_end] for s in document.sections) == document.text
    return document


def paths(document: Document) -> list[tuple[str, ...]]:
    return [section.heading_path for section in document.sections]


# --- reStructuredText

RST = """\
:Author: Ada

=====
Title
=====

Sub *one*
=========

An example::

  Not a title
  ===========

.. toctree::
   :maxdepth: 2

.. include:: /etc/passwd

Deeper
------
words

Title
=====
Fact 42.
"""


def test_rst_sections_stand_where_their_titles_do(tmp_path: Path) -> None:
    document = parse(tmp_path, "x.rst", RST)
    assert document.text == RST and document.title == "Title" and document.metadata["author"] == "Ada"
    assert paths(document) == [
        (),
        ("Title",),
        ("Title", "Sub one"),
        ("Title", "Sub one", "Deeper"),
        ("Title", "Title"),
    ]
    starts = [document.text[s.char_start :].split("\n")[0] for s in document.sections]
    assert starts == [":Author: Ada", "=====", "Sub *one*", "Deeper", "Title"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from("=-~"), st.sampled_from(["Alpha", "Beta", "次の章"]), st.booleans()),
        max_size=8,
    )
)
def test_rst_titles_are_those_of_docutils(tmp_path: Path, marks: list[tuple[str, str, bool]]) -> None:
    text = "intro\n\n"
    for mark, title, over in marks:
        rule = mark * 8 + "\n"
        text += f"{rule if over else ''}{title}\n{rule}\nwords of {title}\n\n"
    options = {"report_level": 5, "halt_level": 6, "doctitle_xform": False, "_disable_config": True}
    tree = docutils.core.publish_doctree(text, settings_overrides=options)
    expected = [s.next_node(nodes.title).astext() for s in tree.findall(nodes.section)]
    assert [path[-1] for path in paths(parse(tmp_path, "x.rst", text)) if path] == expected


# --- LaTeX


def test_latex_begins_with_the_document_and_believes_no_comment(tmp_path: Path) -> None:
    body = r"""Intro $x^2$.
\section[short]{First \textbf{bold} \& $\alpha$}
Text % \section{Comment}
\begin{verbatim}
\section{Not me}
\end{verbatim}
\begin{quote}
\subsection*{Starred}
\end{quote}
The fact is 42."""
    head = r"""\documentclass{article} % \begin{document}
\title{The \emph{Great} Work}
\author{Ada Lovelace}
\begin{document}
"""
    document = parse(tmp_path, "x.tex", head + body + "\n\\end{document}\nignored")
    assert document.text == body
    assert document.title == "The Great Work" and document.metadata["author"] == "Ada Lovelace"
    assert paths(document) == [(), ("First bold & α",), ("First bold & α", "Starred")]
    piece = parse(tmp_path, "x.tex", "\\chapter{One}\nwords {unclosed \\section{Two}")
    assert piece.text.startswith("\\chapter{One}\nwords {unclosed")
    assert parse(tmp_path, "x.tex", "\\section" * 3000 + "{" * 3000).text.startswith("\\section")


# --- tables


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    rows=st.lists(
        st.lists(st.text("ab ,;|\"'\n潮", max_size=6), min_size=2, max_size=4), min_size=2, max_size=6
    ),
    sign=st.sampled_from(",;\t|"),
)
def test_every_cell_of_a_csv_is_in_its_table(tmp_path: Path, rows: list[list[str]], sign: str) -> None:
    stream = io.StringIO(newline="")
    rows = [["key", "value", "more", "last"], ["1", "2", "3", "4"], ["5", "6", "7", "8"], *rows]
    csv.writer(stream, delimiter=sign, quoting=csv.QUOTE_ALL).writerows(rows)
    document = parse(tmp_path, "x.csv", stream.getvalue())
    lines = document.text.split("\n")
    if document.warnings or document.sections[0].kind != "table":
        return  # quotes and signs that look like another dialect: it is then the text it is
    expected = [[" ".join(cell.split()) for cell in row] for row in rows if any(map(str.strip, row))]
    if lines[0].startswith("| key | value"):
        found = [line.replace("\\|", "¦") for line in (lines[0], *lines[2:])]
        assert len(found) == len(expected)
        for line, row in zip(found, expected, strict=True):
            cells = [cell.strip().replace("¦", "|") for cell in line.strip("|").split("|")]
            assert cells[: len(row)] == row[: len(cells)]


def test_tables_by_example(tmp_path: Path) -> None:
    document = parse(tmp_path, "x.csv", 'Report;;\nName;Wert;Datum\n"A; b";1,5;2024\nC;2,5;2025\n')
    assert (
        document.text
        == "Report\n\n| Name | Wert | Datum |\n| --- | --- | --- |\n| A; b | 1,5 | 2024 |\n| C | 2,5 | 2025 |"
    )
    assert document.sections == (Section((), 0, len(document.text), "table"),)
    assert parse(tmp_path, "x.csv", "only words\nin lines\n").text == "only words\nin lines\n"
    broken = parse(tmp_path, "x.csv", 'a,b\n1,"never closed\n2,3\n')
    assert broken.text.endswith("2,3\n") and "read as plain text" in broken.warnings[0]
    assert "| 潮 | 2 |" in parse(tmp_path, "x.tsv", "a\tb\n潮\t2\n".encode("utf-16")).text


# --- JSON


def test_json_reads_as_it_was_meant(tmp_path: Path) -> None:
    value = {"title": "Tides", "unit": "m", "station": {"name": "潮位站", "height": [17, 18]}, "year": 1911}
    document = parse(tmp_path, "x.json", json.dumps(value, separators=(",", ":")))
    assert json.loads(document.text) == value and "潮位站" in document.text
    assert document.title == "Tides"
    at = document.text.index("潮位站")
    (section,) = [s for s in document.sections if s.char_start <= at < s.char_end]
    assert section.heading_path == ("station",)
    year = document.text.index('"year"')
    assert next(s for s in document.sections if s.char_start <= year < s.char_end).heading_path == ()
    table = parse(tmp_path, "x.json", '[{"a": 1, "b": "x|y"}, {"a": null, "b": "z", "c": true}]')
    assert table.text == "| a | b | c |\n| --- | --- | --- |\n| 1 | x\\|y |  |\n|  | z | true |"
    lines = parse(tmp_path, "x.jsonl", '{"a": {"b": "\\u4e2d"}}\n\n[1, 2]\n')
    assert (
        lines.text == '{\n "a": {\n  "b": "中"\n }\n}\n\n[\n 1,\n 2\n]' and lines.metadata["records"] == "2"
    )


def test_what_is_no_json_stays_text(tmp_path: Path) -> None:
    commented = parse(tmp_path, "x.json", '{"a": 1, // why\n}')
    assert commented.text == '{"a": 1, // why\n}' and "no valid JSON" in commented.warnings[0]
    assert parse(tmp_path, "x.jsonl", '{"a": 1}\ncut{\n').text.endswith("cut{\n")
    assert parse(tmp_path, "x.json", "[" * 100_000).warnings
    assert "words" in parse(tmp_path, "x.json", '["\\ud800 words"]').text
    for empty in ("{}", "[[], {}]"):
        with pytest.raises(EmptyDocument):
            parse(tmp_path, "x.json", empty)


# --- source code

PYTHON = '''\
import os

@cached
def first():
    """# no heading"""
    return 1

CONSTANT = 2

class Station:
    name = "x"

    async def tide(self):
        def inner(): ...
'''


def test_python_definitions_are_sections(tmp_path: Path) -> None:
    document = parse(tmp_path, "x.py", PYTHON)
    assert document.text == PYTHON
    assert paths(document) == [(), ("first",), (), ("Station",), ("Station", "tide")]
    assert all(section.kind == "code" for section in document.sections)
    assert document.text[document.sections[1].char_start :].startswith("@cached")
    old = parse(tmp_path, "x.py", "print 'Python 2'\ndef f():\n    pass\n")
    assert paths(old) == [(), ("f",)]


@pytest.mark.parametrize(
    ("suffix", "text", "names"),
    [
        (".go", "func (s *Station) Tide() int {\n}\ntype Gauge struct {\n}\n", ["Tide", "Gauge"]),
        (".rs", "pub(crate) async fn tide() {}\nimpl Station {\n    fn x() {}\n}\n", ["tide", "Station"]),
        (".c", "static const char *name(int a,\n    int b)\n{\n  if (a) {\n  }\n}\nint tide(void);\n", ["name"]),
        (".ts", "export default class A {}\nexport const f = async (x: number): number => x;\n", ["A", "f"]),
        (".js", "const a = 1;\nlet g = function () {}\nif (x) {\n}\n", ["g"]),
        (".sql", "create or replace function tide() returns int\nCREATE TABLE IF NOT EXISTS s.gauge (\n", ["tide", "s.gauge"]),
        (".css", ".a > b,\n.c { x: y }\n@media print {\n}\n", [".c", "@media print"]),
    ],
)  # fmt: skip
def test_definitions_by_their_looks(tmp_path: Path, suffix: str, text: str, names: list[str]) -> None:
    document = parse(tmp_path, f"x{suffix}", text)
    assert document.text == text
    assert [path[-1] for path in paths(document) if path] == names


# --- parsers of other packages


def extend(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with one good row, one that shadows ours, and one that cannot be loaded."""
    (folder / "stranger.py").write_text(
        "from ingest.parse.formats import Format\n"
        "from ingest.types import Document, Section\n"
        "def parse(source):\n"
        "    text = source.read().decode()[::-1]\n"
        "    if text == 'boom': raise KeyError('lost')\n"
        "    return Document(text, source.stem, (Section((), 0, len(text)),))\n"
        "ROWS = [Format('mirror', 7, 'stranger', ('.mirror', '.log'), (), 1)]\n"
    )
    info = folder / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[lorebase.parsers]\nrows = stranger:ROWS\nbad = stranger:MISSING\n"
    )
    monkeypatch.syspath_prepend(str(folder))


@pytest.fixture
def _fresh_table() -> object:
    formats.added.cache_clear()
    formats.by_suffix.cache_clear()
    yield
    formats.added.cache_clear()
    formats.by_suffix.cache_clear()


@pytest.mark.usefixtures("_fresh_table")
def test_an_installed_package_extends_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert not supported("x.mirror")
    formats.by_suffix.cache_clear()
    formats.added.cache_clear()
    extend(tmp_path, monkeypatch)
    assert supported("x.MIRROR") and recipe("x.log") == "mirror/7" and recipe("x.txt") == "text/1"
    assert "bad (stranger:MISSING)" in caplog.text
    document = parse(tmp_path, "x.mirror", "olleh")
    assert document.text == "hello" and document.parser == "mirror/7"
    with pytest.raises(ParseError, match=r"cannot be read as mirror.*KeyError"):
        parse(tmp_path, "x.log", "moob")
    with ParserPool(1, 60, 1024) as pool:  # the worker finds it, too
        assert pool.parse(tmp_path / "x.mirror", max_bytes=MOST).text == "hello"


def test_the_group_is_the_one_that_is_documented() -> None:
    manual = Path(__file__).resolve().parents[2] / "docs" / "ingest.md"
    assert f'[project.entry-points."{formats.ENTRY_POINTS}"]' in manual.read_text(encoding="utf-8")
    assert EntryPoint("x", "y:Z", formats.ENTRY_POINTS).group == "lorebase.parsers"
