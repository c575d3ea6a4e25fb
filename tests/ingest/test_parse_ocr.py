"""OCR: which pages are read by it, what it must not do, and pictures as documents."""

from __future__ import annotations

import io
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from ingest.errors import EmptyDocument, ParseError, ParseTimeout
from ingest.parse import OcrMode, ocr, parse_file, recipe
from ingest.pipeline import ingest_path
from ingest.sandbox import ParserPool
from ingest.settings import IngestSettings
from ingest.types import Document
from tests.fakes import HashEmbedder
from tests.ingest.making import new_store

MOST = 1 << 30


def parse(path: Path, mode: OcrMode = "auto") -> Document:
    return parse_file(path, max_bytes=MOST, ocr=mode)


def printed(*lines: str, size: tuple[int, int] = (840, 240)) -> Image.Image:
    picture = Image.new("L", size, 255)
    for number, line in enumerate(lines):
        ImageDraw.Draw(picture).text(
            (30, 30 + 60 * number), line, font=ImageFont.load_default(size=36), fill=0
        )
    return picture


def mixed_pdf(path: Path) -> Path:
    """A page of text, a page that is a picture of text, a blank page."""
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(path), invariant=1)
    canvas.drawString(72, 720, "typed words")
    canvas.showPage()
    canvas.drawImage(ImageReader(printed("The scanned harbour report")), 50, 500, 420, 120)
    canvas.showPage()
    canvas.showPage()
    canvas.save()
    return path


class Reader:
    """Stands in for the engine: says what it was shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, pixels: np.ndarray) -> str:
        self.seen.append(pixels.shape)
        return f"read {len(self.seen)}"


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    made = Reader()
    monkeypatch.setattr("ingest.parse.ocr.read_picture", made)
    return made


def test_only_pages_without_a_text_layer_are_read_and_nothing_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("OCR reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    ocr._engine.cache_clear()
    document = parse(mixed_pdf(tmp_path / "x.pdf"))
    assert document.text == "typed words\n\nThe scanned harbour report"
    assert [page.number for page in document.pages] == [1, 2, 3]
    assert document.pages[1].char_start == document.text.index("The scanned")
    assert document.warnings == ("page 2 read by OCR",)


def test_modes(tmp_path: Path, reader: Reader) -> None:
    path = mixed_pdf(tmp_path / "x.pdf")
    off = parse(path, "off")
    assert not reader.seen and off.text == "typed words"
    assert off.warnings == ("page 2 has no text layer: OCR is needed",)
    assert "typed words" in parse(path).text and len(reader.seen) == 1
    assert parse(path, "force").text == "read 2\n\nread 3\n\nread 4"
    assert max(max(shape[:2]) for shape in reader.seen) <= ocr.LONGEST_SIDE
    picture = tmp_path / "x.png"
    printed("words").save(picture)
    with pytest.raises(EmptyDocument, match="OCR is off"):
        parse(picture, "off")
    modes = {recipe("x.pdf", mode) for mode in ("auto", "off", "force")}
    assert len(modes) == 3 and recipe("x.md", "off") == recipe("x.md", "auto")


def test_the_budget_ends(tmp_path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr.Budget.__init__, "__defaults__", (2, *ocr.Budget.__init__.__defaults__[1:]))
    document = parse(mixed_pdf(tmp_path / "x.pdf"), "force")
    assert len(reader.seen) == 2 and "OCR of pages 3 would take too long" in document.warnings
    frames = [printed(str(n)) for n in range(4)]
    frames[0].save(tmp_path / "x.tiff", save_all=True, append_images=frames[1:])
    scan = parse(tmp_path / "x.tiff")
    assert len(scan.pages) == 2 and "pages from 3 on were not read" in scan.warnings[0]


def test_pictures_are_upright_on_white_and_small_enough(tmp_path: Path, reader: Reader) -> None:
    turned = printed("x", size=(300, 100))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    turned.save(tmp_path / "x.jpg", exif=exif)
    parse(tmp_path / "x.jpg")
    Image.new("RGB", (6000, 3000)).save(tmp_path / "large.png")
    parse(tmp_path / "large.png")
    assert reader.seen[0] == (300, 100, 3)
    height, width, _ = reader.seen[1]
    assert max(height, width) <= ocr.LONGEST_SIDE and height * width <= ocr.MOST_PIXELS
    assert width == 2 * height
    clear = Image.new("RGBA", (50, 50), (0, 0, 0, 0))
    from ingest.parse.picture import pixels_of

    assert (pixels_of(clear) == 255).all()


def test_bombs_and_damaged_pictures(tmp_path: Path, reader: Reader) -> None:
    path = tmp_path / "x.png"
    for side, told in ((9_000, "9,000 by 9,000 pixels are over the limit"), (20_000, "exceeds limit")):
        Image.new("1", (side, side)).save(path)
        with pytest.raises(ParseError, match=told):
            parse(path)
    assert not reader.seen
    stream = io.BytesIO()
    printed("words").save(stream, "PNG")
    for cut in (30, len(stream.getvalue()) // 2):
        path.write_bytes(stream.getvalue()[:cut])
        with pytest.raises(ParseError, match=r"x\.png: (?:is|a) damaged"):
            parse(path)
    path.write_bytes(stream.getvalue())
    named = path.rename(tmp_path / "notes.txt")
    document = parse(named)
    assert document.parser == "picture/1" and "read as picture" in document.warnings[0]


def test_an_engine_that_fails_costs_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> object:
        def engine(_: object) -> None:
            raise RuntimeError("no room")

        return engine

    monkeypatch.setattr(ocr, "_engine", broken)
    document = parse(mixed_pdf(tmp_path / "x.pdf"))
    assert document.text == "typed words" and "page 2: OCR failed (RuntimeError)" in document.warnings[0]
    printed("words").save(tmp_path / "x.png")
    with pytest.raises(ParseError, match=r"x\.png: OCR failed"):
        parse(tmp_path / "x.png")


def test_lines_are_put_together() -> None:
    def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
        return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])

    found = [
        ("Our Ref.", box(0, 0, 50, 10)),
        ("350", box(60, 1, 90, 11)),
        ("next line", box(0, 15, 90, 25)),
        ("far below", box(0, 60, 90, 70)),
    ]
    assert ocr.lines_of(found) == "Our Ref. 350\nnext line\n\nfar below"


def test_a_picture_without_text_is_kept_and_not_looked_at_again(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    Image.new("L", (200, 200), 255).save(folder / "blank.png")
    (folder / "a.txt").write_text("words of a text")
    store = new_store(tmp_path)
    settings = IngestSettings(workers=1)  # type: ignore[call-arg]
    try:
        first = ingest_path([folder], store, HashEmbedder(), settings, base=tmp_path)
        assert {f.path: (f.status, f.chunks) for f in first.files} == {
            "docs/a.txt": ("added", 1),
            "docs/blank.png": ("added", 0),
        }
        assert "OCR found no text" in next(f.reason for f in first.files if f.path.endswith("png"))
        again = ingest_path([folder], store, HashEmbedder(), settings, base=tmp_path)
        assert {f.status for f in again.files} == {"unchanged"} and again.parsed == 0
        assert {d.path for d in store.documents()} == {"docs/a.txt", "docs/blank.png"}
        off = settings.model_copy(update={"ocr": "off"})
        other = ingest_path([folder], store, HashEmbedder(), off, base=tmp_path)
        assert {f.path: f.status for f in other.files} == {
            "docs/a.txt": "unchanged",
            "docs/blank.png": "failed",
        }
    finally:
        store.close()


SLOW = """
import json, sys, time
sys.path[:] = json.loads(sys.argv[1])
import ingest.parse
def slow(file, alive, **named):
    from ingest.types import Document, Section
    for _ in range(4):
        if file.stem == "lively":
            alive()
        time.sleep(0.8)
    return Document("done", "t", (Section((), 0, 4),))
ingest.parse.parse_file = slow
from ingest.sandbox import serve
serve()
"""


def test_each_page_of_ocr_has_a_deadline_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.sandbox._START", SLOW)
    for name in ("lively.png", "silent.png"):
        (tmp_path / name).write_bytes(b"x")
    with ParserPool(1, 2.0, 1024) as pool:
        assert pool.parse(tmp_path / "lively.png", max_bytes=MOST).text == "done"
        with pytest.raises(ParseTimeout):
            pool.parse(tmp_path / "silent.png", max_bytes=MOST)
