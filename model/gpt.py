"""One decoder whose orthogonal axes give every family this house reads.

A decoder is token embedding, blocks of causal self-attention and MLP around a residual stream, a last norm
and an output head (arXiv 1706.03762, pre-norm as in GPT-2). `GPTConfig` chooses one entry from each of the
small tables in `model.axes`:

    positions       learned (GPT-2) | sinusoidal | rotary, which may be stretched
    norm            layernorm | rmsnorm
    mlp             an activation, plain or gated
    head            linear | normhead
    initialisation  gpt2 | xavier | kaiming

and, independently, the number of key-value heads (arXiv 2305.13245), the biases, dropout, and whether the
head is the embedding. Learned + layernorm + gelu_tanh + biases is GPT-2; rotary + rmsnorm + swiglu + grouped
heads is Llama and SmolLM2.

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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.axes.heads import HEADS, ROWS
from model.axes.initialise import initialise
from model.axes.mlps import mlp
from model.axes.norms import NORMS
from model.axes.positions import POSITIONS, rotate
from model.config import GPTConfig


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
    dropout: float = 0.0  #: share of attention's probabilities that training leaves out


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
        q, k, v, attn_mask=span.mask, dropout_p=span.dropout, is_causal=span.causal, enable_gqa=grouped
    )


# -------------------------------------------------------------------------------------------------------
# decoder


class Block(nn.Module):
    """Attention, then MLP, each reading a norm of the residual stream and adding to it."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.attn_norm: nn.Module = NORMS[config.norm](config)
        self.attn: nn.Module = Attention(config, layer)
        self.mlp_norm: nn.Module = NORMS[config.norm](config)
        self.mlp: nn.Module = mlp(config)

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """The residual stream (r, n, d), one block later."""
        x = x + self.attn(self.attn_norm(x), span)
        mixed: Tensor = x + self.mlp(self.mlp_norm(x))
        return mixed


class DroppingBlock(Block):
    """`Block`, leaving out some of what each part adds while it is trained (arXiv 1706.03762, 5.4)."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.drop = nn.Dropout(config.residual_dropout)

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """The residual stream (r, n, d), one block later."""
        x = x + self.drop(self.attn(self.attn_norm(x), span))
        mixed: Tensor = x + self.drop(self.mlp(self.mlp_norm(x)))
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
        self.drop = nn.Dropout(config.embed_dropout)
        block = DroppingBlock if config.residual_dropout else Block
        self.blocks = nn.ModuleList(block(config, layer) for layer in range(config.n_layers))
        self.norm = NORMS[config.norm](config)
        head = HEADS[config.head]
        self.head = None if config.tied_head else head(config.d_model, config.vocab_size, bias=False)
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
        x = self.drop(self.positions.place(self.embed(ids), positions))
        causal = mask is None and max(starts) == 0
        if mask is None and not causal and not (n == 1 and min(starts) == max(starts)):
            mask = torch.arange(max(starts) + n, device=ids.device) <= positions[:, None, :, None]
        if mask is not None:
            mask = penalty(mask, x.dtype)
        dropout = self.config.attention_dropout if self.training else 0.0
        span = Span(self.positions.rotation(positions, x.dtype), mask, causal, cache, dropout)
        for block in self.blocks:
            x = block(x, span)
        if cache is not None:
            cache.advance(lengths if lengths is not None else [n] * ids.shape[0])
        hidden: Tensor = self.norm(x)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores (..., vocab_size) of the next token, for hidden states (..., d)."""
        if self.head is None:
            return F.linear(hidden, self.head_rows())
        scores: Tensor = self.head(hidden)
        return scores

    def head_rows(self) -> Tensor:
        """The rows (vocab_size, d) that a hidden state is multiplied with to give scores."""
        matrix = self.embed.weight if self.head is None else self.head.weight
        return ROWS[self.config.head](matrix)

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Fresh weights, as the config's `initialisation` says."""
        initialise(self, self.config, generator)


def penalty(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What to add to the scores: 0 where `mask` is true, else minus infinity.

    Numbers and not booleans: the attention kernel would turn the booleans into these again in every layer.
    """
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -torch.inf)
