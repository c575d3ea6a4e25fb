"""Which weights these are: a hash that an adapter remembers its base by.

It covers every tensor's name, kind, shape and bytes, and nothing else: not the file's layout, its metadata
or its path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch

from model.quantized import Q4_1, Weight


def identity(weights: Mapping[str, Weight]) -> str:
    """SHA-256 of a checkpoint's weights, in hexadecimal; about a second a gigabyte."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        weight = weights[name]
        if isinstance(weight, torch.Tensor):
            parts = {"dense": weight}
        else:
            parts = {"codes": weight.codes, "scale": weight.scale}
            if isinstance(weight, Q4_1):
                parts["minimum"] = weight.minimum
        for part, tensor in parts.items():
            digest.update(f"{name} {part} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
