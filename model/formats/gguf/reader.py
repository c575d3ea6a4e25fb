"""Read GGUF files of the `llama`, `qwen2` and `gpt2` architectures through the `gguf` package.

Q4_0, Q4_1 and Q8_0 matrices keep their blocks exactly, F32, F16 and BF16 tensors their dtype (`blocks` says
what becomes of the others). The tokenizer comes out as a Hugging Face `tokenizer.json`. The header is checked
by `layout` before the package may read it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import gguf
import numpy as np

from model.checkpoint import check
from model.config import GPTConfig
from model.errors import CheckpointError, ModelError, UnsupportedModel
from model.formats import Foreign
from model.formats.bpe import tokenizer_json
from model.formats.gguf.architectures import ARCHITECTURES, Architecture, heads_of, split_order, take_rows
from model.formats.gguf.blocks import decode
from model.formats.gguf.layout import check_layout
from model.quantized import Weight

Value = TypeVar("Value")

#: Keys of the ids that end a reply, the first one first.
EOS_KEYS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")


def read(path: Path) -> Foreign:
    """A GGUF file as config, weights, tokenizer and metadata.

    Raises:
        CheckpointError: not a GGUF, truncated, or its counts, shapes, offsets or names do not fit together.
        UnsupportedModel: another architecture, tensor type, rope scaling or tokenizer.
    """
    check_layout(path)
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, KeyError, IndexError, TypeError, OSError, OverflowError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not a readable GGUF file: {error}.") from error
    fields = _Fields(path, dict(reader.fields))
    name = fields.need("general.architecture", str)
    if name not in ARCHITECTURES:
        raise UnsupportedModel(
            f"{path}: architecture {name!r} is not supported; supported are {', '.join(ARCHITECTURES)}."
        )
    architecture = ARCHITECTURES[name]
    with _naming(path):
        config = _config(fields, architecture, {tensor.name for tensor in reader.tensors})
        weights: dict[str, Weight] = {}
        for tensor in reader.tensors:
            weights |= _native(path, architecture, config, tensor)
        check(config, weights, str(path))
    metadata = {
        "license": fields.get("general.license", str, ""),
        "chat_template": fields.get("tokenizer.chat_template", str, ""),
        "title": fields.get("general.name", str, ""),
    }
    adds_bos = fields.get("tokenizer.ggml.add_bos_token", bool, False)
    with _naming(path):
        tokenizer = tokenizer_json(
            model=fields.need("tokenizer.ggml.model", str),
            pre=fields.get("tokenizer.ggml.pre", str, "default"),
            tokens=fields.need("tokenizer.ggml.tokens", list),
            merges=fields.get("tokenizer.ggml.merges", list, []),
            kinds=fields.need("tokenizer.ggml.token_type", list),
            bos=config.bos_id if adds_bos else None,
        )
    return Foreign(config, weights, tokenizer, metadata)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors from within name the file, whether or not whoever found them knew it."""
    try:
        yield
    except ModelError as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error


def _native(
    path: Path, architecture: Architecture, config: GPTConfig, tensor: gguf.ReaderTensor
) -> dict[str, Weight]:
    """One tensor under its native name or, where it holds q, k and v, names, rows as ours are."""
    name = tensor.name
    if name == "rope_freqs.weight":
        raise UnsupportedModel(f"{path}: scaled rotary frequencies (rope_freqs.weight) are not supported.")
    native = architecture.native(name)
    if native is None:
        raise UnsupportedModel(f"{path}: tensor {name} has no place in a decoder of {architecture.name}.")
    weight = decode(path, tensor)
    if "{qkv}" in native:
        sizes = [heads * config.head_dim for heads in (config.n_heads, config.n_kv_heads, config.n_kv_heads)]
        if weight.shape[0] != sum(sizes):
            raise CheckpointError(
                f"{path}: {name} has {weight.shape[0]} rows; its q, k and v need {sum(sizes)} together."
            )
        ends = list(accumulate(sizes))
        return {
            native.replace("{qkv}", part): take_rows(weight, slice(end - size, end))
            for part, size, end in zip("qkv", sizes, ends, strict=True)
        }
    heads = heads_of(native, config)
    if architecture.interleaved and heads is not None:
        if weight.shape[0] != heads * config.head_dim:
            raise CheckpointError(
                f"{path}: {name} has {weight.shape[0]} rows, its heads need {heads * config.head_dim}."
            )
        weight = take_rows(weight, split_order(heads, config.head_dim))
    return {native: weight}


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


def _config(fields: _Fields, architecture: Architecture, tensors: set[str]) -> GPTConfig:
    """The settings under the architecture's own prefix, and what the tensors that are there say."""
    prefix = architecture.name + "."
    scaling = fields.get(prefix + "rope.scaling.type", str, "none")
    if scaling != "none":
        raise UnsupportedModel(f"{fields.path}: rope scaling {scaling!r} is not supported.")
    d_model = fields.need(prefix + "embedding_length", int)
    n_heads = fields.need(prefix + "attention.head_count", int)
    head_dim = fields.get(prefix + "attention.key_length", int, d_model // max(n_heads, 1))
    if fields.get(prefix + "attention.value_length", int, head_dim) != head_dim:
        raise UnsupportedModel(f"{fields.path}: keys and values of different length are not supported.")
    rotary = fields.get(prefix + "rope.dimension_count", int, head_dim) if architecture.rotary else head_dim
    if rotary != head_dim:
        raise UnsupportedModel(
            f"{fields.path}: rotary positions on {rotary} of {head_dim} dimensions are not supported."
        )
    ids = {key: fields.get(f"tokenizer.ggml.{key}_token_id", int, -1) for key in ("bos", "padding")}
    eos = dict.fromkeys(fields.get(key, int, -1) for key in EOS_KEYS)
    shared = GPTConfig(
        vocab_size=len(fields.need("tokenizer.ggml.tokens", list)),
        context_length=fields.need(prefix + "context_length", int),
        n_layers=fields.need(prefix + "block_count", int),
        n_heads=n_heads,
        n_kv_heads=fields.get(prefix + "attention.head_count_kv", int, n_heads),
        d_model=d_model,
        head_dim=head_dim,
        d_mlp=fields.need(prefix + "feed_forward_length", int),
        positions="rotary",
        norm="rmsnorm",
        mlp="swiglu",
        norm_eps=fields.need(prefix + architecture.eps_key, float),
        rope_theta=fields.get(prefix + "rope.freq_base", float, 10_000.0),
        attention_bias="blk.0.attn_q.bias" in tensors,
        output_bias="blk.0.attn_output.bias" in tensors,
        mlp_bias="blk.0.ffn_up.bias" in tensors,
        tied_head="output.weight" not in tensors,
        bos_id=ids["bos"] if ids["bos"] >= 0 else None,
        eos_ids=tuple(i for i in eos if i >= 0),
        pad_id=ids["padding"] if ids["padding"] >= 0 else None,
        family=architecture.name,
    )
    if architecture.rotary:
        return shared
    return replace(
        shared,
        positions="learned",
        norm="layernorm",
        mlp="gelu_tanh",
        attention_bias=True,
        output_bias=True,
        mlp_bias=True,
    )
