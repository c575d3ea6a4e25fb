"""Tensors between GGUF's bytes and memory.

Kept exactly: F32, F16, BF16, Q8_0, Q4_1, and Q4_0 as Q4_1 (its value d * (q - 8) is d * q + m with m = -8 d,
a half-precision number again). All others (Q5, the K-quants, IQ4) have no block form here: `gguf` decodes
them, and they are kept in float16, whose rounding (relative 2^-11) is far below that of six bits, at half the
size of float32.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from model.errors import CheckpointError, UnsupportedModel
from model.quantized import BLOCK, Q4_1, Q8_0, Weight

EXACT = (Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_1, Kind.Q4_0)
DECODED = (
    Kind.Q2_K,
    Kind.Q3_K,
    Kind.Q4_K,
    Kind.Q5_K,
    Kind.Q6_K,
    Kind.Q5_0,  # these four stand in for K-quants where a row is no multiple of 256 (SmolLM2: 576)
    Kind.Q5_1,
    Kind.IQ4_NL,
    Kind.IQ4_XS,
)
ROWS = 4096  #: decoded at a time: a whole embedding in float32 would be the largest thing in memory


def decode(path: Path, tensor: gguf.ReaderTensor) -> Weight:
    """One tensor, its blocks taken apart but not decoded where there is a form for them.

    Raises:
        UnsupportedModel: another tensor type.
        CheckpointError: a shape that cannot be cut into blocks.
    """
    shape = tuple(int(n) for n in reversed(tensor.shape))
    kind = tensor.tensor_type
    if kind in (Kind.F32, Kind.F16):
        return torch.from_numpy(np.array(tensor.data)).view(shape)
    if kind not in EXACT + DECODED:
        known = ", ".join(k.name for k in EXACT + DECODED)
        raise UnsupportedModel(
            f"{path}: {tensor.name} is {kind.name}; supported are {known}. Fetch a file in one of these."
        )
    if kind == Kind.BF16:
        return torch.from_numpy(np.array(tensor.data).view(np.uint8)).view(torch.bfloat16).view(shape)
    if len(shape) != 2 or shape[1] % gguf.GGML_QUANT_SIZES[kind][0]:
        raise CheckpointError(
            f"{path}: {tensor.name} has shape {shape}, which cannot be cut into blocks of {kind.name}."
        )
    if kind in DECODED:
        return _decoded(tensor.data.view(np.uint8).reshape(shape[0], -1), kind)
    raw = np.array(tensor.data).view(np.uint8)
    blocks = raw.reshape(shape[0], shape[1] // BLOCK, -1)
    scale = torch.from_numpy(blocks[:, :, 0:2].copy().view(np.float16)[..., 0])
    if kind == Kind.Q8_0:
        return Q8_0(torch.from_numpy(blocks[:, :, 2:].copy().view(np.int8).reshape(shape)), scale)
    if kind == Kind.Q4_0:
        nibbles, minimum = blocks[:, :, 2:], scale * -8
    else:
        nibbles = blocks[:, :, 4:]
        minimum = torch.from_numpy(blocks[:, :, 2:4].copy().view(np.float16)[..., 0])
    codes = np.concatenate((nibbles & 15, nibbles >> 4), axis=2).reshape(shape)
    return Q4_1(torch.from_numpy(codes), scale, minimum)


def _decoded(rows: NDArray[np.uint8], kind: Kind) -> torch.Tensor:
    parts = []
    for start in range(0, len(rows), ROWS):
        values = torch.from_numpy(gguf.quants.dequantize(rows[start : start + ROWS], kind))
        half = values.half()
        if not bool(half.isfinite().all()):  # beyond half precision, if it is a number at all
            return torch.from_numpy(gguf.quants.dequantize(rows, kind))
        parts.append(half)
    return torch.cat(parts)


def quantize(matrix: torch.Tensor) -> Q8_0:
    """A finite matrix (out, in) as Q8_0: every value within half a scale of itself.

    The scale is the largest magnitude of a block over 127, rounded up to a half-precision number, and codes
    are made with that rounded scale. (ggml's own makes them with the exact one, which adds up to 0.06 of a
    scale to the error of large values.)

    Raises:
        CheckpointError: values too large for a half-precision scale.
    """
    blocks = matrix.float().view(matrix.shape[0], -1, BLOCK)
    exact = blocks.abs().amax(-1) / 127
    scale = exact.half()
    scale = torch.where(scale.float() < exact, torch.nextafter(scale, scale.new_tensor(torch.inf)), scale)
    if not bool(scale.isfinite().all()):
        raise CheckpointError("values of this size do not fit the half-precision scales of Q8_0.")
    codes = (blocks / scale.float().clamp(min=1e-38)[..., None]).round().clamp(-127, 127)
    return Q8_0(codes.to(torch.int8).view(matrix.shape), scale)


def q8_0_bytes(weight: Q8_0) -> NDArray[np.uint8]:
    """The blocks as they lie in a file: (out, in // 32 * 34)."""
    scale = weight.scale.contiguous().numpy().view(np.uint8).reshape(*weight.scale.shape, 2)
    codes = weight.codes.contiguous().numpy().view(np.uint8).reshape(*weight.scale.shape, BLOCK)
    return np.concatenate((scale, codes), axis=2).reshape(weight.shape[0], -1)
