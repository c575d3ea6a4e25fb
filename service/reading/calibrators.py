"""Which calibrator speaks: the collection's own where it fits, else a shipped one.

Three come with the package: one for the generator with the span reader beside it (`reading.second`), one for
the same readers and questions as people type them, in small letters and without a mark, of which a passage
seems to tell less often than it does, and one for the generator alone, where the encoder that the span reader
needs is not installed.

A collection's own lies in its folder (`calibrator.json`, made by `python -m service calibrate`) and belongs
to what it was fitted on: the weights and the adapter that read, and the embedder that searched. With another
of these its probabilities would mean nothing, so the shipped one speaks, and the reply, `/readyz` and the log
say why. A file that is made or removed while the service runs counts from the next question on.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from service.errors import ServiceError
from service.reading.calibration import ALONE, SHIPPED, TYPED, Calibrator
from service.reading.select import FEATURES

logger = logging.getLogger(__name__)

FILE = "calibrator.json"
_LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True, slots=True)
class Speaking:
    """The calibrator of a reply."""

    calibrator: Calibrator
    note: str | None = None  #: why it is not the one that one might expect


class Calibrators:
    """The shipped calibrator and those of collections. Any thread may use it."""

    def __init__(
        self, folder_of: Callable[[str], Path] | None = None, shipped: Calibrator | None = None
    ) -> None:
        """Look for collections' own ones in `folder_of(collection)`; without it there are none."""
        self.shipped = shipped or Calibrator.load(SHIPPED, features=FEATURES)
        self._alone = self.shipped if shipped else Calibrator.load(ALONE, features=FEATURES)
        self._typed = self.shipped if shipped else Calibrator.load(TYPED, features=FEATURES)
        self._folder_of = folder_of
        self._read: dict[Path, tuple[tuple[int, int], Calibrator | ServiceError]] = {}
        self._notes: dict[str, str] = {}
        self._lock = threading.Lock()

    @property
    def notes(self) -> list[str]:
        """What was noticed about collections' calibrators, as it stands now."""
        return [note for _, note in sorted(self._notes.items())]

    def all_of(self, collection: str) -> tuple[Calibrator, ...]:
        """All that may speak for a collection: the shipped ones, and its own where that can be read."""
        with self._lock:
            own = self._own(collection)
        shipped = (self.shipped, self._alone, self._typed)
        return (*shipped, own) if isinstance(own, Calibrator) else shipped

    def of(
        self,
        collection: str,
        question: str,
        reader: str,
        embedder: str | None,
        others: Collection[str] = (),
    ) -> Speaking:
        """The calibrator for a question to a collection.

        Args:
            collection: its name.
            question: as it is read; a collection's own calibrator is for those of any form.
            reader: fingerprint of what reads (`PassageReader.fingerprint`).
            embedder: that of the collection; None where passages come from elsewhere.
            others: fingerprints of what reads other kinds of questions here. That a collection's own
                calibrator was made for one of these is no mistake; for this question a shipped one speaks.
        """
        with self._lock:
            own = None if embedder is None else self._own(collection)
            if isinstance(own, Calibrator) and own.made_for.get("reader") in set(others) - {reader}:
                own = None
            speaking = self._judge(collection, question, own, {"reader": reader, "embedder": embedder or ""})
            if speaking.note is None:
                self._notes.pop(collection, None)
            elif self._notes.get(collection) != speaking.note:
                self._notes[collection] = speaking.note
                logger.warning("%s", speaking.note)
            return speaking

    def shipped_for(self, reader: str, question: str = "") -> Calibrator:
        """The shipped calibrator that was fitted on this reader; for others the one for both readers."""
        if is_typed(question) and self._typed.made_for.get("reader") == reader:
            return self._typed
        return self._alone if self._alone.made_for.get("reader") == reader else self.shipped

    def _judge(
        self, collection: str, question: str, own: Calibrator | ServiceError | None, here: dict[str, str]
    ) -> Speaking:
        again = f"Make a new one: python -m service calibrate --collection {collection}"
        shipped = self.shipped_for(here["reader"], question)
        if isinstance(own, ServiceError):
            return Speaking(
                shipped,
                f"the calibrator of the collection {collection!r} is damaged or of another version, so the "
                f"shipped one speaks. {again}",
            )
        if own is not None:
            other = [what for what, which in here.items() if own.made_for.get(what) != which]
            if not other:
                return Speaking(own)
            return Speaking(
                shipped,
                f"the collection {collection!r} has a calibrator that was made for another "
                f"{' and another '.join(other)}, so the shipped one speaks. {again}",
            )
        if shipped.made_for.get("reader", here["reader"]) != here["reader"]:
            return Speaking(
                shipped,
                "the shipped calibrator was fitted on another reader than the one that reads here; its "
                f"probabilities are rough. {again}",
            )
        return Speaking(shipped)

    def _own(self, collection: str) -> Calibrator | ServiceError | None:
        """The collection's own, read again where its file has changed; the error where it cannot be read."""
        if self._folder_of is None:
            return None
        file = self._folder_of(collection) / FILE
        try:
            found = file.stat()
        except OSError:
            self._read.pop(file, None)
            return None
        version = (found.st_mtime_ns, found.st_size)
        if file not in self._read or self._read[file][0] != version:
            try:
                self._read[file] = version, Calibrator.load(file, features=FEATURES)
            except ServiceError as error:
                logger.warning("%s", error)
                self._read[file] = version, error
        return self._read[file][1]


def is_typed(question: str) -> bool:
    """Whether a question looks typed into a search field: it begins small and ends without a mark.

    Scripts without small letters have no such form.
    """
    text = question.strip()
    first = _LETTER.search(text)
    return first is not None and first[0].islower() and not text.endswith(("?", "？"))
