"""Build `docs/handbook.pdf`, the one PDF of the sample corpus, from the text below.

    python examples/build_handbook.py [OUTPUT]

The PDF ships in the repository; this script is here so that it can be mended and built again (needs `reportlab`, part of
the test extra). It has an outline, page numbers and a table, as the PDFs that people have do.
"""

import sys
from pathlib import Path

from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

TITLE = "The Lorebase Handbook: keeping a knowledge base for years"

CHAPTERS: list[tuple[str, list[tuple[str, str]]]] = [
    (
        "Chapter 1. Planning a knowledge base",
        [
            (
                "One collection or several",
                "Keep documents that are asked together in one collection. Use a second collection when the readers, the "
                "language or the rhythm of change differ: contracts and recipes do not belong together. A collection costs "
                "one folder on disk, so there is no reason to be stingy, but one question is answered from one collection.",
            ),
            (
                "What to put in",
                "Put in what you would show a new colleague: manuals, minutes, reports, letters, notes. Leave out what "
                "nobody may quote. Final versions are better than drafts, because two versions of one sentence make every "
                "answer about it doubtful. If drafts must stay, put them into a collection of their own.",
            ),
            (
                "Names and titles matter",
                "The title of a document and the headings above a passage are read by the search together with the passage. "
                "A file called scan0001.pdf without headings is much harder to find than one called Lease agreement 2024. "
                "Renaming a file makes it a new document, because the identity of a document is its path.",
            ),
        ],
    ),
    (
        "Chapter 2. Asking good questions",
        [
            (
                "Ask for one thing at a time",
                "A small generator answers one plain question best. Instead of asking how the heating works and who repairs "
                "it, ask two questions. Name the thing you mean: the search sees your words only, not what you looked at before.",
            ),
            (
                "Use the words of the documents",
                "If you remember a part number, a section number or an unusual word, put it into the question. The keyword "
                "arm of the search finds rare words exactly, and a rare word is worth more than ten common ones.",
            ),
            (
                "Read the citation first",
                "The answer is a reading aid; the citation is the evidence. Click the number, read the highlighted sentence, "
                "and decide yourself. If an answer has no citation, treat it as unsupported.",
            ),
        ],
    ),
    (
        "Chapter 3. Keeping it healthy",
        [
            (
                "A routine for every month",
                "Once a month, ingest the folder again with the option --sync, so that deleted files are forgotten, and then "
                "run python -m ingest verify. Both commands together take a few minutes even for a large folder, because "
                "unchanged files are skipped.",
            ),
            (
                "Backups",
                "Back up the data folder .lorebase together with your documents while no ingest is running. The collection "
                "folder alone is enough to answer questions, since it contains the whole text; the original files are only "
                "needed to ingest again.",
            ),
            (
                "What a power cut can do",
                "Each document is written in one SQLite transaction with write-ahead logging and full synchronisation. After "
                "a power cut every document is either completely there in its old version or completely there in its new "
                "one. Run the same ingest command again, and it continues where it stopped.",
            ),
        ],
    ),
]

SIZES = [
    ["Documents", "Passages, about", "Disk, about", "First ingest on two cores"],
    ["10 reports", "500", "2 MB", "under one minute"],
    ["200 reports", "10,000", "40 MB", "about ten minutes"],
    ["2,000 reports", "100,000", "400 MB", "about an hour and a half"],
]


class Outlined(SimpleDocTemplate):
    """Adds a PDF outline entry for each heading."""

    def afterFlowable(self, flowable: object) -> None:
        """Called by reportlab after each flowable was placed."""
        style = getattr(getattr(flowable, "style", None), "name", "")
        if style in ("Heading1", "Heading2"):
            text = flowable.getPlainText()  # type: ignore[attr-defined]
            key = f"{self.page}-{text}"
            self.canv.bookmarkPage(key)
            self.canv.addOutlineEntry(text, key, level=int(style[-1]) - 1)


def footer(canvas: Canvas, document: SimpleDocTemplate) -> None:
    canvas.setFont("Helvetica", 8)
    canvas.drawCentredString(A4[0] / 2, 12 * mm, str(document.page))


def build(output: Path) -> None:
    styles = getSampleStyleSheet()
    body = ParagraphStyle("Body", parent=styles["BodyText"], fontSize=11, leading=16, spaceAfter=8)
    story: list[object] = [
        Spacer(1, 60 * mm),
        Paragraph(TITLE, styles["Title"]),
        Paragraph("How to plan a collection, ask good questions, and keep the index healthy.", body),
        PageBreak(),
    ]
    for title, sections in CHAPTERS:
        story.append(Paragraph(title, styles["Heading1"]))
        for heading, text in sections:
            story += [Paragraph(heading, styles["Heading2"]), Paragraph(text, body)]
        story.append(PageBreak())
    story += [
        Paragraph("Chapter 4. Sizes to expect", styles["Heading1"]),
        Paragraph(
            "The table shows what to expect from reports of about 20 pages each, with the default embedder on two processor "
            "cores. The figures are estimates from a rate of 20 passages a second and 4 kilobytes a passage.",
            body,
        ),
        Table(
            SIZES,
            style=TableStyle(
                [("GRID", (0, 0), (-1, -1), 0.5, "black"), ("FONTNAME", (0, 0), (-1, 0), "Helvetica-Bold")]
            ),
        ),
        Spacer(1, 6 * mm),
        Paragraph(
            "Search stays exact up to 100,000 passages. The first question after a start is slower than the next ones, "
            "because the models are loaded and the vectors are read into memory.",
            body,
        ),
    ]
    pdf = Outlined(str(output), pagesize=A4, title=TITLE, author="The Lorebase founders", invariant=1)
    pdf.build(story, onFirstPage=footer, onLaterPages=footer)


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "docs" / "handbook.pdf")
