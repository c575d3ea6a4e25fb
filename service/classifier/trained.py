"""Texts to labels by a trained head on one of our own models."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.classifier.classify import Outcome, Result
from service.classifier.examples import clean
from service.classifier.shelf import Trained
from service.errors import InvalidRequest
from service.generators import Generator, Scores

if TYPE_CHECKING:
    from model.heads.reader import HeadReader

NOTE = "not asked: a trained head reads the text"


@dataclass(frozen=True, slots=True)
class WantedOfTrained:
    """A request to a trained classifier, checked."""

    texts: tuple[str, ...]
    trained: Trained
    abstain_below: float = 0.0


class TrainedClassifying:
    """Keeps the reader that was asked last: it shares its base's weights, and adds a block or an adapter."""

    def __init__(self) -> None:
        self._latest: tuple[tuple[str, str, int], HeadReader] | None = None
        self._lock = threading.Lock()

    def classify(
        self, wanted: WantedOfTrained, generator: Callable[[], Generator], cancel: threading.Event
    ) -> Outcome:
        """Label every text; an empty one abstains.

        Raises:
            Cancelled: `cancel` was set.
            WeightsMissing: its base is not installed.
            ModelError: its base was replaced, or its folder is damaged.
        """
        model = generator()
        if not isinstance(model, Scores):
            raise InvalidRequest(f"{model.name} cannot carry a trained classifier; leave out model")
        reader = self._reader(wanted.trained, model)
        labels = wanted.trained.described.labels
        texts = [clean(text) for text in wanted.texts]
        there = [text for text in texts if text]
        said = iter(reader.texts(there, cancel).softmax(1).tolist() if there else ())
        results = []
        for text in texts:
            if not text:
                share = dict.fromkeys(labels, 1 / len(labels))
                results.append(Result(None, share, True, {}, ("the text is empty",)))
                continue
            pairs = sorted(zip(labels, next(said), strict=True), key=lambda pair: -pair[1])
            label, best = pairs[0]
            abstains = best < wanted.abstain_below
            cut = reader.cut(text)
            notes = (f"of {cut} tokens the first {reader.described.cutoff_len} were read",) if cut else ()
            results.append(Result(None if abstains else label, dict(pairs), abstains, notes=notes))
        return Outcome(tuple(results), model.name, NOTE, {}, None)

    def _reader(self, trained: Trained, model: Scores) -> HeadReader:
        from model.heads import folder as heads
        from model.heads.reader import HeadReader

        engine = model.engine
        key = (str(trained.folder), trained.described.run, id(engine.model))
        with self._lock:
            if self._latest is None or self._latest[0] != key:
                self._latest = None  # before the next one is in memory
                self._latest = key, HeadReader(engine.use(None), heads.read(trained.folder, engine.config))
            return self._latest[1]
