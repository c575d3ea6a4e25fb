"""Tiny checkpoints that the tests of this wing build: configs, random weights, a byte-level tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from model import checkpoint
from model.checkpoint import Checkpoint
from model.config import GPTConfig
from model.layout import tensor_shapes
from model.quantized import BLOCK, Q4_1, Q8_0, Weight


def config(**changes: object) -> GPTConfig:
    """A Llama of two layers, 64 wide, with grouped-query attention."""
    values: dict[str, object] = {
        "vocab_size": 256,
        "context_length": 64,
        "n_layers": 2,
        "n_heads": 4,
        "n_kv_heads": 2,
        "d_model": 64,
        "head_dim": 16,
        "d_mlp": 96,
        "positions": "rotary",
        "norm": "rmsnorm",
        "mlp": "swiglu",
        "norm_eps": 1e-5,
        "eos_ids": (0,),
    }
    return GPTConfig(**(values | changes))  # type: ignore[arg-type]


def weights(config: GPTConfig, seed: int = 0, kinds: tuple[str, ...] = ("f32",)) -> dict[str, Weight]:
    """Random weights; matrices whose width allows it take the given kinds in turn."""
    generator = torch.Generator().manual_seed(seed)
    made: dict[str, Weight] = {}
    for i, (name, shape) in enumerate(tensor_shapes(config).items()):
        kind = kinds[i % len(kinds)]
        if len(shape) == 2 and shape[1] % BLOCK == 0 and kind in ("q4_1", "q8_0"):
            blocks = (shape[0], shape[1] // BLOCK)
            scale = torch.rand(blocks, generator=generator).half()
            if kind == "q4_1":
                codes = torch.randint(0, 16, shape, generator=generator, dtype=torch.uint8)
                made[name] = Q4_1(codes, scale, -torch.rand(blocks, generator=generator).half())
            else:
                made[name] = Q8_0(
                    torch.randint(-128, 128, shape, generator=generator, dtype=torch.int8), scale
                )
        else:
            dtype = {"f16": torch.float16, "bf16": torch.bfloat16}.get(kind, torch.float32)
            made[name] = torch.randn(shape, generator=generator).to(dtype)
    return made


def same(left: Weight, right: Weight) -> bool:
    """Equal in kind, dtype and every bit."""
    if isinstance(left, torch.Tensor) or isinstance(right, torch.Tensor):
        if not (isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor)):
            return False
        return left.dtype == right.dtype and torch.equal(left, right)
    if type(left) is not type(right) or not torch.equal(left.codes, right.codes):
        return False
    minima = not isinstance(left, Q4_1) or torch.equal(left.minimum, right.minimum)  # type: ignore[union-attr]
    return minima and torch.equal(left.scale, right.scale)


def tokenizer() -> bytes:
    """A tokenizer of the 256 single bytes."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made.to_str().encode()


#: What the families' tokenizers are made of, as their published files say.
QWEN2_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CORPUS = [
    "The quick brown fox jumps over the lazy dog, doesn't it? It's 1234 times as quick as 42 dogs.\n\n",
    "def main():\n    return {'key': [1, 2, 3]}  # naïve café, Ünïcode, 中文字符, 日本語, ελληνικά\n",
]


def trained_tokenizer(rule: str = "smollm", extra: int = 120) -> Tokenizer:
    """A BPE trained on a few lines, cut by the named family's rule; ids 0 to 3 are its added tokens."""
    bytes_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rules: dict[str, Any] = {
        "gpt-2": bytes_level,
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), bytes_level]),
    }
    split = pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="isolated", invert=False)
    qwen = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = rules.get(rule, qwen)
    if rule == "qwen2":
        made.normalizer = normalizers.NFC()
    made.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=256 + 4 + extra,
        special_tokens=[*special, "<tool>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(CORPUS, trainer)
    made.add_tokens([AddedToken("<tool>", special=False, normalized=False)])
    return made


def family(name: str, vocab_size: int, **changes: object) -> GPTConfig:
    """A tiny decoder of one of the three families."""
    axes: dict[str, dict[str, object]] = {
        "llama": {"rope_theta": 50_000.0},
        "qwen2": {"rope_theta": 1_000_000.0, "attention_bias": True, "norm_eps": 1e-6},
        "gpt2": {
            "n_kv_heads": 4,
            "positions": "learned",
            "norm": "layernorm",
            "mlp": "gelu_tanh",
            "attention_bias": True,
            "output_bias": True,
            "mlp_bias": True,
        },
    }
    shared: dict[str, object] = {
        "family": name,
        "vocab_size": vocab_size,
        "bos_id": 1,
        "eos_ids": (2, 0),
        "pad_id": 0,
    }
    return config(**(shared | axes[name] | changes))


def saved(path: Path, config: GPTConfig, tokenizer: bytes, **how: Any) -> Checkpoint:
    """A native checkpoint of random weights, small enough that no softmax saturates."""
    made = {
        name: weight * 0.125 if isinstance(weight, torch.Tensor) and weight.dim() == 2 else weight
        for name, weight in weights(config, **how).items()
    }
    checkpoint.save(path, config, made, tokenizer, {"chat_template": "{{ messages }}", "title": "tiny"})
    return checkpoint.load(path)
