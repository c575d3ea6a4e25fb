"""Read Llama-family GGUF files (the format of ggml and llama.cpp) through the `gguf` package.

Q4_1 and Q8_0 matrices keep their blocks exactly; F32, F16 and BF16 tensors keep their dtype. GGUF stores
the rows of q and k in another order (each head's rotary pairs interleaved instead of split in halves); a
block lies inside one row, so putting the rows back loses nothing. The tokenizer comes out as a Hugging Face
`tokenizer.json`.

A GGUF states its own counts, lengths, shapes and offsets. `gguf` trusts them (a false array length makes it
loop for hours), so `_check_layout` walks the header first and holds every figure against the size of the
file.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import Any, TypeVar

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind

from model.config import GPTConfig
from model.errors import CheckpointError, UnsupportedModel
from model.formats import Foreign
from model.formats.bpe import tokenizer_json
from model.quantized import BLOCK, Q4_1, Q8_0, Weight

Value = TypeVar("Value")

MAGIC = b"GGUF"
ARCHITECTURE = "llama"
#: GGUF name -> native name; `{i}` is the block.
NAMES = {
    "token_embd.weight": "embed.weight",
    "output_norm.weight": "norm.weight",
    "output.weight": "head.weight",
    "blk.{i}.attn_norm.weight": "blocks.{i}.attn_norm.weight",
    "blk.{i}.attn_q.weight": "blocks.{i}.attn.q.weight",
    "blk.{i}.attn_k.weight": "blocks.{i}.attn.k.weight",
    "blk.{i}.attn_v.weight": "blocks.{i}.attn.v.weight",
    "blk.{i}.attn_output.weight": "blocks.{i}.attn.o.weight",
    "blk.{i}.ffn_norm.weight": "blocks.{i}.mlp_norm.weight",
    "blk.{i}.ffn_gate.weight": "blocks.{i}.mlp.gate.weight",
    "blk.{i}.ffn_up.weight": "blocks.{i}.mlp.up.weight",
    "blk.{i}.ffn_down.weight": "blocks.{i}.mlp.down.weight",
}
SCALAR_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
MAX_DIMENSIONS = 4
MAX_DEPTH = 4  #: arrays of arrays


def read(path: Path) -> Foreign:
    """A GGUF file as config, weights, tokenizer and metadata.

    Raises:
        CheckpointError: not a GGUF, truncated, or its counts, shapes, offsets or names do not fit together.
        UnsupportedModel: another architecture, tensor type, rope scaling or tokenizer.
    """
    _check_layout(path)
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, KeyError, IndexError, TypeError, OSError, OverflowError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not a readable GGUF file: {error}.") from error
    fields = _Fields(path, dict(reader.fields))
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    config = _config(fields, tied="output.weight" not in tensors)
    weights: dict[str, Weight] = {}
    for name, tensor in tensors.items():
        if name == "rope_freqs.weight":
            raise UnsupportedModel(
                f"{path}: scaled rotary frequencies (rope_freqs.weight) are not supported."
            )
        native = _native_name(name)
        if native is None:
            raise UnsupportedModel(f"{path}: tensor {name} has no place in a Llama decoder.")
        weight = _weight(path, tensor)
        if native.endswith(("attn.q.weight", "attn.k.weight")):
            heads = config.n_heads if native.endswith("attn.q.weight") else config.n_kv_heads
            if weight.shape[0] != heads * config.head_dim:
                raise CheckpointError(
                    f"{path}: {name} has {weight.shape[0]} rows, its heads need {heads * config.head_dim}."
                )
            weight = _take_rows(weight, split_order(heads, config.head_dim))
        weights[native] = weight
    metadata = {
        "license": fields.get("general.license", str, ""),
        "chat_template": fields.get("tokenizer.chat_template", str, ""),
        "title": fields.get("general.name", str, ""),
    }
    tokenizer = tokenizer_json(
        model=fields.need("tokenizer.ggml.model", str),
        pre=fields.get("tokenizer.ggml.pre", str, "default"),
        tokens=fields.need("tokenizer.ggml.tokens", list),
        merges=fields.get("tokenizer.ggml.merges", list, []),
        kinds=fields.need("tokenizer.ggml.token_type", list),
    )
    return Foreign(config, weights, tokenizer, metadata)


def split_order(heads: int, head_dim: int) -> torch.Tensor:
    """Row indices that turn GGUF's interleaved rotary pairs into halves: new row r is old row `order[r]`.

    llama.cpp's converter writes rows (head, 2, head_dim/2) as (head, head_dim/2, 2); this is the way back.
    """
    rows = torch.arange(heads * head_dim).view(heads, head_dim // 2, 2)
    return rows.transpose(1, 2).reshape(-1)


def _take_rows(weight: Weight, order: torch.Tensor) -> Weight:
    if isinstance(weight, Q4_1):
        return Q4_1(weight.codes[order], weight.scale[order], weight.minimum[order])
    if isinstance(weight, Q8_0):
        return Q8_0(weight.codes[order], weight.scale[order])
    return weight[order]


def _native_name(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] == "blk" and len(parts) > 2 and parts[1].isdecimal():
        pattern = ".".join(("blk", "{i}", *parts[2:]))
        return NAMES[pattern].replace("{i}", str(int(parts[1]))) if pattern in NAMES else None
    return NAMES.get(name)


def _weight(path: Path, tensor: gguf.ReaderTensor) -> Weight:
    """One tensor, its blocks taken apart but not decoded."""
    shape = tuple(int(n) for n in reversed(tensor.shape))
    kind = tensor.tensor_type
    if kind in (Kind.F32, Kind.F16):
        return torch.from_numpy(np.array(tensor.data)).view(shape)
    raw = np.array(tensor.data).view(np.uint8)
    if kind == Kind.BF16:
        return torch.from_numpy(raw).view(torch.bfloat16).view(shape)
    if kind not in (Kind.Q4_1, Kind.Q8_0):
        known = "F32, F16, BF16, Q8_0, Q4_1"
        raise UnsupportedModel(
            f"{path}: {tensor.name} is {kind.name}; supported are {known}. Fetch a file in one of these."
        )
    if len(shape) != 2 or shape[1] % BLOCK:
        raise CheckpointError(
            f"{path}: {tensor.name} has shape {shape}, which cannot be cut into blocks of {BLOCK}."
        )
    blocks = raw.reshape(shape[0], shape[1] // BLOCK, -1)
    scale = torch.from_numpy(blocks[:, :, 0:2].copy().view(np.float16)[..., 0])
    if kind == Kind.Q8_0:
        return Q8_0(torch.from_numpy(blocks[:, :, 2:].copy().view(np.int8).reshape(shape)), scale)
    minimum = torch.from_numpy(blocks[:, :, 2:4].copy().view(np.float16)[..., 0])
    nibbles = blocks[:, :, 4:]
    return Q4_1(
        torch.from_numpy(np.concatenate((nibbles & 15, nibbles >> 4), axis=2).reshape(shape)), scale, minimum
    )


class _Fields:
    """The file's key-value pairs, typed on the way out."""

    def __init__(self, path: Path, fields: dict[str, Any]) -> None:
        self.path = path
        self._fields = fields

    def get(self, key: str, kind: type[Value], default: Value) -> Value:
        """The value, or `default` where the file has none."""
        return self.need(key, kind) if key in self._fields else default

    def need(self, key: str, kind: type[Value]) -> Value:
        """The value; integers pass for floats."""
        if key not in self._fields:
            raise CheckpointError(f"{self.path}: the key {key} is missing.")
        try:
            value = self._fields[key].contents()
        except (ValueError, IndexError, TypeError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{self.path}: {key} cannot be read: {error}.") from error
        if kind is float and isinstance(value, int | float):
            value = float(str(np.float32(value)))  # the file holds float32: 1e-05, not 9.999999747378752e-06
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise CheckpointError(
                f"{self.path}: {key} should be {kind.__name__}, it is {type(value).__name__}."
            )
        return value


def _config(fields: _Fields, tied: bool) -> GPTConfig:
    architecture = fields.need("general.architecture", str)
    if architecture != ARCHITECTURE:
        raise UnsupportedModel(
            f"{fields.path}: architecture {architecture!r} is not supported; supported is {ARCHITECTURE}."
        )
    scaling = fields.get("llama.rope.scaling.type", str, "none")
    if scaling != "none":
        raise UnsupportedModel(f"{fields.path}: rope scaling {scaling!r} is not supported.")
    d_model, n_heads = (
        fields.need("llama.embedding_length", int),
        fields.need("llama.attention.head_count", int),
    )
    head_dim = fields.get("llama.attention.key_length", int, d_model // max(n_heads, 1))
    rotary = fields.get("llama.rope.dimension_count", int, head_dim)
    if rotary != head_dim:
        raise UnsupportedModel(
            f"{fields.path}: rotary positions on {rotary} of {head_dim} dimensions are not supported."
        )
    eos = fields.get("tokenizer.ggml.eos_token_id", int, -1)
    bos, pad = (
        fields.get("tokenizer.ggml.bos_token_id", int, -1),
        fields.get("tokenizer.ggml.padding_token_id", int, -1),
    )
    return GPTConfig(
        vocab_size=len(fields.need("tokenizer.ggml.tokens", list)),
        context_length=fields.need("llama.context_length", int),
        n_layers=fields.need("llama.block_count", int),
        n_heads=n_heads,
        n_kv_heads=fields.get("llama.attention.head_count_kv", int, n_heads),
        d_model=d_model,
        head_dim=head_dim,
        d_mlp=fields.need("llama.feed_forward_length", int),
        positions="rotary",
        norm="rmsnorm",
        mlp="swiglu",
        norm_eps=fields.need("llama.attention.layer_norm_rms_epsilon", float),
        rope_theta=fields.get("llama.rope.freq_base", float, 10_000.0),
        tied_head=tied,
        bos_id=bos if bos >= 0 else None,
        eos_ids=(eos,) if eos >= 0 else (),
        pad_id=pad if pad >= 0 else None,
        family="llama",
    )


def _check_layout(path: Path) -> None:
    """Walk the header and hold every count, length, shape and offset against the file's size.

    The layout is the one of the GGUF specification, version 2 and 3, little-endian.
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
