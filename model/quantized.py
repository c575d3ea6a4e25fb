"""Block-quantized weight matrices, kept exactly as the file had them.

A matrix (out, in) is cut along `in` into blocks of 32. GGML's formats, as `gguf.quants` documents them:

* Q4_1: 4-bit codes q with a half-precision scale d and minimum m a block; value = d * q + m.
* Q8_0: 8-bit signed codes q with a half-precision scale d a block; value = d * q.

In a native checkpoint such a matrix `NAME` is stored as `NAME.q4_1.codes`, `NAME.q4_1.scale`,
`NAME.q4_1.minimum` (or `NAME.q8_0.codes`, `NAME.q8_0.scale`), so that nothing is lost and nothing is
inflated: the engine unpacks to bf16 or fp32 for prefill and repacks the very same codes for one-row
decoding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

BLOCK = 32


@dataclass(frozen=True, slots=True)
class Q4_1:
    """4-bit codes with scale and minimum."""

    codes: torch.Tensor  #: (out, in) uint8, one code 0..15 an element (packed two a byte only on disk)
    scale: torch.Tensor  #: (out, in // 32) float16
    minimum: torch.Tensor  #: (out, in // 32) float16

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return self.codes.shape[0], self.codes.shape[1]

    def dequantize(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """(out, in) in `dtype`; computed in float32, rounded once."""
        out = torch.empty(self.shape, dtype=dtype)
        for rows in _parts(self.shape[0]):
            blocks = self.codes[rows].view(-1, self.scale.shape[1], BLOCK).float()
            blocks.mul_(self.scale[rows].float()[..., None]).add_(self.minimum[rows].float()[..., None])
            out[rows] = blocks.flatten(1)
        return out


@dataclass(frozen=True, slots=True)
class Q8_0:
    """8-bit signed codes with a scale."""

    codes: torch.Tensor  #: (out, in) int8
    scale: torch.Tensor  #: (out, in // 32) float16

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return self.codes.shape[0], self.codes.shape[1]

    def dequantize(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """(out, in) in `dtype`; computed in float32, rounded once."""
        out = torch.empty(self.shape, dtype=dtype)
        for rows in _parts(self.shape[0]):
            blocks = self.codes[rows].view(-1, self.scale.shape[1], BLOCK).float()
            out[rows] = blocks.mul_(self.scale[rows].float()[..., None]).flatten(1)
        return out


def _parts(rows: int, size: int = 4096) -> list[slice]:
    """Slices of a matrix's rows: a whole embedding in float32 would be the largest thing in memory."""
    return [slice(start, start + size) for start in range(0, rows, size)]


Quantized = Q4_1 | Q8_0
Weight = torch.Tensor | Q4_1 | Q8_0


def dense(weight: Weight, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Any weight as a plain tensor of `dtype`."""
    return weight.to(dtype) if isinstance(weight, torch.Tensor) else weight.dequantize(dtype)
