"""Who orders the first passages anew, where somebody is set to: a cross-encoder, or our own generator.

`LikelihoodReranker` asks how likely the question is behind each passage (query likelihood; Sachan et al.
2022, arXiv 2204.07496). It needs no other model than the one that answers, and reads every passage once more.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from ingest.errors import RerankerError
from ingest.rerank import Reranker, find_reranker
from model.engine import Engine
from service.errors import UnsupportedField
from service.generators import Generator, Scores

#: In place of a cross-encoder's name: the service's own generator.
GENERATOR = "generator"
#: Of a passage and of a question, at most so many tokens are read.
PASSAGE_TOKENS, QUESTION_TOKENS = 384, 96


class LikelihoodReranker:
    """Scores passages by what a generator of our own makes of the question behind them."""

    def __init__(self, generator: Callable[[], Generator], cancel: threading.Event | None = None) -> None:
        self._generator, self._cancel = generator, cancel

    def until(self, cancel: threading.Event) -> LikelihoodReranker:
        """The same, which ends with `model.errors.Cancelled` once that is set."""
        return LikelihoodReranker(self._generator, cancel)

    def scores(self, query: str, passages: Sequence[str]) -> list[float]:
        """The geometric mean of the probabilities of the question's tokens, in [0, 1].

        Raises:
            RerankerError: the generator cannot score a given text.
        """
        generator = self._generator()
        if not isinstance(generator, Scores):
            raise RerankerError(
                f"{generator.name} cannot score a given text, so it cannot order passages. Set `reranker` to "
                "a cross-encoder, or `model` to one of our own engine."
            )
        engine = generator.engine
        question = engine.tokenizer.encode(" " + query.strip())[:QUESTION_TOKENS]
        if not question:
            return [0.0] * len(passages)
        return [self._score(engine, question, passage) for passage in passages]

    def _score(self, engine: Engine, question: list[int], passage: str) -> float:
        encode = engine.tokenizer.encode
        ids = [*encode("Passage: "), *encode(passage)[:PASSAGE_TOKENS]]
        ids += encode("\nA question that the passage answers:")
        (found,) = engine.score(ids, [question], cancel=self._cancel)
        return math.exp(sum(found) / len(found))


def until(reranker: Reranker | None, cancel: threading.Event) -> Reranker | None:
    """The reranker for one request, which ends when that is withdrawn; a cross-encoder is done sooner."""
    return reranker.until(cancel) if isinstance(reranker, LikelihoodReranker) else reranker


class Reranking:
    """What the settings say about it. Nothing is loaded before it is wanted."""

    def __init__(self, name: str, always: bool, home: Path, generator: Callable[[], Generator]) -> None:
        """Name who reranks.

        Args:
            name: a cross-encoder's name or folder, `generator`, or nothing.
            always: whether also where a request does not ask for it.
            home: the data folder, whose `models` are looked through.
            generator: the service's default one.
        """
        self._name, self._always, self._home, self._generator = name, always, home, generator
        self._lock = threading.Lock()
        self._found: Reranker | None = None

    def wanted(self, asked: bool | None) -> Reranker | None:
        """Who orders the passages of a request; None where nobody shall.

        Raises:
            UnsupportedField: it is asked for, and nobody is set to do it.
            RerankerError: who is set to do it is not installed.
        """
        if not (self._always if asked is None else asked):
            return None
        if not self._name:
            raise UnsupportedField("rerank", "nobody is set to do it; see the setting `reranker`")
        with self._lock:
            if self._found is None:
                self._found = (
                    LikelihoodReranker(self._generator)
                    if self._name == GENERATOR
                    else find_reranker(self._name, self._home)
                )
            return self._found
