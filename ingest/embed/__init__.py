"""Text to vectors of unit length: the protocol, and the sentence-transformers embedder.

This folder alone imports torch in this wing, and only when something is encoded. Counting tokens needs
nothing but `tokenizer.json` and the `tokenizers` library, so chunks can be cut before any weights are loaded.
Nothing here opens a connection: weights are folders on the disk (`python -m model pull NAME` puts them
there).

What the model wants before a text (e5's "query: " and "passage: ") is read from its own configuration. On a
CPU the weights are bfloat16 where a probe at the start finds that faster, float32 elsewhere; pooling is
always float32.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ingest.embed.quiet import open_model
from ingest.errors import EmbedderError

Vectors = NDArray[np.float32]
Precision = Literal["bfloat16", "float32"]

_BATCH_TEXTS = 32
_BATCH_TOKENS = 8192  # padded; bounds the memory of one batch, not the length of a text
#: The names that sentence-transformers looks for, in its order.
_PASSAGE_PROMPTS = ("document", "passage", "corpus")


class Embedder(Protocol):
    """What chunking, ingestion and search need of an embedder."""

    @property
    def id(self) -> str:
        """Fingerprint of everything that decides a vector: weights, tokenizer, pooling, prompts."""
        ...

    @property
    def name(self) -> str:
        """What to load it by: catalog name, hub id or folder."""
        ...

    @property
    def dimension(self) -> int:
        """Length of its vectors."""
        ...

    @property
    def max_tokens(self) -> int:
        """How much it reads of a text, as `count_tokens` counts; it silently drops the rest."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens it reads for each passage, its prompt and special tokens included."""
        ...

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """(n, d) float32, unit length, in the order of the texts."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """(n, d) float32, unit length, in the order of the texts."""
        ...


class SentenceTransformerEmbedder:
    """A sentence-transformers folder. Thread-safe; a long job lets a question through between two batches."""

    def __init__(self, folder: Path, name: str, precision: Precision | None = None) -> None:
        self.folder = folder
        self.name = name
        self._asked = precision
        self._lock = threading.RLock()
        self._config = read_json(folder / "config_sentence_transformers.json")
        modules = read_json(folder / "modules.json", [])
        self._transformer = folder / (modules[0]["path"] if modules else "")
        self._plain = all(
            m["type"].rsplit(".", 1)[-1] in {"Transformer", "Pooling", "Normalize"} for m in modules
        )

    @classmethod
    def load(cls, folder: Path | str, *, name: str | None = None, precision: Precision | None = None) -> Self:
        """The embedder in a folder; weights are read when the first text is encoded.

        Args:
            folder: as sentence-transformers writes it, with `modules.json`, `tokenizer.json` and so on.
            name: what the collection remembers it by; the folder itself by default.
            precision: without it, the probe decides.

        Raises:
            EmbedderError: the folder or one of its files is missing or damaged.
        """
        folder = Path(folder)
        if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
            raise EmbedderError(
                f"There is no embedder in {folder}. `python -m model pull NAME` fetches one; "
                "`python -m model list` shows the names."
            )
        return cls(folder, name or str(folder.resolve()), precision)

    @cached_property
    def id(self) -> str:
        """Fingerprint: SHA-256 over the files that decide a vector. The precision is not part of it."""
        digest = hashlib.sha256()
        for file in sorted(self.folder.rglob("*")):
            name = file.relative_to(self.folder).as_posix()
            if name == "tokenizer.json" or (
                file.suffix in {".json", ".safetensors"} and not _describes(file.name)
            ):
                digest.update(f"{name}\0".encode())
                with file.open("rb") as content:
                    digest.update(hashlib.file_digest(content, "sha256").digest())
        return "st:" + digest.hexdigest()[:32]

    @cached_property
    def dimension(self) -> int:
        """Length of its vectors, from the configuration where that is certain: no weights are loaded."""
        size = read_json(self._transformer / "config.json").get("hidden_size")
        if self._plain and isinstance(size, int):
            return size
        return int(self._encode_batch(["a"], "").shape[1])

    @cached_property
    def max_tokens(self) -> int:
        """The smallest of the windows that its configuration names."""
        sizes = [
            read_json(self._transformer / "sentence_bert_config.json").get("max_seq_length"),
            read_json(self._transformer / "tokenizer_config.json").get("model_max_length"),
            self._positions(),
        ]
        windows = [size for size in sizes if isinstance(size, int) and 0 < size < 10**6]
        if not windows:
            raise EmbedderError(
                f"The configuration in {self.folder} does not say how long a text may be (max_seq_length)."
            )
        return min(windows)

    def _positions(self) -> int | None:
        config = read_json(self._transformer / "config.json")
        positions = config.get("max_position_embeddings")
        if isinstance(positions, int) and "roberta" in str(config.get("model_type")):
            # Its positions start after the padding id.
            return positions - int(config.get("pad_token_id", 1)) - 1
        return positions if isinstance(positions, int) else None

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        file = self._transformer / "tokenizer.json"
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare Exception
            raise EmbedderError(
                f"{file} is missing or damaged ({error}). Pull the embedder again: "
                f"`python -m model pull {self.name}`."
            ) from error
        return tokenizer

    def prompt(self, kind: Literal["query", "passage"]) -> str:
        """What stands before a text of this kind; empty where the model wants nothing."""
        prompts: dict[str, str] = self._config.get("prompts") or {}
        names = ("query",) if kind == "query" else _PASSAGE_PROMPTS
        default = self._config.get("default_prompt_name")
        return next((prompts[n] for n in (*names, default) if n in prompts), "")

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens read for each passage, prompt and special tokens included; needs no weights."""
        return self._count(texts, self.prompt("passage"))

    def _count(self, texts: Sequence[str], prompt: str) -> list[int]:
        with self._lock:
            encodings = self._uncut().encode_batch_fast([prompt + t for t in texts], add_special_tokens=True)
        return [len(encoding) for encoding in encodings]

    def pieces(self, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Ids and places (code points) of each text's pieces, no prompt or special ones; needs no weights."""
        with self._lock:
            return [(e.ids, e.offsets) for e in self._uncut().encode_batch(texts, add_special_tokens=False)]

    def _uncut(self) -> Tokenizer:
        tokenizer = self._tokenizer  # once the model is loaded it shares this one, and truncates
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """(n, d) float32, unit length. Raises EmbedderError where the model fails or returns no numbers."""
        return self._encode(texts, self.prompt("passage"))

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """(n, d) float32, unit length. Raises EmbedderError where the model fails or returns no numbers."""
        return self._encode(texts, self.prompt("query"))

    def _encode(self, texts: Sequence[str], prompt: str) -> Vectors:
        with self._lock:
            _ = self._model  # first, since it brings the tokenizer that then counts
        result = np.empty((len(texts), self.dimension), np.float32)
        for rows in batches(self._count(texts, prompt), self.max_tokens):
            result[rows] = self._encode_batch([texts[row] for row in rows], prompt)
        return result

    def _encode_batch(self, texts: list[str], prompt: str) -> Vectors:
        with self._lock:
            try:
                vectors = self._model.encode(
                    texts,
                    prompt=prompt,
                    batch_size=len(texts),
                    convert_to_numpy=True,
                    show_progress_bar=False,
                )
            except EmbedderError:
                raise
            except Exception as error:
                raise EmbedderError(
                    f"Embedder {self.name!r} failed on {len(texts)} texts: {error}."
                ) from error
        return unit(vectors, self.name, self.folder)

    @cached_property
    def precision(self) -> Precision:
        """What the weights are held in: as asked for, or as the probe found faster."""
        return self._asked or ("bfloat16" if _bfloat16_is_faster() else "float32")

    @cached_property
    def _model(self) -> Any:
        """The loaded model. Called with the lock held."""
        try:
            model = open_model("SentenceTransformer", self.folder, self.precision)
        except Exception as error:
            raise EmbedderError(
                f"Embedder {self.name!r} in {self.folder} cannot be loaded: {error}. Pull it again with "
                f"`python -m model pull {self.name}`."
            ) from error
        backend = getattr(model.tokenizer, "backend_tokenizer", None)
        if isinstance(backend, Tokenizer):
            # A vocabulary of 250,000 takes 280 MB: one copy has to do.
            self.__dict__["_tokenizer"] = backend
        model[0].register_forward_hook(_tokens_to_float32)
        model.eval()
        return model


def unit(rows: Any, name: str, folder: Path) -> Vectors:
    """The rows at unit length, float32. Raises EmbedderError where one has none."""
    vectors = np.asarray(rows, np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        raise EmbedderError(
            f"Embedder {name!r} returned vectors that are no numbers. Its weights in {folder} seem damaged: "
            f"pull it again with `python -m model pull {name.removeprefix('onnx/')}`."
        )
    of_length_one: Vectors = (vectors / lengths).astype(np.float32)
    return of_length_one


def _tokens_to_float32(module: object, arguments: object, output: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """Pool in float32: a mean over 200 bfloat16 values loses digits that the layers had."""
    return output | {"token_embeddings": output["token_embeddings"].float()}


def batches(counts: Sequence[int], most: int) -> Iterator[list[int]]:
    """Rows of texts of like length, so that little is padding; longest first: memory peaks at the start."""
    batch: list[int] = []
    width = 1
    for row in sorted(range(len(counts)), key=lambda r: (-counts[r], r)):
        if batch and (len(batch) == _BATCH_TEXTS or (len(batch) + 1) * width > _BATCH_TOKENS):
            yield batch
            batch = []
        if not batch:
            width = min(counts[row], most)
        batch.append(row)
    if batch:
        yield batch


def _bfloat16_is_faster() -> bool:
    """Multiply matrices of an encoder layer's size both ways, in turn; the best of each counts.

    A few milliseconds.
    """
    import torch

    def best(dtype: torch.dtype) -> Callable[[], float]:
        left, right = torch.ones(256, 384, dtype=dtype), torch.ones(384, 1536, dtype=dtype)

        def run() -> float:
            start = time.perf_counter()
            for _ in range(4):
                torch.mm(left, right)
            return time.perf_counter() - start

        return run

    with torch.inference_mode():
        slow, fast = best(torch.float32), best(torch.bfloat16)
        times = [(slow(), fast()) for _ in range(7)]
    return min(t[1] for t in times) < 0.8 * min(t[0] for t in times)


def find_embedder(name: str, home: Path) -> SentenceTransformerEmbedder:
    """The embedder of a catalog name or hub id under `home`/models, or in a folder of its own.

    Raises:
        EmbedderError: not installed; the message names the command that fetches it.
    """
    for folder in (home / "models" / name.rsplit("/", 1)[-1].lower(), Path(name).expanduser()):
        if (folder / "modules.json").is_file() or (folder / "config.json").is_file():
            return SentenceTransformerEmbedder.load(folder, name=name)
    raise EmbedderError(
        f"Embedder {name!r} is not installed in {home / 'models'}. "
        f"Fetch it with `python -m model pull {name}` "
        "(needs a network once), or name the folder of one."
    )


def _describes(name: str) -> bool:
    """Whether a file only talks about the model: another wording of it is not another embedder."""
    return name in {"manifest.json", "special_tokens_map.json", "tokenizer_config.json"}


def read_json(file: Path, default: Any = None) -> Any:
    """What a file of the embedder's says; the default, `{}` if not given, where there is no such file."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {} if default is None else default
    except (OSError, ValueError) as error:
        raise EmbedderError(
            f"{file} cannot be read: {error}. Pull the embedder again with `python -m model pull`."
        ) from error
