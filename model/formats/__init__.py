"""Foreign checkpoint formats, read into the native form; one name table per family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model.config import GPTConfig

if TYPE_CHECKING:  # model.quantized imports torch, which the embedder's conversion does without
    from model.quantized import Weight


@dataclass(frozen=True)
class Foreign:
    """What a foreign file or folder held, in native names."""

    config: GPTConfig
    weights: dict[str, Weight]
    tokenizer: bytes  #: a `tokenizer.json` of the Hugging Face tokenizers library
    metadata: dict[str, Any]  #: license, chat_template and the like, as far as the source says
