"""Adapters in peft's format: a folder with `adapter_config.json` and `adapter_model.safetensors`.

Tensors bear the names of peft's wrappers around Hugging Face's modules:
`base_model.model.` MODULE `.lora_A.weight`, `.lora_B.weight`, `.lora_magnitude_vector`. What peft has no
place for (the hash of the base, where the adapter comes from) stands in `lorebase.json` beside them; an
adapter without that file comes from elsewhere and is checked by its shapes alone.

GPT-2 keeps q, k and v in one matrix `c_attn`, the native decoder apart. On writing, adapters of the three
are stacked: A = [Aq; Ak; Av], B block-diagonal, with three times the rank and the alpha that leaves the
scale as it was. On reading, each of the three gets all of A and its own rows of B.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model import shelf
from model.config import GPTConfig, LoRAConfig
from model.errors import AdapterError
from model.formats.described import read_json
from model.layout import tensor_shapes
from model.lora import FUSED, Adapter, LowRank, check, hugging_face_name

CONFIG_FILE, WEIGHTS_FILE, OWN_FILE = shelf.CONFIG_FILE, shelf.WEIGHTS_FILE, shelf.OWN_FILE
PREFIX = "base_model.model."
A, B, MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"

_json = partial(read_json, error=AdapterError, kind="an adapter's folder")

#: Settings under which an adapter is more, or other, than a low-rank product beside the published base.
PLAIN: dict[str, tuple[object, ...]] = {
    "bias": ("none",),
    "modules_to_save": (None, []),
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),  # others change the base
    "lora_bias": (False,),
    "use_qalora": (False,),
} | dict.fromkeys(
    (
        "layer_replication",
        "trainable_token_indices",
        "alora_invocation_tokens",
        "target_parameters",
        "velora_config",
        "use_bdlora",
        "kasa_config",
        "monteclora_config",
    ),
    (None, False, [], {}),
)


def write(folder: Path, adapter: Adapter, config: GPTConfig, *, base_name: str) -> None:
    """Write the three files into an existing folder; `model.folder.replaced` gives one that appears whole.

    Args:
        folder: to write into.
        adapter: what to write.
        config: of the base.
        base_name: where peft shall look for the base.

    Raises:
        OSError: the disk refused.
    """
    tensors: dict[str, Tensor] = {}
    scales: dict[str, tuple[int, float]] = {}
    for module, low_rank in _stacked(adapter, config).items():
        tensors[PREFIX + module + A], tensors[PREFIX + module + B] = low_rank.a, low_rank.b
        if low_rank.magnitude is not None:
            tensors[PREFIX + module + MAGNITUDE] = low_rank.magnitude
        scales[module] = low_rank.a.shape[0], low_rank.scale
    knobs = adapter.config
    alphas = {module: _alpha(rank, scale, knobs.use_rslora) for module, (rank, scale) in scales.items()}
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": knobs.lora_rank,
        "lora_alpha": _whole(knobs.lora_alpha),
        "lora_dropout": knobs.lora_dropout,
        "use_rslora": knobs.use_rslora,
        "use_dora": knobs.use_dora,
        "target_modules": _listed(scales),
        "rank_pattern": {m: rank for m, (rank, _) in scales.items() if rank != knobs.lora_rank},
        "alpha_pattern": {
            m: _whole(alpha) for m, alpha in alphas.items() if not math.isclose(alpha, knobs.lora_alpha)
        },
        "bias": "none",
        "fan_in_fan_out": config.family == "gpt2",  # Conv1D keeps (in, out)
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": None,
    }
    own = {
        "format": "lorebase-adapter",
        "version": 1,
        "base": adapter.base,
        "lora_target": list(knobs.lora_target),
        "metadata": adapter.metadata,
    }
    for file, content in ((CONFIG_FILE, described), (OWN_FILE, own)):
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        (folder / file).write_text(text, encoding="utf-8")
    try:
        save_file(
            {n: t.contiguous() for n, t in tensors.items()}, folder / WEIGHTS_FILE, metadata={"format": "pt"}
        )
    except SafetensorError as error:  # its way of saying that the disk is full
        raise OSError(str(error)) from error
    (folder / WEIGHTS_FILE).chmod(0o644)


def read(folder: Path, config: GPTConfig, *, base: str | None = None) -> Adapter:
    """Read an adapter for a base of this config, strictly.

    Args:
        folder: peft's.
        config: of the base that it shall serve.
        base: hash of that base's weights (`model.identity`); None does not compare.

    Raises:
        AdapterError: files missing or damaged, tensors that have no place, a kind of adapter that this
            decoder does not have, or an adapter that was trained on another base.
    """
    described, own = _json(folder / CONFIG_FILE), _json(folder / OWN_FILE, absent={})
    knobs = _knobs(folder, described, own)
    trained_on = own.get("base")
    if base is not None and trained_on is not None and trained_on != base:
        name = described.get("base_model_name_or_path") or "another model"
        raise AdapterError(
            f"{folder} was trained on {name} (weights {str(trained_on)[:12]}), not on this base "
            f"(weights {base[:12]}); use it with the one that it was trained on"
        )
    tensors = _tensors(folder / WEIGHTS_FILE)
    modules: dict[str, LowRank] = {}
    for name, shape in tensor_shapes(config).items():
        native = name.removesuffix(".weight")
        if not (name.startswith("blocks.") and name.endswith(".weight") and len(shape) == 2):
            continue
        module = hugging_face_name(native, config.family)
        a, b = tensors.get(PREFIX + module + A), tensors.get(PREFIX + module + B)
        if a is None and b is None:
            continue
        if a is None or b is None:
            raise AdapterError(f"{folder / WEIGHTS_FILE}: {module} has only one half of its adapter.")
        magnitude = tensors.get(PREFIX + module + MAGNITUDE)
        if knobs.use_dora and magnitude is None:
            raise AdapterError(f"{folder / WEIGHTS_FILE}: {module} has no magnitudes, and DoRA needs them.")
        last = native.split(".", 2)[2]
        part = FUSED.index(last) if config.family == "gpt2" and last in FUSED else None
        if part is not None:
            b = b.chunk(3)[part]
            magnitude = None if magnitude is None else magnitude.chunk(3)[part]
        rank = a.shape[0]
        try:
            alpha = _matching(described.get("alpha_pattern") or {}, module, knobs.lora_alpha)
        except (AttributeError, TypeError, ValueError, re.error) as error:
            raise AdapterError(
                f"{folder / CONFIG_FILE}: alpha_pattern must map patterns of names to numbers ({error})."
            ) from error
        scale = alpha / (math.sqrt(rank) if knobs.use_rslora else rank)
        if part is not None:
            a, b = _own_block(a, b, part)
        modules[native] = LowRank(
            a.float(), b.float(), scale, None if magnitude is None else magnitude.float()
        )
    used = {
        PREFIX + hugging_face_name(native, config.family) + part
        for native in modules
        for part in (A, B, MAGNITUDE)
    }
    if left := sorted(tensors.keys() - used):
        raise AdapterError(
            f"{folder / WEIGHTS_FILE}: {left[0]} has no place in this decoder: it is for another base."
        )
    if not modules:
        raise AdapterError(f"{folder / WEIGHTS_FILE} corrects nothing.")
    adapter = Adapter(knobs, modules, trained_on, own.get("metadata", {}))
    shapes = {
        n.removesuffix(".weight"): torch.empty(s, device="meta") for n, s in tensor_shapes(config).items()
    }
    try:
        check(adapter, shapes)
    except AdapterError as error:
        raise AdapterError(f"{folder}: {error}") from error
    return adapter


def _knobs(folder: Path, described: Mapping[str, Any], own: Mapping[str, Any]) -> LoRAConfig:
    """The adapter's config; refuses what this decoder would not compute as peft does."""
    file = folder / CONFIG_FILE
    if described.get("peft_type") != "LORA":
        raise AdapterError(
            f"{file}: peft_type {described.get('peft_type')!r} is not supported, only LORA is."
        )
    for key, allowed in PLAIN.items():
        if key in described and described[key] not in allowed:
            raise AdapterError(f"{file}: {key} = {described[key]!r} is not supported.")
    target = own.get("lora_target") or described.get("target_modules") or ["all"]
    try:
        return LoRAConfig(
            lora_rank=int(described["r"]),
            lora_alpha=float(described["lora_alpha"]),
            lora_dropout=float(described.get("lora_dropout", 0.0)),
            lora_target=(target,) if isinstance(target, str) else tuple(target),
            use_rslora=bool(described.get("use_rslora", False)),
            use_dora=bool(described.get("use_dora", False)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise AdapterError(f"{file}: r and lora_alpha must be numbers ({error}).") from error


def _own_block(a: Tensor, b: Tensor, part: int) -> tuple[Tensor, Tensor]:
    """Of a joined A (3 r, in) and a part's B (out, 3 r): its own, where `_stacked` has joined them."""
    rank, more = divmod(len(a), len(FUSED))
    own = slice(part * rank, (part + 1) * rank)
    if more or not rank or b[:, : own.start].any() or b[:, own.stop :].any():
        return a, b  # trained as one matrix
    return a[own], b[:, own]


def _stacked(adapter: Adapter, config: GPTConfig) -> dict[str, LowRank]:
    """By Hugging Face module name; GPT-2's q, k and v joined, those without an adapter by zeros."""
    stacked: dict[str, LowRank] = {}
    fused: dict[str, dict[str, LowRank]] = {}
    for native, low_rank in adapter.modules.items():
        module, part = hugging_face_name(native, config.family), native.split(".", 2)[2]
        if config.family == "gpt2" and part in FUSED:
            fused.setdefault(module, {})[part] = low_rank
        else:
            stacked[module] = low_rank
    for module, parts in fused.items():
        if adapter.config.use_dora and len(parts) < len(FUSED):
            raise AdapterError(
                "DoRA on only some of q, k and v cannot be written: GPT-2 keeps them in one matrix"
            )
        any_part = next(iter(parts.values()))
        rank, width = any_part.a.shape
        out = any_part.b.shape[0]
        if any(part.scale != any_part.scale or part.a.shape != (rank, width) for part in parts.values()):
            raise AdapterError(
                "adapters of q, k and v of different rank or scale cannot be written for GPT-2"
            )
        a, b = torch.zeros(3 * rank, width), torch.zeros(3 * out, 3 * rank)
        for i, name in enumerate(FUSED):
            if name in parts:
                a[i * rank : (i + 1) * rank] = parts[name].a
                b[i * out : (i + 1) * out, i * rank : (i + 1) * rank] = parts[name].b
        magnitudes = [m for name in FUSED if name in parts and (m := parts[name].magnitude) is not None]
        stacked[module] = LowRank(a, b, any_part.scale, torch.cat(magnitudes) if magnitudes else None)
    return stacked


def _listed(modules: Mapping[str, Any]) -> list[str]:
    """What peft shall adapt, by the last two parts of the name: GPT-2 has two kinds of `c_proj`."""
    return sorted({".".join(module.split(".")[-2:]) for module in modules})


def _matching(patterns: Mapping[str, Any], module: str, default: float) -> float:
    """The value of the first pattern that the module's name ends in, as peft looks them up."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return float(value)
    return default


def _alpha(rank: int, scale: float, rslora: bool) -> float:
    return scale * (math.sqrt(rank) if rslora else rank)


def _whole(number: float) -> float | int:
    """As an integer where it is one: the way peft writes it."""
    return int(number) if float(number).is_integer() else number


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(file, framework="pt") as reader:
            return {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError as error:
        hint = " Pickled adapters (.bin) are not read." if list(file.parent.glob("*.bin")) else ""
        raise AdapterError(f"{file} is missing.{hint}") from error
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise AdapterError(f"{file} is damaged: {error}.") from error
