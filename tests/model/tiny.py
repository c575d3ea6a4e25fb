"""Tiny checkpoints that the tests of this wing build: configs, random weights, a byte-level tokenizer."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

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
