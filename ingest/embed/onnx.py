"""An embedder's weights as an ONNX graph in int8, run by onnxruntime: `onnx/NAME`.

The graph holds everything from token ids to unit vectors, pooling included, so torch is not imported to
embed. Weights and the vocabulary's table are int8 (per column), activations are brought to int8 as they come.
It is made once from the embedder's folder (`ingest.embed.convert`) and kept in it, as `onnx/int8.onnx`.

Its vectors are close to those of the weights it was made of but not equal, so it counts as another embedder:
the two never share a collection.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ingest.embed import SentenceTransformerEmbedder, Vectors, read_json, unit
from ingest.errors import EmbedderError

#: Part of the fingerprint: a conversion that gives other vectors needs another name.
RECIPE = "int8-dynamic-1"
FILE = Path("onnx", "int8.onnx")
INPUTS, OUTPUT = ("input_ids", "attention_mask"), "sentence_embedding"


class OnnxEmbedder(SentenceTransformerEmbedder):
    """A sentence-transformers folder, run as an int8 ONNX graph. Thread-safe."""

    @cached_property
    def id(self) -> str:
        """Fingerprint: the files that decide a vector, and how they are converted."""
        told = f"{super().id}\0{RECIPE}"
        return "onnx:" + hashlib.sha256(told.encode()).hexdigest()[:32]

    @property
    def file(self) -> Path:
        """The graph."""
        return self.folder / FILE

    @property
    def is_converted(self) -> bool:
        """Whether the graph is there."""
        return self.file.is_file()

    def convert(self) -> None:
        """Make the graph where it is missing: takes a minute, and the packages of the extra `onnx`.

        Raises:
            EmbedderError: they are missing, the model cannot be converted, or there is no room.
        """
        if not self.is_converted:
            from ingest.embed.convert import convert

            convert(self.folder, self.file, self.name)

    def _encode_batch(self, texts: list[str], prompt: str) -> Vectors:
        with self._lock:
            ids, mask = self._read([prompt + text for text in texts])
            try:
                (vectors,) = self._model.run([OUTPUT], dict(zip(INPUTS, (ids, mask), strict=True)))
            except EmbedderError:
                raise
            except Exception as error:  # onnxruntime has a class for each of its codes, below Exception
                raise EmbedderError(
                    f"Embedder {self.name!r} failed on {len(texts)} texts: {error}."
                ) from error
        return unit(vectors, self.name, self.folder)

    def _read(self, texts: list[str]) -> tuple[Any, Any]:
        """Ids and mask of the texts, (n, longest) int64, cut at the window. Called with the lock held."""
        tokenizer = self._uncut()
        tokenizer.enable_truncation(self.max_tokens)
        encoded = tokenizer.encode_batch(texts)
        width = max(len(e.ids) for e in encoded)
        ids = np.full((len(texts), width), self._padding, np.int64)
        mask = np.zeros((len(texts), width), np.int64)
        for row, encoding in enumerate(encoded):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        return ids, mask

    @cached_property
    def _padding(self) -> int:
        """Some models count positions from it, so it has to be theirs."""
        return int(read_json(self._transformer / "config.json").get("pad_token_id") or 0)

    @cached_property
    def _model(self) -> Any:
        """The session. Called with the lock held."""
        import onnxruntime

        self.convert()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it starves other threads
        try:
            return onnxruntime.InferenceSession(str(self.file), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise EmbedderError(
                f"{self.file} cannot be loaded: {error}. Delete it: it is made anew at the next use."
            ) from error
