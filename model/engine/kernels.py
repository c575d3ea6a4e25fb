"""The decoder's parts replaced by faster ones that compute the same.

Reading one token means reading every weight, so the time of a step is the size of the weights. torch's 4-bit
kernel (`aten::_weight_int4pack_mm_for_cpu`) multiplies up to some rows by codes of 4 bits in groups of 32,
each group with a scale and a zero: value = (code - 8) * scale + zero. What this module packs into it:

* Q4_1 blocks, code for code: scale = d, zero = m + 8 d.
* Everything else as 8 bits, a code q = 16 h + l split into two codes of 4: the same input is multiplied by h
  + 8 with scale 16 d and by l with scale d, zero 8 d, side by side in one matrix twice as wide. Q8_0 blocks
  keep their codes; dense weights are rounded to Q8_0 first.

The kernel keeps scale and zero in bf16 and takes bf16 input, so a packed product differs from the exact one
by about as much as a bf16 one does (relative error 2.3e-3 against 2.3e-3 on SmolLM2's matrices, a plain
row-wise int8 13e-3).

Module by module, the replacements hold the dense projections for many rows and the packed ones for few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.axes.mlps import GatedMLP, PlainMLP
from model.axes.positions import rotate
from model.engine.adapters import Stack, Switch
from model.engine.head import Head
from model.gpt import GPT, Attention, Block, Span, attend
from model.lora import projections
from model.memory import give_back
from model.quantized import BLOCK, Q4_1, Q8_0, Weight, dense

#: Up to so many rows the packed kernel is used: its time grows by the row, a dense product's does not until
#: about 16.
FEW_ROWS = 8
#: Key-value heads up to which one query attends by `attend_stacked`.
MOST_STACKED_HEADS = 4
#: Keys from which on it does: with fewer, what two products cost at least outweighs what they save.
FEWEST_STACKED_KEYS = 512
#: Queries that `attend_tiled` takes at a time: their scores of 1,000 keys still fit the second-level cache.
TILE = 128
#: Rows that are packed at a time; a multiple of the kernel's blocks of 32 or 64.
PACK_ROWS = 4096
#: The kernel's own granularity: outputs a multiple of this.
OUTPUTS = 16


class PackedLinear(nn.Module):
    """A product with one or more weight matrices of equal input, stacked and packed to 4 or 8 bits."""

    def __init__(self, weights: Sequence[Weight], biases: Sequence[Tensor | None] = ()) -> None:
        super().__init__()
        stacked = _stack(weights)
        self.outputs, self.doubled = stacked.shape[0], isinstance(stacked, Q8_0)
        groups = stacked.scale.shape[1] * (2 if self.doubled else 1)
        self.codes = torch.empty(self.outputs, groups * BLOCK // 2, dtype=torch.uint8)
        self.scales = torch.empty(groups, self.outputs, 2, dtype=torch.bfloat16)
        for start in range(0, self.outputs, PACK_ROWS):  # the kernel wants 32 bits a code, for a while
            rows = slice(start, start + PACK_ROWS)
            codes, scale, zero = _nibbles(stacked, rows)
            self.codes[rows] = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.int(), 1)
            self.scales[:, rows] = torch.stack((scale.T, zero.T), -1)
        given = [bias for bias in biases if bias is not None]
        assert not given or len(given) == len(weights), (
            "either all of the stacked projections have a bias or none"
        )
        self.bias = torch.cat(given) if given else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out of all), in x's dtype."""
        y = self.product(x)
        return y if self.bias is None else y + self.bias

    def product(self, x: Tensor) -> Tensor:
        """The same without the bias."""
        rows = x.reshape(-1, x.shape[-1]).bfloat16()
        if self.doubled:
            rows = torch.cat((rows, rows), -1)
        y: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
            rows.contiguous(), self.codes, BLOCK, self.scales
        )
        return y.to(x.dtype).view(*x.shape[:-1], self.outputs)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return int(self.codes.nbytes + self.scales.nbytes)


def packable(*weights: Weight) -> bool:
    """Whether the kernel takes matrices of these shapes."""
    return all(w.shape[0] % OUTPUTS == 0 and w.shape[1] % BLOCK == 0 for w in weights)


def quantize_q8_0(weight: Tensor) -> Q8_0:
    """A dense (out, in) matrix rounded to 8 bits in blocks of 32, each scaled to its largest magnitude."""
    blocks = weight.float().view(weight.shape[0], -1, BLOCK)
    scale = (blocks.abs().amax(-1) / 127).half()
    step = scale.float()[..., None]
    codes = torch.where(step > 0, blocks / step, 0).round().clamp(-127, 127)
    return Q8_0(codes.flatten(1).to(torch.int8), scale)


def _stack(weights: Sequence[Weight]) -> Q4_1 | Q8_0:
    """Matrices under one another: Q4_1 where all are, else Q8_0."""
    if all(isinstance(weight, Q4_1) for weight in weights):
        fours = [weight for weight in weights if isinstance(weight, Q4_1)]
        minimum = torch.cat([w.minimum for w in fours])
        return Q4_1(torch.cat([w.codes for w in fours]), torch.cat([w.scale for w in fours]), minimum)
    eights = [weight if isinstance(weight, Q8_0) else quantize_q8_0(dense(weight)) for weight in weights]
    return Q8_0(torch.cat([w.codes for w in eights]), torch.cat([w.scale for w in eights]))


def _nibbles(weight: Q4_1 | Q8_0, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Codes 0..15 of some rows, and scale and zero of each group, in float32.

    8-bit codes become their high halves left of their low ones, a matrix twice as wide.
    """
    codes, scale = weight.codes[rows], weight.scale[rows].float()
    if isinstance(weight, Q4_1):
        return codes, scale, weight.minimum[rows].float() + 8 * scale
    halves = torch.cat(((codes >> 4) + 8, codes & 15), -1)
    return halves, torch.cat((16 * scale, scale), -1), torch.cat((torch.zeros_like(scale), 8 * scale), -1)


class FastRMSNorm(nn.Module):
    """RMSNorm as one fused kernel: the LayerNorm of [x, -x], with mean 0 and the mean square as variance.

    torch computes an RMSNorm on a CPU as a chain of small operations, three times as slow on one row; on many
    rows that makes no difference.
    """

    def __init__(self, norm: nn.RMSNorm) -> None:
        super().__init__()
        assert norm.eps is not None and norm.weight is not None
        self.eps, self.width = norm.eps, norm.weight.shape[0]
        self.weight = norm.weight
        self.twice = torch.cat((norm.weight.detach(), norm.weight.detach()))

    def forward(self, x: Tensor) -> Tensor:
        """(r, n, width) to (r, n, width)."""
        if x.shape[0] * x.shape[1] > FEW_ROWS:
            return F.rms_norm(x, (self.width,), self.weight, self.eps)
        both = F.layer_norm(torch.cat((x, -x), -1), (2 * self.width,), self.twice, None, self.eps)
        return both[..., : self.width]


class FastAttention(nn.Module):
    """Attention whose q, k and v are one packed product for few rows, with `Kernels`' ways of attending."""

    def __init__(
        self,
        plain: Attention,
        qkv: PackedLinear | None,
        o: PackedLinear | None,
        *,
        tiled: bool,
        switch: Switch,
    ) -> None:
        super().__init__()
        self.plain, self.qkv, self.o, self.tiled, self.switch = plain, qkv, o, tiled, switch
        self.q_heads = plain.q.out_features // plain.head_dim
        self.kv_heads = plain.k.out_features // plain.head_dim
        group = torch.arange(self.q_heads)[:, None] // (self.q_heads // self.kv_heads)
        #: (h, g, 1): 1 where a query head reads a key-value head
        self.reads = (group == torch.arange(self.kv_heads)).to(plain.q.weight.dtype)[..., None]

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """As `Attention.forward`."""
        few = x.shape[0] * x.shape[1] <= FEW_ROWS
        plain, adapter = self.plain, self.switch.layer(self.plain.layer)
        if few and self.qkv is not None:
            stacked = _packed(x, self.qkv, adapter.qkv)
            turned, v = plain.heads(stacked).tensor_split((self.q_heads + self.kv_heads,), 1)
            if span.rotation is not None:
                turned = rotate(turned, span.rotation)
            q, k = turned.tensor_split((self.q_heads,), 1)
        else:
            apart = _dense(x, (plain.q, plain.k, plain.v), adapter.qkv)
            q, k, v = (plain.heads(projected) for projected in apart)
            if span.rotation is not None:
                q, k = rotate(q, span.rotation), rotate(k, span.rotation)
        if span.cache is not None:
            k, v = span.cache.append(plain.layer, k, v)
        if x.shape[1] == 1:
            y = self._one_query(q, k, v, span)
        elif self.switch.singly:
            y = self._each_query(q, k, v, span)
        elif self.tiled and not few:
            y = attend_tiled(q, k, v, span)
        else:
            y = attend(q, k, v, span)
        y = y.transpose(1, 2).flatten(2)
        if few and self.o is not None:
            return _packed(y, self.o, adapter.o)
        return _dense(y, (plain.o,), adapter.o)[0]

    def _one_query(self, q: Tensor, k: Tensor, v: Tensor, span: Span) -> Tensor:
        at_once = self.kv_heads <= MOST_STACKED_HEADS and k.shape[2] >= FEWEST_STACKED_KEYS
        return attend_stacked(q, k, v, span, self.reads) if at_once else attend_grouped(q, k, v, span)

    def _each_query(self, q: Tensor, k: Tensor, v: Tensor, span: Span) -> Tensor:
        """One query after another, each with the keys up to its own: for one row."""
        alone = replace(span, mask=None, causal=False)
        first = k.shape[2] - q.shape[2] + 1
        parts = [
            self._one_query(q[:, :, i : i + 1], k[:, :, : first + i], v[:, :, : first + i], alone)
            for i in range(q.shape[2])
        ]
        return torch.cat(parts, 2)


def _packed(x: Tensor, packed: PackedLinear, corrections: Stack | None) -> Tensor:
    """A packed product, corrected where an adapter speaks."""
    y: Tensor = packed(x) if corrections is None else corrections.beside(x, packed)
    return y


def _dense(x: Tensor, projections: Sequence[nn.Linear], corrections: Stack | None) -> list[Tensor]:
    """Dense products of one input, corrected where an adapter speaks."""
    if corrections is None:
        return [project(x) for project in projections]
    return corrections.apart(x, projections)


def attend_grouped(q: Tensor, k: Tensor, v: Tensor, span: Span) -> Tensor:
    """`attend` for one query a row, (r, h, 1, e): heads that share keys become queries of one head.

    torch would copy keys and values once for each of them.
    """
    rows, heads, _, width = q.shape
    y = F.scaled_dot_product_attention(q.reshape(rows, k.shape[1], -1, width), k, v, attn_mask=span.mask)
    return y.reshape(rows, heads, 1, width)


def attend_stacked(q: Tensor, k: Tensor, v: Tensor, span: Span, reads: Tensor) -> Tensor:
    """`attend` for one query a row, (r, h, 1, e), as two plain products.

    A query head is laid into the place of the key-value head that it reads, zeros elsewhere, so that one
    product with all keys (t, g * e), as they lie in the cache, gives every head's scores. That computes g
    times too much, of which nobody notices anything: the time goes into reading the keys.
    """
    rows, heads, _, width = q.shape
    keys, values = k.transpose(1, 2).flatten(2), v.transpose(1, 2).flatten(2)
    laid = (q * reads).mul_(width**-0.5).view(rows, heads, -1)
    scores = torch.bmm(laid, keys.transpose(1, 2))
    if span.mask is not None:
        scores += span.mask[:, 0]
    mixed = torch.bmm(scores.softmax(-1), values).view(rows, heads, -1, width)
    return (mixed * reads).sum(2, keepdim=True)


def attend_tiled(q: Tensor, k: Tensor, v: Tensor, span: Span) -> Tensor:
    """`attend`, `TILE` queries at a time, keys behind the last of them left out.

    Faster than torch's attention on a CPU with bf16 products but without a matrix unit; the scores are
    rounded to bf16, which changes a next-token distribution by less than bf16 weights do (KL 8e-4 both ways
    on SmolLM2).
    """
    rows, heads, n, width = q.shape
    groups, past = k.shape[1], k.shape[2] - n
    q = q * width**-0.5
    y = torch.empty(rows, n, heads, width, dtype=q.dtype).transpose(1, 2)
    for start in range(0, n, TILE):
        end = min(start + TILE, n)
        seen = past + end
        keys, values = k[:, :, :seen].flatten(0, 1), v[:, :, :seen].flatten(0, 1)
        scores = torch.bmm(q[:, :, start:end].reshape(rows * groups, -1, width), keys.transpose(1, 2))
        apart = scores.view(rows, heads, end - start, seen)
        if span.mask is not None:
            apart += span.mask[:, :, start:end, :seen]
        elif span.causal:
            ahead = torch.full((end - start, end - start), -torch.inf, dtype=q.dtype).triu(1)
            apart[..., start:] += ahead
        y[:, :, start:end] = torch.bmm(scores.softmax(-1), values).view(rows, heads, end - start, width)
    return y


class FastMLP(nn.Module):
    """An MLP whose first projections are one packed product for few rows."""

    def __init__(
        self,
        plain: GatedMLP | PlainMLP,
        layer: int,
        first: PackedLinear | None,
        down: PackedLinear | None,
        *,
        switch: Switch,
    ) -> None:
        super().__init__()
        self.plain, self.layer, self.first, self.down, self.switch = plain, layer, first, down, switch

    def forward(self, x: Tensor) -> Tensor:
        """(r, n, d) to (r, n, d)."""
        plain, adapter = self.plain, self.switch.layer(self.layer)
        if self.first is not None and self.down is not None and x.shape[0] * x.shape[1] <= FEW_ROWS:
            stacked = _packed(x, self.first, adapter.first)
            if isinstance(plain, GatedMLP):
                gate, up = stacked.chunk(2, -1)
                inner = plain.activation(gate).mul_(up)
            else:
                inner = plain.activation(stacked)
            return _packed(inner, self.down, adapter.down)
        if isinstance(plain, GatedMLP):
            gate, up = _dense(x, (plain.gate, plain.up), adapter.first)
            inner = plain.activation(gate) * up
        else:
            inner = plain.activation(_dense(x, (plain.up,), adapter.first)[0])
        return _dense(inner, (plain.down,), adapter.down)[0]


def install(model: GPT, weights: Mapping[str, Weight], *, packed: bool, tiled: bool) -> None:
    """Replace the parts of a loaded decoder; `weights` are the checkpoint's, before any rounding."""

    def pack(prefix: str, modules: Mapping[str, nn.Linear]) -> PackedLinear | None:
        matrices = [weights[f"{prefix}{name}.weight"] for name in modules]
        if not packed or not packable(*matrices):
            return None
        return PackedLinear(matrices, [module.bias for module in modules.values()])

    switch = Switch()
    for i, block in enumerate(model.blocks):
        attn, mlp = block.get_submodule("attn"), block.get_submodule("mlp")
        assert (
            isinstance(block, Block) and isinstance(attn, Attention) and isinstance(mlp, GatedMLP | PlainMLP)
        )
        at = f"blocks.{i}."
        qkv = pack(f"{at}attn.", {"q": attn.q, "k": attn.k, "v": attn.v})
        o = pack(f"{at}attn.", {"o": attn.o})
        block.attn = FastAttention(attn, qkv, o, tiled=tiled, switch=switch)
        inner = {"gate": mlp.gate, "up": mlp.up} if isinstance(mlp, GatedMLP) else {"up": mlp.up}
        first = pack(f"{at}mlp.", inner)
        down = pack(f"{at}mlp.", {"down": mlp.down})
        block.mlp = FastMLP(mlp, i, first, down, switch=switch)
        block.attn_norm, block.mlp_norm = _fast_norm(block.attn_norm), _fast_norm(block.mlp_norm)
        give_back()
    model.norm = _fast_norm(model.norm)
    rows = model.head_rows().detach()
    stored = weights["embed.weight" if model.head is None else "head.weight"]
    stored = stored if model.config.head == "linear" else rows  # else the head's rows are not those stored
    few = PackedLinear([stored]) if packed and packable(stored) else None
    model.head = Head(rows, few, FEW_ROWS)


def row_by_row(model: GPT) -> bool:
    """Whether a few rows come out to the last bit as each does alone: where every product is packed."""
    parts = [
        part
        for module in model.modules()
        for part in (
            (module.qkv, module.o) if isinstance(module, FastAttention)
            else (module.first, module.down) if isinstance(module, FastMLP)
            else (module.packed,) if isinstance(module, Head)
            else ()
        )
    ]  # fmt: skip
    return all(part is not None for part in parts)


def switch_of(model: GPT) -> Switch:
    """The switch that a decoder's replaced parts look at."""
    return next(module.switch for module in model.modules() if isinstance(module, FastAttention))


def matrices(model: GPT) -> dict[str, Tensor]:
    """The dense projections (out, in) behind the replaced parts, by native module name."""
    return {name.replace(".plain.", "."): module.weight for name, module in projections(model).items()}


def _fast_norm(norm: nn.Module) -> nn.Module:
    return FastRMSNorm(norm) if isinstance(norm, nn.RMSNorm) else norm
