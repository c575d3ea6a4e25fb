"""The decoder's parts with hand-written backward passes, for training on a CPU.

torch's own attention is slow in bfloat16 and with a mask on a CPU (in float32 without one it is quick, and is
used), and a chain of small operations keeps every intermediate result for the way back. These parts compute
the same values from the same parameters (names in the state dict do not change) and keep only what they need:
attention its rotated q, k, v, never the n x n probabilities; SwiGLU its two inputs; RMSNorm its input and one
number a row.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.axes.mlps import GatedMLP
from model.axes.positions import rotate
from model.gpt import GPT, Attention, Block, Span, attend

#: Queries whose probabilities are held at once. Small blocks skip more of the keys that lie in the future,
#: large ones make larger products.
QUERIES = 128


class Attend(torch.autograd.Function):
    """Attention over keys at or before the query, block of queries by block of queries.

    A mask may hide more, but never show a later key: keys behind a block are not even multiplied.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes them by position
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, span: Span, head_dim: int
    ) -> Tensor:
        """Q (r, n, h * e), k and v (r, n, g * e), not yet rotated, to (r, n, h * e)."""
        r, n = q.shape[:2]
        groups = k.shape[2] // head_dim
        q_, k_, v_ = (x.view(r, n, -1, head_dim).transpose(1, 2) for x in (q, k, v))
        q_, k_ = (rotate(x, span.rotation) if span.rotation is not None else x for x in (q_, k_))
        q_ = (q_ * head_dim**-0.5).view(r, groups, -1, n, head_dim)
        k_, v_ = (x.reshape(r * groups, n, head_dim) for x in (k_, v_))
        out = torch.empty_like(q).view(r, n, groups, -1, head_dim).permute(0, 2, 3, 1, 4)
        for at in range(0, n, QUERIES):
            to = min(at + QUERIES, n)
            p = _probabilities(q_, k_, span, at, to)
            out[..., at:to, :] = torch.bmm(p, v_[:, :to]).view(r, groups, -1, to - at, head_dim)
        y = out.permute(0, 3, 1, 2, 4).reshape(r, n, -1)
        ctx.save_for_backward(q_, k_, v_, y)
        ctx.span, ctx.head_dim = span, head_dim
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of q, k and v."""
        q, k, v, y = ctx.saved_tensors
        span, e = ctx.span, ctx.head_dim
        r, groups, shared, n, _ = q.shape
        gy = grads[0].view(r, n, groups, shared, e).permute(0, 2, 3, 1, 4)
        # What the softmax's backward pass subtracts: each query's sum of probability times gradient (arXiv
        # 2205.14135).
        inner = (grads[0] * y).view(r, n, groups, shared, e).sum(-1).permute(0, 2, 3, 1)
        gq, gk, gv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for at in range(0, n, QUERIES):
            to = min(at + QUERIES, n)
            p = _probabilities(q, k, span, at, to)
            pulled = gy[..., at:to, :].reshape(r * groups, -1, e)
            gv[:, :to].baddbmm_(p.transpose(1, 2), pulled)
            gs = torch.bmm(pulled, v[:, :to].transpose(1, 2))
            gs.sub_(inner[..., at:to].reshape(r * groups, -1, 1)).mul_(p)
            gq[..., at:to, :] = torch.bmm(gs, k[:, :to]).view(r, groups, shared, to - at, e)
            gk[:, :to].baddbmm_(gs.transpose(1, 2), q[..., at:to, :].reshape(r * groups, -1, e))
        gq = gq.mul_(e**-0.5).view(r, groups * shared, n, e)
        gk, gv = gk.view(r, groups, n, e), gv.view(r, groups, n, e)
        if span.rotation is not None:
            cos, signed_sin = span.rotation
            back = cos, -signed_sin  # a rotation is undone by the opposite angle
            gq, gk = rotate(gq, back), rotate(gk, back)
        gq, gk, gv = (g.transpose(1, 2).reshape(r, n, -1) for g in (gq, gk, gv))
        return gq, gk, gv, None, None


def _probabilities(q: Tensor, k: Tensor, span: Span, at: int, to: int) -> Tensor:
    """Softmax of queries at..to over keys 0..to: (r * g, shared * (to - at), to)."""
    r, groups, shared, _, e = q.shape
    scores = torch.bmm(q[..., at:to, :].reshape(r * groups, -1, e), k[:, :to].transpose(1, 2))
    by_query = scores.view(r, groups * shared, to - at, to)
    if span.mask is None:
        future = torch.ones(to - at, to - at, dtype=torch.bool, device=q.device).triu_(1)
        by_query[..., at:].masked_fill_(future, -math.inf)
    elif span.mask.dtype == torch.bool:
        by_query.masked_fill_(~span.mask[:, :, at:to, :to], -math.inf)
    else:
        by_query += span.mask[:, :, at:to, :to]
    return scores.softmax(-1)


class FusedAttention(nn.Module):
    """`Attention` without a cache; its projections stay where and what they are."""

    def __init__(self, plain: Attention) -> None:
        super().__init__()
        self.head_dim = plain.head_dim
        self.q, self.k, self.v, self.o = plain.q, plain.k, plain.v, plain.o

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """As `Attention.forward`."""
        assert span.cache is None, "training reads whole rows"
        if x.dtype == torch.float32 and span.mask is None:
            return self._whole_rows(x, span)
        y = Attend.apply(self.q(x), self.k(x), self.v(x), span, self.head_dim)  # type: ignore[no-untyped-call]
        mixed: Tensor = self.o(y)
        return mixed

    def _whole_rows(self, x: Tensor, span: Span) -> Tensor:
        """Float32 without a mask: torch's own kernel is faster there, by a quarter."""
        r, n, _ = x.shape
        q, k, v = (part(x).view(r, n, -1, self.head_dim).transpose(1, 2) for part in (self.q, self.k, self.v))
        if span.rotation is not None:
            q, k = rotate(q, span.rotation), rotate(k, span.rotation)
        y = attend(q, k, v, span)
        mixed: Tensor = self.o(y.transpose(1, 2).reshape(r, n, -1))
        return mixed


class SwiGLU(torch.autograd.Function):
    """silu(gate) * up, keeping nothing but the two."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """Elementwise."""
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of gate and up."""
        gate, up = ctx.saved_tensors
        activated = F.silu(gate)
        gup = activated.mul_(grads[0])
        ggate = torch.ops.aten.silu_backward(grads[0] * up, gate)
        return ggate, gup


class FusedMLP(nn.Module):
    """`GatedMLP`."""

    def __init__(self, plain: GatedMLP) -> None:
        super().__init__()
        self.gate, self.up, self.down = plain.gate, plain.up, plain.down

    def forward(self, x: Tensor) -> Tensor:
        """(r, n, d) to (r, n, d)."""
        y: Tensor = self.down(SwiGLU.apply(self.gate(x), self.up(x)))  # type: ignore[no-untyped-call]
        return y


class ScaledRows(torch.autograd.Function):
    """RMSNorm (arXiv 1910.07467): x / rms(x) * weight; statistics in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """(..., d) to (..., d)."""
        wide = torch.promote_types(x.dtype, torch.float32)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
        inverse = (length.square_() / x.shape[-1] + eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        y: Tensor = (x * inverse).mul_(weight).to(x.dtype)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x and, where it is trained, of the weight."""
        x, weight, inverse = ctx.saved_tensors
        gy = grads[0]
        gweight = None
        if ctx.needs_input_grad[1]:
            gweight = (gy * x * inverse).flatten(0, -2).sum(0, dtype=inverse.dtype).to(weight.dtype)
        weighted = gy * weight
        along = (weighted * x).sum(-1, keepdim=True, dtype=inverse.dtype)
        along.mul_(inverse.pow(3)).div_(-x.shape[-1])
        return torch.addcmul(weighted * inverse, x, along).to(x.dtype), gweight, None


class FusedRMSNorm(nn.Module):
    """`nn.RMSNorm` over the last dimension."""

    def __init__(self, plain: nn.RMSNorm) -> None:
        super().__init__()
        assert plain.eps is not None
        self.weight, self.eps = plain.weight, plain.eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) to (..., d)."""
        y: Tensor = ScaledRows.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call]
        return y


def quicken(model: GPT) -> None:
    """Replace the parts for which there is a faster one; parameters and their names stay.

    Attention with dropout stays torch's, and so does a gate that is not SiLU.
    """
    for block in model.blocks:
        assert isinstance(block, Block)
        if isinstance(block.attn, Attention) and not model.config.attention_dropout:
            block.attn = FusedAttention(block.attn)
        if isinstance(block.mlp, GatedMLP) and block.mlp.activation is F.silu:
            block.mlp = FusedMLP(block.mlp)
        block.attn_norm, block.mlp_norm = _norm(block.attn_norm), _norm(block.mlp_norm)
    model.norm = _norm(model.norm)


def _norm(plain: nn.Module) -> nn.Module:
    return FusedRMSNorm(plain) if isinstance(plain, nn.RMSNorm) else plain
