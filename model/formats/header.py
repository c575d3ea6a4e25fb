"""Read the header of a safetensors file without torch: names, dtypes, shapes, bytes.

The layout is the format's own specification: eight bytes of length, that much JSON, then the data without
gaps.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from model.errors import CheckpointError

LONGEST_HEADER = 100_000_000  #: the limit of the format itself
BITS = {
    "F64": 64,
    "F32": 32,
    "F16": 16,
    "BF16": 16,
    "I64": 64,
    "I32": 32,
    "I16": 16,
    "I8": 8,
    "U8": 8,
    "BOOL": 8,
}


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor as the header describes it."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int


def read_header(file: Path) -> dict[str, Stored]:
    """Name -> description of every tensor, each checked against the size of the file.

    Raises:
        CheckpointError: missing, truncated, or a header whose figures do not fit together.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if size < 8 or length > min(size - 8, LONGEST_HEADER):
                raise CheckpointError(
                    f"{file} is damaged: its header claims {length} bytes of {size}. Pull it again."
                )
            described = json.loads(opened.read(length))
        tensors = {name: _stored(entry) for name, entry in described.items() if name != "__metadata__"}
        end = max(
            (entry["data_offsets"][1] for name, entry in described.items() if name != "__metadata__"),
            default=0,
        )
    except FileNotFoundError as error:
        raise CheckpointError(f"{file} is missing. Pull the model again.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{file} is damaged: {error}. Pull the model again.") from error
    if 8 + length + end != size:
        raise CheckpointError(
            f"{file} is damaged: {size} bytes, its header accounts for {8 + length + end}. Pull it again."
        )
    return tensors


def _stored(entry: dict[str, object]) -> Stored:
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not (isinstance(dtype, str) and isinstance(shape, list) and isinstance(offsets, list)):
        raise TypeError(f"a tensor is described as {entry}")
    start, end = offsets
    if dtype in BITS and math.prod(shape) * BITS[dtype] != 8 * (end - start):
        raise ValueError(f"a tensor of {dtype} {shape} is given {end - start} bytes")
    return Stored(dtype, tuple(shape), end - start)
