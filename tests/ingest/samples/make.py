"""Writes the samples beside it: `python tests/ingest/samples/make.py`. They are committed, so that a test
needs nothing.

- `trailer_without_root.pdf`: two pages whose trailer has lost its /Root (a broken save). pdfium cannot open
  it, pypdf can.
- `hole_in_page_tree.pdf`: the page tree names an object that is not there; pdfium cannot load the first page.
- `page_lost.pdf`: objects without `endobj`; pdfium opens it and finds the second page empty.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from reportlab.pdfgen.canvas import Canvas

HERE = Path(__file__).resolve().parent


def two_pages() -> bytes:
    """A sound PDF of two pages."""
    stream = io.BytesIO()
    canvas = Canvas(stream, invariant=1, pageCompression=0)
    canvas.setTitle("Harbour report")
    for line in ("The lighthouse was built in 1871.", "The ferry leaves at nine."):
        canvas.drawString(72, 720, line)
        canvas.showPage()
    canvas.save()
    return stream.getvalue()


def main() -> None:
    """Write all samples."""
    sound = two_pages()
    (HERE / "trailer_without_root.pdf").write_bytes(re.sub(rb"/Root \d+ 0 R\n", b"", sound))
    (HERE / "hole_in_page_tree.pdf").write_bytes(sound.replace(b"/Kids [", b"/Kids [ 99 0 R"))
    (HERE / "page_lost.pdf").write_bytes(sound.replace(b"endobj\n", b""))


if __name__ == "__main__":
    main()
