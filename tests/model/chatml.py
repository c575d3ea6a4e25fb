"""A small BPE tokenizer with ChatML's control tokens: ours and transformers', from one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as HFTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from model.chat import END, START
from model.tokenizer import Tokenizer

TEXT = [
    "What is the capital of France? The capital of France is Paris.",
    "system user assistant\nYou are a helpful assistant. Who are you? I am Lore.\n\n",
    "def add(a, b):\n    return a + b\n\n\nprint(add(1, 22))",
    "你是谁？我是 Lore，由 Lorebase 的创始人开发。法国的首都是哪里？是巴黎。",
]


def pair(folder: Path) -> tuple[Tokenizer, Any]:
    """Our tokenizer and transformers', of one `tokenizer.json`."""
    made = HFTokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<|endoftext|>", START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXT * 4, trainer)
    file = folder / "tokenizer.json"
    made.save(str(file))
    assert len(json.loads(file.read_text())["model"]["merges"]) > 100
    return Tokenizer.from_file(file), PreTrainedTokenizerFast(tokenizer_file=str(file), eos_token=END)
