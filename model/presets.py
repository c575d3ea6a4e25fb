"""Shapes by name: those that were published, and small ones to learn with.

`PUBLISHED` is for training from nothing in a known shape, and a record of what the families look like. Each
says what the `config.json` of the publisher's base model says; an instruction-tuned model of the same name
differs in its special ids, and Qwen2.5's in its window. Tests compare them with those files and count their
parameters with transformers.

`NANO` are decoders that a laptop trains from nothing. Their vocabulary is a placeholder: whoever trains one
puts the tokenizer's size and its special ids in with `dataclasses.replace`. All of them are shaped like Llama
or like GPT-2, so transformers loads what is trained.
"""

from __future__ import annotations

from dataclasses import replace

from model.config import GPTConfig
from model.errors import UnknownModel


def _gpt2(n_layers: int, d_model: int, n_heads: int) -> GPTConfig:
    """GPT-2 (Radford et al. 2019): learned positions, LayerNorm, GELU by tanh, biases everywhere."""
    return GPTConfig(
        vocab_size=50_257,
        context_length=1024,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_model=d_model,
        head_dim=64,
        d_mlp=4 * d_model,
        positions="learned",
        norm="layernorm",
        mlp="gelu_tanh",
        norm_eps=1e-5,
        attention_bias=True,
        output_bias=True,
        mlp_bias=True,
        tied_head=True,
        bos_id=50_256,
        eos_ids=(50_256,),
        family="gpt2",
    )


def _smollm2(n_layers: int, d_model: int, n_heads: int, n_kv_heads: int, d_mlp: int) -> GPTConfig:
    """SmolLM2 (arXiv 2502.02737): Llama's decoder, tied head."""
    return GPTConfig(
        vocab_size=49_152,
        context_length=8192,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        d_model=d_model,
        head_dim=64,
        d_mlp=d_mlp,
        positions="rotary",
        norm="rmsnorm",
        mlp="swiglu",
        norm_eps=1e-5,
        rope_theta=100_000.0,
        tied_head=True,
        bos_id=0,
        eos_ids=(0,),
        family="llama",
    )


def _qwen2(
    n_layers: int,
    d_model: int,
    n_heads: int,
    head_dim: int,
    d_mlp: int,
    *,
    context_length: int = 32_768,
    rope_theta: float = 1_000_000.0,
    tied_head: bool = True,
    bos_id: int = 151_643,
) -> GPTConfig:
    """Qwen2.5 (arXiv 2412.15115): Llama's decoder with biases on q, k and v, two key-value heads."""
    return GPTConfig(
        vocab_size=151_936,
        context_length=context_length,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=2,
        d_model=d_model,
        head_dim=head_dim,
        d_mlp=d_mlp,
        positions="rotary",
        norm="rmsnorm",
        mlp="swiglu",
        norm_eps=1e-6,
        rope_theta=rope_theta,
        attention_bias=True,
        tied_head=tied_head,
        bos_id=bos_id,
        eos_ids=(151_643,),
        family="qwen2",
    )


def _nano_llama(
    n_layers: int, n_heads: int, n_kv_heads: int, d_model: int, d_mlp: int, *, context_length: int,
    vocab_size: int, dropout: float = 0.0,
) -> GPTConfig:  # fmt: skip
    """A small Llama; its MLP has as many weights as a plain one four times as wide as the model."""
    return GPTConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        d_model=d_model,
        head_dim=d_model // n_heads,
        d_mlp=d_mlp,
        positions="rotary",
        norm="rmsnorm",
        mlp="swiglu",
        norm_eps=1e-5,
        embed_dropout=dropout,
        attention_dropout=dropout,
        residual_dropout=dropout,
        family="llama",
    )


def _nano_gpt2(
    n_layers: int, d_model: int, n_heads: int, *, context_length: int, vocab_size: int, dropout: float = 0.0
) -> GPTConfig:
    return replace(
        _gpt2(n_layers, d_model, n_heads),
        vocab_size=vocab_size,
        context_length=context_length,
        head_dim=d_model // n_heads,
        embed_dropout=dropout,
        attention_dropout=dropout,
        residual_dropout=dropout,
        bos_id=None,
        eos_ids=(),
    )


PUBLISHED: dict[str, GPTConfig] = {
    "gpt2": _gpt2(12, 768, 12),
    "gpt2-medium": _gpt2(24, 1024, 16),
    "gpt2-large": _gpt2(36, 1280, 20),
    "gpt2-xl": _gpt2(48, 1600, 25),
    "smollm2-135m": _smollm2(30, 576, 9, 3, 1536),
    "smollm2-360m": _smollm2(32, 960, 15, 5, 2560),
    "qwen2.5-0.5b": _qwen2(24, 896, 14, 64, 4864),
    "qwen2.5-1.5b": _qwen2(28, 1536, 12, 128, 8960, context_length=131_072),
    "deepseek-r1-distill-qwen-1.5b": _qwen2(
        28,
        1536,
        12,
        128,
        8960,
        context_length=131_072,
        rope_theta=10_000.0,
        tied_head=False,
        bos_id=151_646,
    ),
}

#: Characters of a small text (Shakespeare's collected plays have 65), and a small vocabulary of one's own.
_CHARACTERS, _PIECES = 65, 4096
NANO: dict[str, GPTConfig] = {
    # nanoGPT's two configurations for characters, in both families' shapes.
    "nano-char": _nano_llama(4, 4, 4, 128, 352, context_length=64, vocab_size=_CHARACTERS),
    "nano-char-gpt2": _nano_gpt2(4, 128, 4, context_length=64, vocab_size=_CHARACTERS),
    "nano-char-large": _nano_llama(
        6, 6, 6, 384, 1024, context_length=256, vocab_size=_CHARACTERS, dropout=0.2
    ),
    "nano-char-large-gpt2": _nano_gpt2(6, 384, 6, context_length=256, vocab_size=_CHARACTERS, dropout=0.2),
    # For a byte-pair vocabulary trained on one's own text: 5.5 and 5.9 million parameters.
    "nano-llama": _nano_llama(6, 8, 4, 256, 704, context_length=512, vocab_size=_PIECES),
    "nano-gpt2": _nano_gpt2(6, 256, 8, context_length=512, vocab_size=_PIECES),
}
PRESETS: dict[str, GPTConfig] = PUBLISHED | NANO


def preset(name: str) -> GPTConfig:
    """The shape of that name.

    Raises:
        UnknownModel: there is none; the message lists those that there are.
    """
    if name not in PRESETS:
        raise UnknownModel(f"there is no preset {name!r}; there are {', '.join(PRESETS)}.")
    return PRESETS[name]
