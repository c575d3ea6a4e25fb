"""A question and a passage, read together, to a score: the cross-encoder of sentence-transformers.

Beside the embedder because the two are what this wing asks of torch, which is imported only when something is
scored. Weights are folders on the disk; nothing here opens a connection.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from ingest.embed.quiet import open_model
from ingest.errors import RerankerError

_BATCH_PAIRS = 16


class CrossEncoderReranker:
    """A cross-encoder's folder, as sentence-transformers or transformers write it. Thread-safe."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self._lock = threading.Lock()

    @classmethod
    def load(cls, folder: Path | str, *, name: str | None = None) -> Self:
        """The reranker in a folder; weights are read when the first passage is.

        Raises:
            RerankerError: there is no model in it.
        """
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise RerankerError(
                f"There is no reranker in {folder}. Name the folder of a cross-encoder: config.json, "
                "model.safetensors and tokenizer.json."
            )
        return cls(folder, name or str(folder))

    def scores(self, query: str, passages: Sequence[str]) -> list[float]:
        """See `ingest.rerank.Reranker`.

        Raises:
            RerankerError: the model cannot be loaded, fails, or returns no numbers.
        """
        if not passages:
            return []
        with self._lock:
            model = self._model
            try:
                found = model.predict(
                    [(query, passage) for passage in passages],
                    batch_size=_BATCH_PAIRS,
                    activation_fn=self._sigmoid,
                    show_progress_bar=False,
                )
            except Exception as error:
                raise RerankerError(
                    f"Reranker {self.name!r} failed on {len(passages)} passages: {error}."
                ) from error
        values = np.asarray(found, np.float64)
        if values.shape != (len(passages),) or not np.isfinite(values).all():
            raise RerankerError(
                f"Reranker {self.name!r} returned no score for each passage. Its weights in {self.folder} "
                "seem damaged: get them again."
            )
        return [float(value) for value in values]

    @cached_property
    def _sigmoid(self) -> Any:
        # Some models are saved with none, and then give logits of any size.
        import torch

        return torch.nn.Sigmoid()

    @cached_property
    def _model(self) -> Any:
        """The loaded model. Called with the lock held."""
        try:
            model = open_model("CrossEncoder", self.folder)
        except Exception as error:
            raise RerankerError(
                f"Reranker {self.name!r} in {self.folder} cannot be loaded: {error}. Get its files again; "
                "weights have to be safetensors."
            ) from error
        if model.num_labels != 1:
            raise RerankerError(
                f"{self.name!r} is no reranker: it sorts texts into {model.num_labels} classes. Name a "
                "cross-encoder with one score."
            )
        return model
