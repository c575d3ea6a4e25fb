"""Text off pictures, by PP-OCRv6 through rapidocr: English and Chinese, on the CPU, without a network.

The models are in rapidocr's own wheel; nothing is fetched. One engine serves a process, with one thread:
there are as many parser processes as the user wants. A picture is scaled to at most `LONGEST_SIDE`, so that
time and memory have a bound whatever its size.
"""

from __future__ import annotations

import functools
import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ingest.errors import ParseError
from ingest.parse.source import Source

LONGEST_SIDE = 2_000  #: pixels; an A4 page at 170 dpi
MOST_PIXELS = 3_000_000  #: what the engine needs grows with the area
MOST_PAGES = 500  #: of one file
MOST_SECONDS = 1_800.0  #: of one file
LEAST_SCORE = 0.5
_ENGINE = "EngineConfig.onnxruntime"


@dataclass(slots=True)
class Budget:
    """How much of a file may still be read by OCR."""

    source: Source
    pages: int = MOST_PAGES
    ends: float = field(default_factory=lambda: time.monotonic() + MOST_SECONDS)

    def take(self) -> bool:
        """Whether one more page may be read; tells whoever watches the deadline that work goes on."""
        if self.pages <= 0 or time.monotonic() > self.ends:
            return False
        self.pages -= 1
        self.source.alive()
        return True


def scale_for(width: float, height: float) -> float:
    """What a picture must be scaled by to fit the engine; at most 1."""
    longest = LONGEST_SIDE / max(1.0, width, height)
    return min(1.0, longest, math.sqrt(MOST_PIXELS / max(1.0, width * height)))


@functools.cache
def _engine() -> Any:
    from rapidocr import RapidOCR  # seconds to import, and most files need none of it

    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.text_score": LEAST_SCORE,
            "Global.max_side_len": LONGEST_SIDE,
            f"{_ENGINE}.intra_op_num_threads": 1,
            f"{_ENGINE}.inter_op_num_threads": 1,
        }
    )


def read_picture(pixels: np.ndarray) -> str:
    """The text in a picture, line by line from the top; "" where there is none.

    Args:
        pixels: (height, width, 3) uint8, blue first, as OpenCV has it.

    Raises:
        ParseError: the engine failed; the message does not name the file.
    """
    # The detector enlarges a picture until its shorter side is long enough, which tears the letters of a
    # strip apart; below it and beside it, white does no harm.
    height, width = pixels.shape[:2]
    missing = (max(0, width // 2 - height), max(0, height // 2 - width))
    if any(missing):
        pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), constant_values=255)
    try:
        found = _engine()(pixels)
    except MemoryError:
        raise
    except Exception as error:  # its libraries raise many types, also for want of memory
        raise ParseError(
            f"OCR failed ({type(error).__name__}); it may need more memory (setting parse_memory_mb)"
        ) from error
    if found.boxes is None or not found.txts:
        return ""
    return lines_of(
        [(text, np.asarray(box)) for text, box in zip(found.txts, found.boxes, strict=True) if text.strip()]
    )


def lines_of(found: list[tuple[str, np.ndarray]]) -> str:
    """Words and lines put together: side by side on one line, a wide gap between lines is a blank line.

    Args:
        found: text and its four corners, (4, 2) in pixels, in reading order.
    """
    written = ""
    before: tuple[float, float, float] | None = None  # top, bottom, right of the line so far
    for text, box in found:
        left, top = (float(value) for value in box.min(axis=0))
        right, bottom = (float(value) for value in box.max(axis=0))
        height = bottom - top
        if before is None:
            written = text.strip()
        elif abs((top + bottom) - (before[0] + before[1])) < height and left >= before[2] - height / 2:
            written += " " + text.strip()
            before = (min(top, before[0]), max(bottom, before[1]), right)
            continue
        else:
            written += ("\n\n" if top - before[1] > 1.2 * height else "\n") + text.strip()
        before = (top, bottom, right)
    return written
