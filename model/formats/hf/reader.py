"""Read Hugging Face checkpoint folders (config.json + safetensors) of the Llama, Qwen2 and GPT-2 families.

What differs from the native form is undone here: GPT-2 keeps its linear weights transposed (`Conv1D`) and q,
k, v in one matrix. Names and settings are those of `families`.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from model.checkpoint import check
from model.errors import CheckpointError, UnsupportedModel
from model.formats import Foreign
from model.formats.described import read_json
from model.formats.hf.families import FAMILIES, GPT2_NAMES, TRANSPOSED, Family, Values
from model.formats.vocabulary import read_vocabulary
from model.layout import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE
from model.quantized import Weight

_json = partial(read_json, error=CheckpointError, kind="a checkpoint folder")

INDEX_FILE = WEIGHTS_FILE + ".index.json"
LAYER = re.compile(r"(?P<before>layers|h)\.(?P<i>\d+)\.")
#: Buffers that old files carry and that follow from the config.
BUFFERS = re.compile(r"(layers\.\d+\.self_attn\.rotary_emb\.inv_freq|h\.\d+\.attn\.(bias|masked_bias))")


def read(path: Path) -> Foreign:
    """A Hugging Face folder as config, weights, tokenizer and metadata.

    Raises:
        CheckpointError: files missing or damaged, or figures that do not fit together.
        UnsupportedModel: pickled weights, another architecture, or a setting that this decoder does not have.
    """
    values = _json(path / CONFIG_FILE)
    architecture = (values.get("architectures") or [None])[0]
    if architecture not in FAMILIES:
        raise UnsupportedModel(
            f"{path}: architecture {architecture!r} is not supported; supported are {', '.join(FAMILIES)}."
        )
    if values.get("quantization_config"):
        raise UnsupportedModel(
            f"{path}: weights quantized by another library are not supported; take the plain ones."
        )
    generation = _json(path / "generation_config.json", absent={})
    eos = generation.get("eos_token_id", values.get("eos_token_id"))
    family = FAMILIES[architecture]
    config = family.config(Values(path / CONFIG_FILE, values, eos))
    weights: dict[str, Weight] = {}
    for name, tensor in _tensors(path).items():
        bare = name.removeprefix(family.prefix)
        if BUFFERS.fullmatch(bare) or (config.tied_head and bare == "lm_head.weight"):
            continue
        weights |= _native(path, family, bare, tensor)
    check(config, weights, str(path))
    tokenizer = path / TOKENIZER_FILE
    if not tokenizer.is_file():
        raise UnsupportedModel(
            f"{path} has no {TOKENIZER_FILE}; save it with a fast tokenizer of transformers."
        )
    read_vocabulary(tokenizer, config)
    return Foreign(config, weights, tokenizer.read_bytes(), {"chat_template": _chat_template(path)})


def _native(path: Path, family: Family, name: str, tensor: torch.Tensor) -> dict[str, Weight]:
    """One foreign tensor under its native name or, where it holds q, k and v, names."""
    match = LAYER.match(name)
    pattern = name if match is None else f"{match['before']}.{{i}}." + name[match.end() :]
    module, _, kind = pattern.rpartition(".")
    if module not in family.names or kind not in ("weight", "bias"):
        raise UnsupportedModel(f"{path}: tensor {name} has no place in this decoder.")
    native = f"{family.names[module]}.{kind}".replace("{i}", str(int(match["i"])) if match else "")
    if family.names is GPT2_NAMES and TRANSPOSED.fullmatch(name):
        if tensor.dim() != 2:
            raise CheckpointError(f"{path}: {name} has {tensor.dim()} dimensions, a matrix has 2.")
        tensor = tensor.T
    if "{qkv}" not in native:
        return {native: tensor}
    if tensor.shape[0] % 3:
        raise CheckpointError(
            f"{path}: {name} has {tensor.shape[0]} rows, which are not q, k and v of one size."
        )
    return {native.replace("{qkv}", part): piece for part, piece in zip("qkv", tensor.chunk(3), strict=True)}


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the folder, mapped, from one file or from the shards that the index lists."""
    shards = [WEIGHTS_FILE]
    listed: dict[str, str] = {}
    if (path / INDEX_FILE).is_file():
        listed = _json(path / INDEX_FILE).get("weight_map", {})
        named = list(listed.values()) if isinstance(listed, dict) else []
        shards = sorted({shard for shard in named if isinstance(shard, str) and Path(shard).name == shard})
        if not shards or not all(shard in shards for shard in named):
            raise CheckpointError(f"{path / INDEX_FILE} does not list shards of this folder.")
    elif not (path / WEIGHTS_FILE).is_file():
        if pickled := sorted(p.name for p in path.glob("*.bin")):
            raise UnsupportedModel(
                f"{path} has only pickled weights ({pickled[0]}), which can run code when loaded; "
                "convert them to safetensors first."
            )
        raise CheckpointError(f"{path} has no {WEIGHTS_FILE} and no {INDEX_FILE}.")
    tensors: dict[str, torch.Tensor] = {}
    for shard in shards:
        try:
            with safe_open(path / shard, framework="pt") as reader:
                tensors |= {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118 (not a mapping)
        except FileNotFoundError as error:
            raise CheckpointError(f"{path}: the shard {shard} is missing. Fetch it again.") from error
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path / shard} is damaged: {error}. Fetch it again.") from error
    if missing := sorted(listed.keys() - tensors.keys()):
        raise CheckpointError(
            f"{path}: the index lists {missing[0]}, its shard does not hold it. Fetch it again."
        )
    return tensors


def _chat_template(path: Path) -> str:
    if (file := path / "chat_template.jinja").is_file():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{file} cannot be read: {error}. Fetch it again.") from error
    template = _json(path / "tokenizer_config.json", absent={}).get("chat_template", "")
    return template if isinstance(template, str) else ""
