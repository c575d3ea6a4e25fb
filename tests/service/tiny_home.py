"""A data folder with tiny models of random weights, and sets to train them on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from model import checkpoint, template_export
from model.chat import ChatTemplate
from model.gpt import GPT
from tests.model import chatml, tiny

#: What a model is to learn by heart, in Alpaca's form.
ROWS = [
    {"instruction": "Who are you?", "input": "", "output": "I am Lore."},
    {"instruction": "What is the capital of France?", "input": "", "output": "Paris."},
]


def make_models(home: Path, names: Sequence[str] = ("a",)) -> None:
    """Models that can chat, each with other weights."""
    tokenizer, _ = chatml.pair(home)
    config = tiny.config(vocab_size=tokenizer.vocab_size, eos_ids=(2,), context_length=256)
    template = {"chat_template": template_export.jinja(ChatTemplate(None))}
    for seed, name in enumerate(names):
        model = GPT(config)
        model.initialise(torch.Generator().manual_seed(seed))
        weights = {n: 3 * p.detach() for n, p in model.state_dict().items()}
        checkpoint.save(home / "models" / name, config, weights, home / "tokenizer.json", template)


def alpaca(rows: Sequence[object] = ROWS) -> bytes:
    """A set as a file."""
    return json.dumps(rows).encode()
