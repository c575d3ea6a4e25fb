"""What a native checkpoint folder holds: its files, its `config.json`, its tensors by name and shape.

`tensor_shapes` is the one list that reading, writing, checking and counting go by. This module imports no
torch, so that `inspect` and `list` stay quick. Linear weights are (out, in), as in `torch.nn.Linear`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model.config import GPTConfig
from model.errors import CheckpointError

FORMAT = "lorebase-gpt"
VERSION = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"

Shape = tuple[int, ...]

MOST_LAYERS = 4096


def is_native(path: Path) -> bool:
    """Whether the folder says of itself that it is a native checkpoint."""
    try:
        described = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(described, dict) and described.get("format") == FORMAT


def tensor_shapes(config: GPTConfig) -> dict[str, Shape]:
    """Native name -> shape of every tensor of the decoder, in the order in which they are applied."""
    if config.n_layers > MOST_LAYERS:  # before a false figure in a file makes a list of that length
        raise CheckpointError(f"config: {config.n_layers} layers cannot be right (at most {MOST_LAYERS}).")
    q, kv = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    shapes: dict[str, Shape] = {"embed.weight": (config.vocab_size, config.d_model)}
    if config.positions == "learned":
        shapes["positions.weight"] = (config.context_length, config.d_model)
    for i in range(config.n_layers):
        block = f"blocks.{i}."
        _norm(shapes, block + "attn_norm", config)
        _linear(shapes, block + "attn.q", (q, config.d_model), config.attention_bias)
        _linear(shapes, block + "attn.k", (kv, config.d_model), config.attention_bias)
        _linear(shapes, block + "attn.v", (kv, config.d_model), config.attention_bias)
        _linear(shapes, block + "attn.o", (config.d_model, q), config.output_bias)
        _norm(shapes, block + "mlp_norm", config)
        if config.gated:
            _linear(shapes, block + "mlp.gate", (config.d_mlp, config.d_model), config.mlp_bias)
        _linear(shapes, block + "mlp.up", (config.d_mlp, config.d_model), config.mlp_bias)
        if config.mlp == "prelu":
            shapes[block + "mlp.activation.weight"] = (1,)
        _linear(shapes, block + "mlp.down", (config.d_model, config.d_mlp), config.mlp_bias)
    _norm(shapes, "norm", config)
    if not config.tied_head:
        shapes["head.weight"] = (config.vocab_size, config.d_model)
    return shapes


def read_config(path: Path) -> tuple[GPTConfig, dict[str, Any]]:
    """Config and metadata of a native checkpoint folder.

    Raises:
        CheckpointError: no such folder, or not a native checkpoint of a version known here.
    """
    file = path / CONFIG_FILE
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} is not a checkpoint: it has no {CONFIG_FILE}. `model list` shows what is there."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}. Pull the model again.") from error
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not a native checkpoint; `model pull {path}` converts a Hugging Face folder."
        )
    if described.get("version") != VERSION:
        raise CheckpointError(
            f"{file}: version {described.get('version')!r}; this Lorebase reads {VERSION}. Upgrade it."
        )
    values, metadata = described.get("config"), described.get("metadata", {})
    if not isinstance(values, dict) or not isinstance(metadata, dict):
        raise CheckpointError(f"{file}: config and metadata must be objects. Pull the model again.")
    return GPTConfig.from_dict(values), metadata


def _norm(shapes: dict[str, Shape], name: str, config: GPTConfig) -> None:
    shapes[name + ".weight"] = (config.d_model,)
    if config.norm == "layernorm":
        shapes[name + ".bias"] = (config.d_model,)


def _linear(shapes: dict[str, Shape], name: str, shape: Shape, bias: bool) -> None:
    shapes[name + ".weight"] = shape
    if bias:
        shapes[name + ".bias"] = (shape[0],)
