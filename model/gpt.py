"""One decoder whose orthogonal axes give every family this house reads.

A decoder is token embedding, blocks of causal self-attention and MLP around a residual stream, a last norm
and an output head (arXiv 1706.03762, pre-norm as in GPT-2). `GPTConfig` chooses one entry from each of three
small tables:

    positions   learned (GPT-2) | rotary (arXiv 2104.09864)
    norm        layernorm | rmsnorm (arXiv 1910.07467)
    mlp         gelu | gelu_tanh | swiglu (arXiv 2002.05202)

and, independently, the number of key-value heads (arXiv 2305.13245), the biases, and whether the head is the
embedding. Learned + layernorm + gelu_tanh + biases is GPT-2; rotary + rmsnorm + swiglu + grouped heads is
Llama and SmolLM2.

Invariants:

* Projections are plain `nn.Linear` modules, q, k and v apart: whoever wants another (a LoRA adapter, a packed
  kernel) replaces the module. Parameter names are those of the native checkpoint.
* Rows of a batch are padded on the right and say how long they are; no token id ever means "padding". A query
  sees the keys at its own position and before, so what stands in the padding cannot reach a real token.
* The forward pass ends at the last norm. The head is applied by the caller, where it wants logits and nowhere
  else: at 49,152 words, logits for every position cost more memory than the model.

Shapes: r rows, n tokens, t keys (past and present), h heads, g key-value heads, e elements a head, d =
d_model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import MLP, GPTConfig, Norm, Positions


class KeyValues(Protocol):
    """What attention needs of a cache; `model.engine.cache.Cache` is one."""

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens that each row already holds."""

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put k, v (r, g, n, e) behind each row's tokens; all keys and values (r, g, t, e) so far."""

    def advance(self, lengths: Sequence[int]) -> None:
        """Count as held so many of the tokens just appended; the rest were padding."""


@dataclass(frozen=True, slots=True)
class Span:
    """What the blocks of one forward pass share: where its tokens stand and what they may see."""

    rotation: tuple[Tensor, Tensor] | None  #: rotary cosines and signed sines (r, 1, n, e)
    mask: (
        Tensor | None
    )  #: (r or 1, 1, n, t): to add to the scores, minus infinity where a query must not look
    causal: bool  #: no mask needed: query i sees keys 0..i
    cache: KeyValues | None


# ----------------------------------------------------------------------------------------------------
# positions


class LearnedPositions(nn.Embedding):
    """One trained vector a position, added to the token's."""

    def __init__(self, config: GPTConfig) -> None:
        empty = torch.empty(config.context_length, config.d_model)
        super().__init__(config.context_length, config.d_model, _weight=empty)

    def place(self, x: Tensor, positions: Tensor) -> Tensor:
        """Token vectors (r, n, d) with their positions (r or 1, n) added."""
        placed: Tensor = x + self(positions)
        return placed

    def rotation(self, positions: Tensor, dtype: torch.dtype) -> None:  # noqa: ARG002
        """Nothing is rotated."""
        return


class RotaryPositions(nn.Module):
    """Queries and keys turned by an angle that grows with position, so that scores see only distances."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.head_dim, self.theta = config.head_dim, config.rope_theta

    def place(self, x: Tensor, positions: Tensor) -> Tensor:  # noqa: ARG002
        """Nothing is added."""
        return x

    def rotation(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines, and sines signed for `rotate`, (r or 1, 1, n, e); angles are computed in float32."""
        pairs = torch.arange(0, self.head_dim, 2, device=positions.device, dtype=torch.float32)
        angles = positions[:, None, :, None].float() * self.theta ** -(pairs / self.head_dim)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat((cos, cos), -1).to(dtype), torch.cat((-sin, sin), -1).to(dtype)


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn x (r, h, n, e): elements i and i + e/2 form a pair, the order of Hugging Face checkpoints."""
    cos, signed_sin = rotation
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), signed_sin)


# ---------------------------------------------------------------------------------------------------------
# parts


class Attention(nn.Module):
    """Causal self-attention; several query heads may share a key-value head."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        width, kv_width = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
        self.q = nn.Linear(config.d_model, width, bias=config.attention_bias)
        self.k = nn.Linear(config.d_model, kv_width, bias=config.attention_bias)
        self.v = nn.Linear(config.d_model, kv_width, bias=config.attention_bias)
        self.o = nn.Linear(width, config.d_model, bias=config.output_bias)

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """Mix x (r, n, d) over the keys that `span` lets each token see."""
        q, k, v = (self.heads(project(x)) for project in (self.q, self.k, self.v))
        if span.rotation is not None:
            q, k = rotate(q, span.rotation), rotate(k, span.rotation)
        if span.cache is not None:
            k, v = span.cache.append(self.layer, k, v)
        y = attend(q, k, v, span)
        mixed: Tensor = self.o(y.transpose(1, 2).flatten(2))
        return mixed

    def heads(self, x: Tensor) -> Tensor:
        """(r, n, heads * e) to (r, heads, n, e)."""
        return x.view(*x.shape[:2], -1, self.head_dim).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, span: Span) -> Tensor:
    """Softmax attention of q (r, h, n, e) over k, v (r, g, t, e); g divides h."""
    grouped = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=span.mask, is_causal=span.causal, enable_gqa=grouped
    )


class GatedMLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.d_mlp, bias=config.mlp_bias)
        self.up = nn.Linear(config.d_model, config.d_mlp, bias=config.mlp_bias)
        self.down = nn.Linear(config.d_mlp, config.d_model, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(r, n, d) to (r, n, d)."""
        y: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return y


class PlainMLP(nn.Module):
    """down(activation(up(x)))."""

    def __init__(self, config: GPTConfig, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation
        self.up = nn.Linear(config.d_model, config.d_mlp, bias=config.mlp_bias)
        self.down = nn.Linear(config.d_mlp, config.d_model, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(r, n, d) to (r, n, d)."""
        y: Tensor = self.down(self.activation(self.up(x)))
        return y


POSITIONS: dict[Positions, type[LearnedPositions | RotaryPositions]] = {
    "learned": LearnedPositions,
    "rotary": RotaryPositions,
}
NORMS: dict[Norm, Callable[[GPTConfig], nn.Module]] = {
    "layernorm": lambda config: nn.LayerNorm(config.d_model, eps=config.norm_eps),
    "rmsnorm": lambda config: nn.RMSNorm(config.d_model, eps=config.norm_eps),
}
MLPS: dict[MLP, Callable[[GPTConfig], nn.Module]] = {
    "gelu": partial(PlainMLP, activation=F.gelu),
    "gelu_tanh": partial(PlainMLP, activation=partial(F.gelu, approximate="tanh")),
    "swiglu": GatedMLP,
}

# -------------------------------------------------------------------------------------------------------
# decoder


class Block(nn.Module):
    """Attention, then MLP, each reading a norm of the residual stream and adding to it."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.attn_norm: nn.Module = NORMS[config.norm](config)
        self.attn: nn.Module = Attention(config, layer)
        self.mlp_norm: nn.Module = NORMS[config.norm](config)
        self.mlp: nn.Module = MLPS[config.mlp](config)

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """The residual stream (r, n, d), one block later."""
        x = x + self.attn(self.attn_norm(x), span)
        mixed: Tensor = x + self.mlp(self.mlp_norm(x))
        return mixed


class GPT(nn.Module):
    """The decoder, freshly initialised; under `torch.device("meta")` without memory, until it is loaded."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        # Given a tensor, an embedding does not fill it: on the meta device filling imports 70 MB of modules.
        empty = torch.empty(config.vocab_size, config.d_model)
        self.embed = nn.Embedding(config.vocab_size, config.d_model, _weight=empty)
        self.positions = POSITIONS[config.positions](config)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.norm = NORMS[config.norm](config)
        self.head = None if config.tied_head else nn.Linear(config.d_model, config.vocab_size, bias=False)
        if not self.embed.weight.is_meta:
            self.initialise()

    def forward(
        self,
        ids: Tensor,
        *,
        cache: KeyValues | None = None,
        lengths: Sequence[int] | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (r, n, d) behind the last norm; `logits` turns those that matter into scores.

        Args:
            ids: (r, n) token ids, each row padded on the right with anything.
            cache: keys and values of the tokens before these; takes up these ones.
            lengths: how many of a row's ids are real; all of them by default. Only a cache needs to know.
            positions: (r or 1, n) where the tokens stand; by default behind the cache, or from 0.
            mask: (r or 1, 1, n, t) True where a token may look, in place of "its own position and before"; it
            may hide
                more than that rule, not less.
        """
        n = ids.shape[1]
        starts = list(cache.lengths) if cache is not None else [0]
        if positions is None:
            positions = torch.arange(n, device=ids.device) + torch.tensor(starts, device=ids.device)[:, None]
            if (
                lengths is not None
            ):  # padding stands where the last token does: there may be no position behind it
                ends = torch.tensor([start + length for start, length in zip(starts, lengths, strict=True)])
                positions = positions.minimum((ends - 1).clamp(min=0).to(ids.device)[:, None])
        x = self.positions.place(self.embed(ids), positions)
        causal = mask is None and max(starts) == 0
        if mask is None and not causal and not (n == 1 and min(starts) == max(starts)):
            mask = torch.arange(max(starts) + n, device=ids.device) <= positions[:, None, :, None]
        if mask is not None:
            mask = penalty(mask, x.dtype)
        span = Span(self.positions.rotation(positions, x.dtype), mask, causal, cache)
        for block in self.blocks:
            x = block(x, span)
        if cache is not None:
            cache.advance(lengths if lengths is not None else [n] * ids.shape[0])
        hidden: Tensor = self.norm(x)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores (..., vocab_size) of the next token, for hidden states (..., d)."""
        if self.head is None:
            return F.linear(hidden, self.embed.weight)
        scores: Tensor = self.head(hidden)
        return scores

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Fresh weights as in GPT-2: normal(0.02), 1/sqrt(2 layers) of that for what adds to the stream."""
        residual = {
            f"blocks.{i}.{part}.weight" for i in range(len(self.blocks)) for part in ("attn.o", "mlp.down")
        }
        for name, parameter in self.named_parameters():
            if name.endswith(".bias"):
                parameter.zero_()
            elif parameter.ndim == 1:
                parameter.fill_(1.0)
            else:
                scale = 1 / math.sqrt(2 * len(self.blocks)) if name in residual else 1.0
                parameter.normal_(0.0, 0.02 * scale, generator=generator)


def penalty(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What to add to the scores: 0 where `mask` is true, else minus infinity.

    Numbers and not booleans: the attention kernel would turn the booleans into these again in every layer.
    """
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -torch.inf)
