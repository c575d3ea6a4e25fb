"""A tiny chat model in a home, preference pairs, and log-probabilities as transformers computes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from model import checkpoint, template_export
from model.chat import ChatTemplate
from model.checkpoint import Checkpoint
from model.data.sets import DataConfig
from model.gpt import GPT
from model.preferences import pairs
from model.tokenizer import Tokenizer
from tests.model import chatml, tiny

ROWS: list[dict[str, Any]] = [
    {"instruction": f"Who are you, {i}?", "chosen": f"I am Lore {i % 3}.", "rejected": f"Go away {i}!"}
    for i in range(12)
]


def chat_home(home: Path, rows: Any = ROWS, **changes: object) -> Checkpoint:
    """`models/tiny`, and `pairs.json`."""
    tokenizer, _ = chatml.pair(home)
    config = tiny.config(vocab_size=tokenizer.vocab_size, eos_ids=(2,), context_length=128, **changes)
    model = GPT(config)
    model.initialise(torch.Generator().manual_seed(0))
    weights = {key: p.detach() * (3 if p.ndim == 2 else 1) for key, p in model.state_dict().items()}
    template = {"chat_template": template_export.jinja(ChatTemplate(None))}
    checkpoint.save(home / "models" / "tiny", config, weights, home / "tokenizer.json", template)
    (home / "pairs.json").write_text(json.dumps(rows), encoding="utf-8")
    return checkpoint.load(home / "models" / "tiny")


def prepared(home: Path, **how: Any) -> pairs.PreparedPairs:
    tokenizer = Tokenizer.from_file(home / "tokenizer.json")
    data = DataConfig(dataset=(str(home / "pairs.json"),), **how)
    return pairs.prepare(data, ChatTemplate(None), tokenizer)
