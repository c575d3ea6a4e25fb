"""Embedders of another program: what those of Ollama and of OpenAI-style servers share.

The server has the weights and the tokenizer; here are the rules that hold for every embedder:

- **Nothing is dropped silently.** Tokens are counted by an estimate that errs upwards (`estimated_tokens`),
  so passages stay below the window; a server that cuts is asked not to.
- **One collection, one embedder.** `id` names the model as exactly as the server lets us, with what is put
  before texts; the length of every vector is checked.
- **Vectors are of unit length**, whatever the server sends; what is no number is an error.
- **A server that is away costs seconds.** A request that could not be delivered, or that the server failed
  on, is sent `TRIES` times with growing waits; a request that the server refuses is not repeated.
"""

from __future__ import annotations

import math
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from ingest.embed import Vectors, batches
from ingest.errors import EmbedderAway, EmbedderError

TRIES = 3
FIRST_WAIT_S = 0.5
CONNECT_TIMEOUT_S = 5.0
#: A server on a processor may take long over a batch of long passages.
READ_TIMEOUT_S = 120.0
#: How much a model is taken to read where its server does not say.
USUAL_WINDOW = 512
#: Longer windows are not used: a passage is a unit of search, not a document.
LONGEST_WINDOW = 8192

Reply = TypeVar("Reply")

#: Runs of ASCII letters, of digits, of other letters, and everything else that is no white space.
_PIECES = re.compile(r"(?P<ascii>[A-Za-z]+)|(?P<digits>[0-9]+)|(?P<letters>[^\W\d_]+)|(?P<other>[^\s])")


@dataclass(frozen=True, slots=True)
class Prefixes:
    """What a model wants before a question and before a passage."""

    query: str = ""
    passage: str = ""


#: By the beginning of the model's name without its owner, as their cards say. The first that fits holds.
KNOWN = (
    ("nomic-embed-text", Prefixes("search_query: ", "search_document: ")),
    ("mxbai-embed", Prefixes("Represent this sentence for searching relevant passages: ")),
    ("snowflake-arctic-embed2", Prefixes("query: ")),
    ("snowflake-arctic-embed", Prefixes("Represent this sentence for searching relevant passages: ")),
    ("multilingual-e5", Prefixes("query: ", "passage: ")),
    ("e5-", Prefixes("query: ", "passage: ")),
    (
        "qwen3-embedding",
        Prefixes(
            "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
        ),
    ),
)


def prefixes_of(model: str) -> Prefixes:
    """What a model of that name wants before its texts; nothing where it is not known."""
    plain = model.rsplit("/", 1)[-1].lower()
    return next((prefixes for start, prefixes in KNOWN if plain.startswith(start)), Prefixes())


def estimated_tokens(text: str) -> int:
    """Tokens of a text, as a rule too many: the tokenizer is on the other side."""
    total = 0
    for piece in _PIECES.finditer(text):
        length = piece.end() - piece.start()
        match piece.lastgroup:
            case "ascii":
                total += -(-length // 4)
            case "digits":
                total += -(-length // 2)
            case "letters":  # a character each, as word pieces cut what they do not know
                total += length
            case _:
                total += 1 if piece.group().isascii() else 2
    return 2 + math.ceil(1.1 * total)  # special tokens; a tenth for what vocabularies differ in


class ServerEmbedder(ABC):
    """One model of a server. Thread-safe where its client is."""

    def __init__(self, name: str, prefixes: Prefixes) -> None:
        self.name = name
        self.prefixes = prefixes

    @property
    @abstractmethod
    def id(self) -> str:
        """See `Embedder`. Raises EmbedderAway, EmbedderError: the server does not tell."""

    @property
    @abstractmethod
    def max_tokens(self) -> int:
        """See `Embedder`. Raises EmbedderAway, EmbedderError: the server does not tell."""

    @abstractmethod
    def _vectors(self, texts: list[str]) -> Sequence[Sequence[float]]:
        """What the server makes of these texts, in their order."""

    @cached_property
    def dimension(self) -> int:
        """Length of its vectors; found by asking for one."""
        return len(self._asked(["a"])[0])

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """An estimate that errs upwards, the prefix included."""
        before = self.prefixes.passage
        return [estimated_tokens(before + text) for text in texts]

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """(n, d) float32, unit length. Raises EmbedderAway, EmbedderError."""
        return self._encode(texts, self.prefixes.passage)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """(n, d) float32, unit length. Raises EmbedderAway, EmbedderError."""
        return self._encode(texts, self.prefixes.query)

    def _encode(self, texts: Sequence[str], prefix: str) -> Vectors:
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        ready = [prefix + text if (prefix + text).strip() else "." for text in texts]  # none refuses a dot
        result = np.empty((len(texts), self.dimension), np.float32)
        for rows in batches([estimated_tokens(text) for text in ready], self.max_tokens):
            result[rows] = self._unit(self._asked([ready[row] for row in rows]))
        return result

    def _asked(self, texts: list[str]) -> Sequence[Sequence[float]]:
        found = self._vectors(texts)
        if len(found) != len(texts):
            raise EmbedderError(f"{self.name} made {len(found)} vectors of {len(texts)} texts.")
        return found

    def _unit(self, rows: Sequence[Sequence[float]]) -> Vectors:
        if wrong := {len(row) for row in rows} - {self.dimension}:
            raise EmbedderError(
                f"{self.name} made a vector of {wrong.pop()} numbers, and {self.dimension} before: its "
                "server has another model under that name now. Run `python -m ingest rebuild`."
            )
        vectors = np.asarray(rows, np.float64)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or (lengths == 0).any():
            raise EmbedderError(f"{self.name} made vectors that are no numbers. Look at its server's log.")
        unit: Vectors = (vectors / lengths).astype(np.float32)
        return unit


def tried(request: Callable[[], Reply], translated: Callable[[Exception], EmbedderError]) -> Reply:
    """The reply to a request that is repeated while the server is away.

    Raises:
        EmbedderAway: it was away each time.
        EmbedderError: what the server says against the request.
    """
    wait_s = FIRST_WAIT_S
    for left in reversed(range(TRIES)):
        try:
            return request()
        except Exception as error:
            told = translated(error)
            if not (left and isinstance(told, EmbedderAway) and told.passing):
                raise told from error
        time.sleep(wait_s)
        wait_s *= 2
    raise AssertionError("the last try returns or raises")
