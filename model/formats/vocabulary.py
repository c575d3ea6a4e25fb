"""What a checkpoint's `tokenizer.json` says, as the formats that are written need it said: lists and names.

A tokenizer and a checkpoint that do not belong together are refused here, before anything is written.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from model.config import GPTConfig
from model.errors import CheckpointError, TokenizerError


@dataclass(frozen=True)
class Vocabulary:
    """A byte-level BPE and the special ids that the config gives it."""

    file: Path
    spec: dict[str, Any]  #: the parsed `tokenizer.json`
    tokens: dict[int, str]  #: by id, as they stand in the file; ids may be left out
    added: dict[int, bool]  #: of the added tokens: whether they are special
    config: GPTConfig

    @cached_property
    def named(self) -> dict[str, str]:
        """`bos_token`, `eos_token` and `pad_token`, as far as the config names them."""
        eos = self.config.eos_ids[0] if self.config.eos_ids else None
        ids = {"bos_token": self.config.bos_id, "eos_token": eos, "pad_token": self.config.pad_id}
        return {key: self.tokens[i] for key, i in ids.items() if i is not None and i in self.tokens}

    @cached_property
    def adds_bos(self) -> bool:
        """Whether the tokenizer puts the first special token before every text by itself."""
        encoded = Tokenizer.from_file(str(self.file)).encode("a").ids
        return self.config.bos_id is not None and encoded[:1] == [self.config.bos_id]


def read_vocabulary(file: Path, config: GPTConfig) -> Vocabulary:
    """Read a `tokenizer.json` and hold it against the config.

    Raises:
        TokenizerError: not such a file.
        CheckpointError: it has tokens for which the model has no row.
    """
    try:
        spec = json.loads(file.read_text(encoding="utf-8"))
        tokens = {int(index): str(token) for token, index in spec["model"]["vocab"].items()}
        added = {int(t["id"]): bool(t.get("special")) for t in spec.get("added_tokens", [])}
        tokens |= {int(t["id"]): str(t["content"]) for t in spec.get("added_tokens", [])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TokenizerError(
            f"{file}: not a BPE tokenizer.json ({error!r}). Pull the model again."
        ) from error
    size = max(tokens, default=-1) + 1
    if size > config.vocab_size:
        raise CheckpointError(
            f"{file}: the tokenizer has {size} tokens, the model {config.vocab_size} rows: they do not "
            "belong together. Take both from the same source."
        )
    return Vocabulary(file, spec, tokens, added, config)
