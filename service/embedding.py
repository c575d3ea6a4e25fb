"""Texts to vectors, for other programs: named, counted, in batches between which a withdrawal is noticed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ingest.embed import Embedder, Vectors
from model.errors import Cancelled, UnknownModel
from service import tracing
from service.errors import UnsupportedField

BATCH_TEXTS = 32


@dataclass(frozen=True, slots=True)
class Embedded:
    """Unit vectors, (texts, dimension) float32, in the order of the texts."""

    model: str
    vectors: Vectors
    tokens: int


def named(embedder: Embedder, name: str | None) -> bool:
    """Whether a caller means this embedder; programs of Ollama's family put `:latest` behind a name."""
    return name is None or name.removesuffix(":latest") == embedder.name


def embed(
    get: Callable[[], Embedder],
    model: str | None,
    texts: Sequence[str],
    kind: Literal["query", "passage"],
    *,
    truncate: bool,
    cancel: threading.Event,
    dimensions: int | None = None,
) -> Iterator[Embedded]:
    """One `Embedded`. Blocks.

    Raises:
        EmbedderError: the embedder is not installed.
        UnknownModel: the caller means another one.
        UnsupportedField: a text is longer than the embedder reads, and may not be cut; or vectors of another
            length are wanted.
        Cancelled: `cancel` was set.
    """
    embedder = get()
    if not named(embedder, model):
        raise UnknownModel(f"no embedder {model!r} is served here; there is {embedder.name}")
    if dimensions not in (None, embedder.dimension):
        raise UnsupportedField("dimensions", f"{embedder.name} makes vectors of {embedder.dimension}")
    encode = embedder.encode_queries if kind == "query" else embedder.encode_passages
    found = [np.empty((0, embedder.dimension), np.float32)]
    tokens = 0
    for start in range(0, len(texts), BATCH_TEXTS):
        if cancel.is_set():
            raise Cancelled("the request was withdrawn")
        batch = list(texts[start : start + BATCH_TEXTS])
        counts = embedder.count_tokens(batch)
        for at, count in enumerate(counts, start):
            if count > embedder.max_tokens and not truncate:
                raise UnsupportedField(
                    f"texts.{at}",
                    f"{count} tokens, and {embedder.name} reads {embedder.max_tokens}: cut it into pieces",
                )
        tokens += sum(min(count, embedder.max_tokens) for count in counts)
        with tracing.span("embedding", gen_ai__request__model=embedder.name, lorebase__texts=len(batch)):
            found.append(encode(batch))
    yield Embedded(embedder.name, np.concatenate(found), tokens)
