"""The span reader, its calibrator and who chooses sentences by it, loaded when the first question needs them.

Where the encoder that the reader was trained on is not installed, there is none: quoting goes by the best
sentence, and the log says once why.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from ingest.scripts import script
from ingest.types import Hit, heading_prefix
from model.errors import ModelError
from model.spans.reader import SpanReader, SpanReading
from service.choosing.chooser import Chooser
from service.reading.calibration import Calibrator
from service.sentences import split
from service.spans.candidates import FEATURES, HEARD

SHIPPED = Path(__file__).with_name("calibrator.json")

logger = logging.getLogger(__name__)


class Quoter:
    """Reads passages for spans. Safe from several threads."""

    def __init__(
        self,
        load: Callable[[], SpanReader],
        calibrator: Calibrator | None = None,
        chooser: Chooser | None = None,
    ) -> None:
        """Prepare.

        Args:
            load: the reader; called once, when it is first needed. May raise ModelError.
            calibrator: of what it finds; the shipped one by default.
            chooser: of sentences, by what the reader thinks of them and much else; none by default.
        """
        self._load = load
        self.chooser = chooser
        self.calibrator = calibrator or Calibrator.load(SHIPPED, features=FEATURES)
        self._lock = threading.Lock()
        self._reader: SpanReader | None = None
        self._failed = False

    @property
    def reader(self) -> SpanReader | None:
        """The reader; None where it cannot be had."""
        with self._lock:
            if self._reader is None and not self._failed:
                try:
                    self._reader = self._load()
                except ModelError as error:
                    self._failed = True
                    logger.warning("quoting by the best sentence, without the span reader: %s", error)
            return self._reader

    def reads(self, question: str) -> SpanReader | None:
        """The reader, if it was trained on questions in this script: else the best sentence is better."""
        found = self.reader
        if found is None or not found.scripts or script(question) in found.scripts:
            return found
        return None


def read(
    reader: SpanReader, question: str, hits: Sequence[Hit], cancel: threading.Event | None = None
) -> list[SpanReading]:
    """What each passage says, below its title and heading path: the likeliest span of some of its sentences.

    Start and end are judged apart: unless it is held to a sentence, a span may reach from one into another.

    Raises:
        Cancelled: the question was withdrawn.
    """
    passages = [(hit.text, heading_prefix(hit.title, hit.heading_path)) for hit in hits]
    sentences = [[(s.start, s.end) for s in split(hit.text) if s.kind != "heading"] for hit in hits]
    stopped = cancel.is_set if cancel is not None else bool
    return reader.read(question, passages, best=HEARD, within=sentences, cancelled=stopped)
