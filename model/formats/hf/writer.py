"""Write a native checkpoint as a Hugging Face folder that plain `from_pretrained` loads.

    config.json, generation_config.json, tokenizer.json, tokenizer_config.json (with the chat template),
    model.safetensors, or model-00001-of-0000N.safetensors with their index

The inverse of `reader`: GPT-2's q, k and v are joined and its linear weights transposed; a tied head is not
written, and the config says that it is tied. Quantized matrices become dense. The folder appears whole or not
at all (`model.folder`), and one that holds anything but an earlier export is never written over.

The tokenizer is declared as transformers' generic one, which takes `tokenizer.json` as it is. (For the Qwen2
family transformers 5 builds its own all the same; it has the same rules, and keeps the vocabulary.)
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from model import folder as whole_folder
from model.checkpoint import Checkpoint
from model.errors import CheckpointError
from model.formats.hf.families import TRANSPOSED, Family, describe, foreign_name
from model.formats.hf.reader import INDEX_FILE
from model.formats.vocabulary import read_vocabulary
from model.layout import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE, tensor_shapes
from model.quantized import Weight, dense

Dtype = Literal["bf16", "fp16", "fp32"]
DTYPES: dict[Dtype, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
SHARD_BYTES = 5_000_000_000  #: what transformers and the hub use
KIND = "huggingface"  #: of the manifest
SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")


def write(
    checkpoint: Checkpoint, folder: Path, *, dtype: Dtype = "bf16", shard_bytes: int | None = SHARD_BYTES
) -> Path:
    """Write `checkpoint` as a Hugging Face folder and return the folder.

    Args:
        checkpoint: a native one.
        folder: appears whole or not at all; an earlier export there is replaced.
        dtype: of every tensor.
        shard_bytes: a weights file holds at most so many bytes (or one tensor); None: one file.

    Raises:
        UnsupportedModel: axes that no family of transformers has.
        CheckpointError: weights out of the dtype's range, a tokenizer with more tokens than the model has
            rows, a folder that holds something else, or the disk refused.
    """
    config, chosen = checkpoint.config, DTYPES[dtype]
    family, values = describe(config)
    refuse_to_replace(folder)
    sizes = {name: math.prod(shape) * chosen.itemsize for name, shape in tensor_shapes(config).items()}
    plan = _shards(sizes, family, shard_bytes)
    name_of_dtype = str(chosen).removeprefix("torch.")
    special = {key: values[key] for key in SPECIAL if values[key] is not None}
    described = {
        CONFIG_FILE: values | {"dtype": name_of_dtype, "torch_dtype": name_of_dtype},
        "generation_config.json": special,
        "tokenizer_config.json": _tokenizer_config(checkpoint),
    }
    origin = {key: checkpoint.metadata[key] for key in ("source", "license") if key in checkpoint.metadata}
    with whole_folder.replaced(folder, {"kind": KIND} | origin) as new:
        for name, content in described.items():
            _write_json(new / name, content)
        (new / TOKENIZER_FILE).write_bytes(checkpoint.tokenizer_file.read_bytes())
        weight_map: dict[str, str] = {}
        for number, shard in enumerate(plan, 1):
            file = WEIGHTS_FILE if len(plan) == 1 else f"model-{number:05}-of-{len(plan):05}.safetensors"
            tensors = {
                name: _tensor(name, [checkpoint.weights[n] for n in natives], chosen)
                for name, natives in shard.items()
            }
            try:
                save_file(tensors, new / file, metadata={"format": "pt"})
            except SafetensorError as error:  # also what it makes of a full disk
                raise CheckpointError(
                    f"{folder} could not be written: {error}. Check the free space."
                ) from error
            (new / file).chmod(0o644)  # safetensors writes 0600; a service may run as another user
            weight_map |= dict.fromkeys(shard, file)
        if len(plan) > 1:
            index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
            _write_json(new / INDEX_FILE, index)
    return folder


def refuse_to_replace(folder: Path) -> None:
    """Raise CheckpointError where `folder` holds anything but an earlier export."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    manifest = whole_folder.read_manifest(folder) if folder.is_dir() else None
    if manifest is None or manifest.get("kind") != KIND:
        raise CheckpointError(f"{folder} exists and is no earlier export; name another folder or remove it.")


def _shards(sizes: Mapping[str, int], family: Family, limit: int | None) -> list[dict[str, list[str]]]:
    """Per weights file: foreign name -> the native tensors joined in it. `sizes` are bytes by native name."""
    joined: dict[str, list[str]] = {}
    for native in sizes:
        joined.setdefault(foreign_name(native, family), []).append(native)
    shards: list[dict[str, list[str]]] = [{}]
    filled = 0
    for name, natives in joined.items():
        size = sum(sizes[native] for native in natives)
        if limit is not None and shards[-1] and filled + size > limit:
            shards.append({})
            filled = 0
        shards[-1][name] = natives
        filled += size
    return shards


def _tensor(name: str, parts: Sequence[Weight], dtype: torch.dtype) -> torch.Tensor:
    """One foreign tensor from its native parts, rounded once."""
    tensor = torch.cat([dense(part, dtype) for part in parts])
    if not bool(tensor.isfinite().all()):
        raise CheckpointError(
            f"{name} is not finite in {dtype}: a weight is broken, or too large for it; export bf16 or fp32."
        )
    # A copy of its own: safetensors refuses views and shared storage.
    return (tensor.T if TRANSPOSED.fullmatch(name) else tensor).contiguous()


def _tokenizer_config(checkpoint: Checkpoint) -> dict[str, Any]:
    special = read_vocabulary(checkpoint.tokenizer_file, checkpoint.config)
    described: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": checkpoint.config.context_length,
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
    } | special.named
    if template := checkpoint.metadata.get("chat_template"):
        described["chat_template"] = template
    return described


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
