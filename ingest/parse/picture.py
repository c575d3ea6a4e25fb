"""Pictures as documents: what OCR reads in them; each frame of a TIFF is a page.

Most pictures hold no text. That is no failure: such a file is a document without text, so that it is not
looked at again before it changes.
"""

from __future__ import annotations

import warnings as python_warnings

import numpy as np
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from ingest.errors import EmptyDocument, ParseError
from ingest.parse import ocr
from ingest.parse.blocks import Block, assemble_parts
from ingest.parse.source import Source
from ingest.parse.tidy import one_line
from ingest.types import Document

MOST_PIXELS = 60_000_000
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")  #: what Pillow may try; it knows many more


def parse(source: Source) -> Document:
    """One picture.

    Raises:
        ParseError: damaged, or with more pixels than a scanned page has.
        EmptyDocument: OCR is switched off.
    """
    if source.ocr == "off":
        raise EmptyDocument(f"{source.name}: is a picture, and OCR is off. Read it with --ocr auto.")
    warnings: list[str] = []
    parts: list[list[Block]] = []
    budget = ocr.Budget(source)
    try:
        with source.open() as stream, python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")  # about sizes: they are checked here
            with Image.open(stream, formats=FORMATS) as opened:
                animated = opened.format in ("GIF", "WEBP")
                for number, frame in enumerate(ImageSequence.Iterator(opened), 1):
                    if frame.width * frame.height > MOST_PIXELS:
                        raise ParseError(
                            f"{source.name}: {frame.width:,} by {frame.height:,} pixels are over the limit "
                            f"of {MOST_PIXELS / 1e6:.0f} million. Scale it down."
                        )
                    if not budget.take():
                        warnings.append(f"pages from {number} on were not read: OCR of them takes too long")
                        break
                    parts.append([Block(ocr.read_picture(pixels_of(frame)))])
                    if animated:  # one scene, not pages
                        break
    except ParseError as error:
        told = str(error)
        raise ParseError(told if told.startswith(source.name) else f"{source.name}: {told}.") from error
    except UnidentifiedImageError as error:
        raise ParseError(f"{source.name}: is damaged, or no picture. Open and save it anew.") from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ParseError(
            f"{source.name}: a damaged or truncated picture ({str(error)[:150]}). Get the file again."
        ) from error
    text, sections, pages = assemble_parts(parts)
    warnings.append("read by OCR" if text else "OCR found no text in this picture")
    return Document(text, one_line(source.stem), sections, pages, {"pages": str(len(pages))}, tuple(warnings))


def pixels_of(frame: Image.Image) -> np.ndarray:
    """(height, width, 3) uint8, blue first, upright as its EXIF says, on white, as large as OCR takes it."""
    frame.thumbnail((2 * ocr.LONGEST_SIDE, 2 * ocr.LONGEST_SIDE))  # decodes; a JPEG at a fraction of its size
    upright = ImageOps.exif_transpose(frame)
    scale = ocr.scale_for(*upright.size)
    upright.thumbnail((max(1, int(scale * upright.width)), max(1, int(scale * upright.height))))
    if upright.mode in ("RGBA", "LA", "P", "PA"):
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    return np.ascontiguousarray(np.asarray(upright.convert("RGB"))[:, :, ::-1])
