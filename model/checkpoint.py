"""The native checkpoint: a folder with `config.json`, `model.safetensors` and `tokenizer.json`.

`config.json` holds `{"format": "lorebase-gpt", "version": 1, "config": GPTConfig, "metadata": {...}}`; the
tensors have the names and shapes that `model.layout` lists, quantized matrices in parts as
`model.quantized` says. A checkpoint is loaded strictly: a tensor that is missing, extra, or of another
shape is an error that names it, for a decoder that starts with a random layer looks healthy and answers
nonsense. Loading maps the file instead of reading it.

On disk Q4_1 codes are packed two a byte in GGML's order: within a block of 32, byte j holds element j in
its low and element j + 16 in its high half, so what a GGUF held is stored untouched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from model import folder
from model.config import GPTConfig
from model.errors import CheckpointError
from model.layout import (
    CONFIG_FILE,
    FORMAT,
    TOKENIZER_FILE,
    VERSION,
    WEIGHTS_FILE,
    read_config,
    tensor_shapes,
)
from model.quantized import BLOCK, Q4_1, Q8_0, Weight

#: Parts of a quantized matrix: suffix -> dtype on disk.
PARTS: dict[str, dict[str, torch.dtype]] = {
    "q4_1": {"codes": torch.uint8, "scale": torch.float16, "minimum": torch.float16},
    "q8_0": {"codes": torch.int8, "scale": torch.float16},
}
DENSE_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint. Dense tensors lie in the mapped file: do not write to them."""

    path: Path
    config: GPTConfig
    weights: dict[str, Weight]
    tokenizer_file: Path
    metadata: dict[str, Any]


def load(path: Path) -> Checkpoint:
    """Read a native checkpoint folder, strictly.

    Raises:
        CheckpointError: no such folder, a file missing or damaged, tensors missing, extra or mis-shaped.
    """
    folder.recover(path)
    config, metadata = read_config(path)
    tokenizer_file = path / TOKENIZER_FILE
    if not tokenizer_file.is_file():
        raise CheckpointError(f"{path}: {TOKENIZER_FILE} is missing. Pull the model again.")
    weights = _assemble(_read_tensors(path / WEIGHTS_FILE), path / WEIGHTS_FILE)
    check(config, weights, str(path))
    return Checkpoint(path, config, weights, tokenizer_file, metadata)


def save(
    path: Path,
    config: GPTConfig,
    weights: Mapping[str, Weight],
    tokenizer: Path | bytes,
    metadata: Mapping[str, Any],
) -> None:
    """Write a native checkpoint folder; a crash at any instant leaves the old folder or the new one.

    `tokenizer` is a `tokenizer.json` of the Hugging Face tokenizers library, as a path or as its bytes.

    Raises:
        CheckpointError: tensors that do not fit the config, or the disk refused.
    """
    check(config, weights, str(path))
    tokenizer_bytes = tokenizer if isinstance(tokenizer, bytes) else tokenizer.read_bytes()
    described = {"format": FORMAT, "version": VERSION, "config": config.to_dict(), "metadata": dict(metadata)}
    origin = {
        key: metadata[key] for key in ("source", "sha256", "recipe", "stamp", "license") if key in metadata
    }
    with folder.replaced(path, {"kind": "generator"} | origin) as new:
        (new / CONFIG_FILE).write_text(
            json.dumps(described, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        (new / TOKENIZER_FILE).write_bytes(tokenizer_bytes)
        try:
            save_file(_take_apart(weights), new / WEIGHTS_FILE, metadata={"format": "pt"})
        except SafetensorError as error:  # also what it makes of a full disk
            raise CheckpointError(f"{path} could not be written: {error}. Check the free space.") from error
        (new / WEIGHTS_FILE).chmod(0o644)  # safetensors writes 0600; a service may run as another user


def check(config: GPTConfig, weights: Mapping[str, Weight], where: str) -> None:
    """Compare names, shapes and dtypes with what the config calls for.

    Raises:
        CheckpointError: names the tensors that are missing or extra, or the first one of another shape.
    """
    expected = tensor_shapes(config)
    for problem, names in (
        ("missing", expected.keys() - weights.keys()),
        ("unexpected", weights.keys() - expected.keys()),
    ):
        if names:
            listed = ", ".join(sorted(names)[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise CheckpointError(f"{where}: {problem} tensors: {listed}.")
    for name, shape in expected.items():
        weight = weights[name]
        if isinstance(weight, torch.Tensor) and weight.dtype not in DENSE_DTYPES:
            raise CheckpointError(
                f"{where}: {name} is {weight.dtype}; dense tensors are float32, float16 or bfloat16."
            )
        if tuple(weights[name].shape) != shape:
            raise CheckpointError(
                f"{where}: {name} has shape {tuple(weights[name].shape)}, the config asks for {shape}."
            )


def pack_codes(codes: torch.Tensor) -> torch.Tensor:
    """(out, in) uint8 codes below 16 -> (out, in // 2), two a byte in GGML's order."""
    halves = codes.view(codes.shape[0], -1, 2, BLOCK // 2)
    return (halves[:, :, 0] | (halves[:, :, 1] << 4)).view(codes.shape[0], -1)


def unpack_codes(packed: torch.Tensor) -> torch.Tensor:
    """(out, in // 2) -> (out, in) uint8; the inverse of `pack_codes`."""
    blocks = packed.view(packed.shape[0], -1, 1, BLOCK // 2)
    return torch.cat((blocks & 15, blocks >> 4), dim=2).view(packed.shape[0], -1)


def _read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a safetensors file, mapped."""
    try:
        with safe_open(file, framework="pt") as reader:
            return {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError as error:
        raise CheckpointError(f"{file} is missing. Pull the model again.") from error
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{file} is damaged: {error}. Pull the model again.") from error


def _assemble(tensors: Mapping[str, torch.Tensor], file: Path) -> dict[str, Weight]:
    """Join the parts of quantized matrices."""
    weights: dict[str, Weight] = {}
    parts: dict[tuple[str, str], dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        matrix, _, rest = name.rpartition(".")
        matrix, _, kind = matrix.rpartition(".")
        if kind in PARTS:
            parts.setdefault((matrix, kind), {})[rest] = tensor
        else:
            weights[name] = tensor
    for (matrix, kind), found in parts.items():
        if {part: tensor.dtype for part, tensor in found.items()} != PARTS[kind] or matrix in weights:
            raise CheckpointError(
                f"{file}: {matrix} is not a complete {kind} matrix: it has {sorted(found)}."
            )
        per_block = BLOCK // 2 if kind == "q4_1" else BLOCK
        codes, scale = found["codes"], found["scale"]
        blocks = tuple(found.get("minimum", scale).shape)
        if (
            codes.dim() != 2
            or tuple(scale.shape) != blocks
            or (len(codes), codes.shape[1]) != (blocks[0], blocks[-1] * per_block)
        ):
            raise CheckpointError(f"{file}: the parts of {matrix} have shapes that do not fit together.")
        weights[matrix] = (
            Q4_1(unpack_codes(codes), scale, found["minimum"]) if kind == "q4_1" else Q8_0(codes, scale)
        )
    return weights


def _take_apart(weights: Mapping[str, Weight]) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        if isinstance(weight, Q4_1):
            tensors |= {f"{name}.q4_1.codes": pack_codes(weight.codes), f"{name}.q4_1.scale": weight.scale}
            tensors[f"{name}.q4_1.minimum"] = weight.minimum
        elif isinstance(weight, Q8_0):
            tensors |= {f"{name}.q8_0.codes": weight.codes, f"{name}.q8_0.scale": weight.scale}
        else:
            tensors[name] = weight
    # safetensors refuses views and shared storage; a checkpoint being copied is all views into a mapped file.
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
