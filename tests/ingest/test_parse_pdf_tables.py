"""Tables of a PDF as Markdown: drawn cells come back in their rows and columns, and nothing else becomes one."""

from __future__ import annotations

import io
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from reportlab.lib import colors
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph, SimpleDocTemplate, Table

from ingest.chunk import split
from ingest.parse import parse_file
from ingest.types import Document

PROSE = ParagraphStyle("prose", fontName="Helvetica", fontSize=10, leading=12)
STORY = "The keeper counts the boats that pass the light, every day but Sunday. " * 6


def parsed(path: Path, content: bytes) -> Document:
    path.write_bytes(content)
    return parse_file(path, max_bytes=1 << 30, ocr="off")


def laid_out(path: Path, *flowables: object) -> Document:
    out = io.BytesIO()
    SimpleDocTemplate(out, invariant=1).build(list(flowables))
    return parsed(path, out.getvalue())


def rows_of(text: str) -> list[list[str]]:
    """The cells of the only Markdown table of a text, the line of dashes left out."""
    lines = [line for line in text.split("\n") if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert set(cells[1]) == {"---"}
    return [cells[0], *cells[2:]]


WORDS = st.sampled_from(["harbour", "light house", "ferry to the island", "boats", "north pier", "fog bell"])
FIGURES = st.sampled_from(["1,526", "(207)", "—", "18", "4.5 %", "$ 12", "-3", "100,000"])


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_drawn_figures_come_back_in_their_rows_and_columns(tmp_path_factory, data) -> None:  # type: ignore[no-untyped-def]
    columns = data.draw(st.integers(2, 5))
    rows = data.draw(
        st.lists(
            st.tuples(WORDS, st.lists(FIGURES, min_size=columns, max_size=columns)), min_size=3, max_size=9
        )
    )
    out = io.BytesIO()
    canvas = Canvas(out, invariant=1)
    canvas.setFont("Helvetica", 9)
    for column in range(columns):
        canvas.drawRightString(250 + 75 * column, 700, str(2019 + column))
    for number, (name, figures) in enumerate(rows, 1):
        canvas.drawString(72, 700 - 13 * number, name)
        for column, figure in enumerate(figures):
            canvas.drawRightString(250 + 75 * column, 700 - 13 * number, figure)
    canvas.save()
    text = parsed(tmp_path_factory.mktemp("pdf") / "drawn.pdf", out.getvalue()).text
    head = ["", *(str(2019 + column) for column in range(columns))]
    assert rows_of(text) == [head, *([name, *figures] for name, figures in rows)]


def test_a_ruled_table_with_cells_of_several_lines_between_prose(tmp_path: Path) -> None:
    grid = [
        ["Part", "What it does", "Who may open it, and who has to ask the keeper first"],
        ["Lamp", "Turns once in twelve seconds and is seen for twenty miles", "The keeper"],
        ["Fog bell", "Rings by itself", "Anybody who has climbed all of the stairs"],
        ["Clock", "Stands still", "Nobody"],
    ]
    cells = [[Paragraph(cell, PROSE) for cell in row] for row in grid]
    table = Table(cells, colWidths=[80, 150, 150], style=[("GRID", (0, 0), (-1, -1), 0.5, colors.black)])
    document = laid_out(tmp_path / "ruled.pdf", Paragraph(STORY, PROSE), table, Paragraph(STORY, PROSE))
    assert rows_of(document.text) == grid
    before, after = document.text.split("| Part")[0], document.text.split("Nobody |")[1]
    assert " ".join(before.split()) == " ".join(after.split()) == STORY.strip()


def test_a_header_over_several_columns_stands_at_the_first_of_them(tmp_path: Path) -> None:
    grid = [
        ["", "Three months ended", "", "Six months ended", ""],
        ["", "July 2023", "July 2022", "July 2023", "July 2022"],
        ["Boats", "8,890", "9,569", "17,691", "19,463"],
        ["Ferries", "20", "21", "44", "40"],
        ["Harbours", "", "", "", ""],
        ["North", "1", "1", "1", "1"],
    ]
    style = [("SPAN", (1, 0), (2, 0)), ("SPAN", (3, 0), (4, 0)), ("ALIGN", (1, 0), (-1, -1), "CENTER")]
    document = laid_out(tmp_path / "spans.pdf", Table(grid, style=style))
    assert rows_of(document.text) == [
        [
            "",
            "Three months ended July 2023",
            "July 2022",
            "Six months ended July 2023",
            "July 2022",
        ],
        *grid[2:],
    ]


def test_passages_hold_whole_rows_and_cite_them_as_stored(tmp_path: Path) -> None:
    grid = [["Harbour", "Boats", "Ferries"], *([f"Pier {n}", f"{n * 37:,}", str(n)] for n in range(1, 30))]
    document = laid_out(tmp_path / "long.pdf", Paragraph(STORY, PROSE), Table(grid))
    lines = [line for line in document.text.split("\n") if line.startswith("| Pier")]
    assert lines == [f"| Pier {n} | {n * 37:,} | {n} |" for n in range(1, 30)]
    chunks = list(
        split(
            document,
            count_tokens=lambda texts: [len(t.split()) for t in texts],
            max_tokens=96,
            overlap_tokens=0,
        )
    )
    assert len(chunks) > 3
    for line in lines:
        (holder, *_) = [chunk for chunk in chunks if line in chunk.text]
        assert document.text[holder.char_start : holder.char_end] == holder.text
        assert "| Harbour | Boats | Ferries |" in holder.embedding_text(document.title)


def test_what_only_looks_like_a_table_stays_text(tmp_path: Path) -> None:
    out = io.BytesIO()
    canvas = Canvas(out, invariant=1)
    listed = [("1.", "Climb the stairs and count them."), ("2.", "Light the lamp."), ("3.", "Ring the bell.")]
    for row, (number, item) in enumerate(listed):
        canvas.drawString(72, 700 - 14 * row, number)
        canvas.drawString(100, 700 - 14 * row, item)
    canvas.setFont("Courier", 10)
    code = ["lamp = 1        # turns", "bell = 22       # rings", "clock = 333     # stands"]
    for row, line in enumerate(code):
        canvas.drawString(72, 600 - 12 * row, line)
    canvas.save()
    text = parsed(tmp_path / "list.pdf", out.getvalue()).text
    assert "|" not in text and "2. Light the lamp.\n" in text
