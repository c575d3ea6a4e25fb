"""Which texts to learn a language from, and how they become micro-batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from model.data.shards.texts import Separate
from model.errors import DataError

Split = Literal["auto", "texts", "tail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusConfig:
    """The corpus of a pretraining run."""

    dataset: tuple[str, ...]  #: files and folders: raw text, JSON, JSONL, parquet
    column: str = "text"  #: where rows hold their text
    separate: Separate = "file"  #: what of a raw text is a text of its own: all, each line, each block
    val_size: float = 0.1  #: share that validates; 0: none
    #: What validates: whole texts, by their hash, or the end of every text; auto: the end, where raw texts
    #: are few.
    val_split: Split = "auto"
    stride: int | None = None  #: tokens from one window to the next; default: a window
    shard_tokens: int = 10_000_000
    max_eval_tokens: int = 1_000_000  #: validate on the first of these
    per_device_train_batch_size: int = 12  #: windows of a micro-batch
    per_device_eval_batch_size: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0 <= self.val_size < 1:
            raise DataError(f"val_size must be a share of at least 0 and below 1, got {self.val_size}")
        counts = (
            "shard_tokens",
            "max_eval_tokens",
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
        )
        for name in (*counts, *(("stride",) if self.stride is not None else ())):
            if getattr(self, name) < 1:
                raise DataError(f"{name} must be at least 1, got {getattr(self, name)}")
