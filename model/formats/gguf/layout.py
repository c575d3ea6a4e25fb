"""Walk a GGUF header and hold every figure in it against the size of the file.

A GGUF states its own counts, lengths, shapes and offsets. The `gguf` package trusts them (a false array
length makes it loop for hours), so this comes first. The layout is the one of the GGUF specification, version
2 and 3, little-endian.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path

import gguf
from gguf import GGMLQuantizationType as Kind

from model.errors import CheckpointError, UnsupportedModel

MAGIC = b"GGUF"
SCALAR_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
MAX_DIMENSIONS = 4
MAX_DEPTH = 4  #: arrays of arrays


def check_layout(path: Path) -> None:
    """Hold every count, length, shape and offset against the file's size.

    Raises:
        CheckpointError: not a GGUF, truncated, or figures that do not fit together.
        UnsupportedModel: another version, or a tensor type that `gguf` does not know.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            _Header(path, view).check()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist.") from error
    except (OSError, ValueError) as error:  # mmap refuses an empty file with ValueError
        raise CheckpointError(f"{path} cannot be read as GGUF: {error}.") from error


class _Header:
    """A cursor over the header that never leaves the file."""

    def __init__(self, path: Path, view: mmap.mmap) -> None:
        self.path = path
        self.view = view
        self.at = 0

    def check(self) -> None:
        if self.view[:4] != MAGIC:
            raise CheckpointError(f"{self.path} is not a GGUF file.")
        self.at = 4
        version, n_tensors, n_fields = self.number("I"), self.number("Q"), self.number("Q")
        if version not in (2, 3):
            raise UnsupportedModel(
                f"{self.path}: GGUF version {version} is not supported; supported are 2 and 3."
            )
        alignment = gguf.GGUF_DEFAULT_ALIGNMENT
        for _ in range(n_fields):
            key, kind = self.text(), self.number("I")
            if key == b"general.alignment" and kind == 4:
                alignment = struct.unpack_from("<I", self.take(4))[0]
                continue
            self.skip_value(kind, 0)
        if alignment <= 0 or alignment & (alignment - 1):
            raise CheckpointError(f"{self.path}: the alignment {alignment} is not a power of two.")
        extents = [self.tensor_extent() for _ in range(n_tensors)]
        start = -(-self.at // alignment) * alignment
        end = start
        for offset, size, name in sorted(extents):
            if start + offset < end or start + offset + size > len(self.view):
                raise CheckpointError(
                    f"{self.path}: tensor {name} lies outside its place in the file; is it truncated?"
                )
            end = start + offset + size

    def take(self, size: int) -> bytes:
        if size > len(self.view) - self.at:
            raise CheckpointError(
                f"{self.path}: the header asks for {size} bytes at {self.at}; is the file truncated?"
            )
        self.at += size
        return self.view[self.at - size : self.at]

    def number(self, code: str) -> int:
        return int(struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0])

    def text(self) -> bytes:
        return self.take(self.number("Q"))

    def skip_value(self, kind: int, depth: int) -> None:
        if kind == STRING:
            self.text()
        elif kind == ARRAY and depth < MAX_DEPTH:
            item, count = self.number("I"), self.number("Q")
            if item in SCALAR_FORMATS:
                self.take(count * struct.calcsize("<" + SCALAR_FORMATS[item]))
            else:
                for _ in range(
                    count
                ):  # each takes at least 8 bytes, so a false count runs into the file's end
                    self.skip_value(item, depth + 1)
        elif kind in SCALAR_FORMATS:
            self.take(struct.calcsize("<" + SCALAR_FORMATS[kind]))
        else:
            raise CheckpointError(f"{self.path}: value type {kind} at {self.at} is unknown.")

    def tensor_extent(self) -> tuple[int, int, str]:
        """(offset within the data, bytes, name) of one tensor."""
        name = self.text().decode("utf-8", "replace")
        n_dims = self.number("I")
        if n_dims > MAX_DIMENSIONS:
            raise CheckpointError(f"{self.path}: tensor {name} claims {n_dims} dimensions.")
        shape = [self.number("Q") for _ in range(n_dims)]
        kind, offset = self.number("I"), self.number("Q")
        if kind not in gguf.GGML_QUANT_SIZES:
            raise UnsupportedModel(f"{self.path}: tensor {name} has the unknown type {kind}.")
        per_block, block_bytes = gguf.GGML_QUANT_SIZES[Kind(kind)]
        if not shape or shape[0] % per_block or 0 in shape:
            raise CheckpointError(
                f"{self.path}: tensor {name} has shape {shape[::-1]}, which does not fit its type."
            )
        return offset, math.prod(shape) // per_block * block_bytes, name
