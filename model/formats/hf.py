"""Read Hugging Face checkpoint folders (config.json + safetensors) of the Llama, Qwen2 and GPT-2 families.

One table of names a family. What differs from the native form is undone here: GPT-2 keeps its linear
weights transposed (`Conv1D`) and q, k, v in one matrix. A setting that this decoder does not have (rope
scaling, sliding windows, another activation) is refused by name, never passed over: a model that runs
slightly wrong is worse than one that does not run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from model.config import MLP, GPTConfig
from model.errors import CheckpointError, UnsupportedModel
from model.formats import Foreign
from model.layout import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE
from model.quantized import Weight

INDEX_FILE = WEIGHTS_FILE + ".index.json"
LLAMA_NAMES = {
    "embed_tokens": "embed",
    "norm": "norm",
    "lm_head": "head",
    "layers.{i}.input_layernorm": "blocks.{i}.attn_norm",
    "layers.{i}.self_attn.q_proj": "blocks.{i}.attn.q",
    "layers.{i}.self_attn.k_proj": "blocks.{i}.attn.k",
    "layers.{i}.self_attn.v_proj": "blocks.{i}.attn.v",
    "layers.{i}.self_attn.o_proj": "blocks.{i}.attn.o",
    "layers.{i}.post_attention_layernorm": "blocks.{i}.mlp_norm",
    "layers.{i}.mlp.gate_proj": "blocks.{i}.mlp.gate",
    "layers.{i}.mlp.up_proj": "blocks.{i}.mlp.up",
    "layers.{i}.mlp.down_proj": "blocks.{i}.mlp.down",
}
GPT2_NAMES = {
    "wte": "embed",
    "wpe": "positions",
    "ln_f": "norm",
    "lm_head": "head",
    "h.{i}.ln_1": "blocks.{i}.attn_norm",
    "h.{i}.attn.c_attn": "blocks.{i}.attn.{qkv}",
    "h.{i}.attn.c_proj": "blocks.{i}.attn.o",
    "h.{i}.ln_2": "blocks.{i}.mlp_norm",
    "h.{i}.mlp.c_fc": "blocks.{i}.mlp.up",
    "h.{i}.mlp.c_proj": "blocks.{i}.mlp.down",
}
LAYER = re.compile(r"(?P<before>layers|h)\.(?P<i>\d+)\.")
TRANSPOSED = re.compile(r".*\.c_(attn|proj|fc)\.weight")  #: GPT-2's Conv1D holds (in, out)
#: Buffers that old files carry and that follow from the config.
BUFFERS = re.compile(r"(layers\.\d+\.self_attn\.rotary_emb\.inv_freq|h\.\d+\.attn\.(bias|masked_bias))")
ACTIVATIONS: dict[str, MLP] = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}


@dataclass(frozen=True)
class Family:
    """One architecture: its name table, what stands before the names, and how its config reads."""

    names: dict[str, str]
    prefix: str
    config: Callable[[_Values], GPTConfig]


class _Values:
    """`config.json`, with every refusal naming the file and the key."""

    def __init__(self, file: Path, values: dict[str, Any], eos: object) -> None:
        self.file = file
        self.values = values
        self.eos = eos

    def number(self, key: str, default: float | None = None) -> Any:
        """A number; None counts as absent."""
        value = self.values.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CheckpointError(f"{self.file}: {key} should be a number, it is {value!r}.")
        return value

    def refuse(self, key: str, *allowed: object) -> None:
        """Refuse any value of `key` but these (and its absence)."""
        value = self.values.get(key)
        if value is not None and value not in allowed:
            raise UnsupportedModel(f"{self.file}: {key} = {value!r} is not supported by this decoder.")

    def ids(self, value: object) -> tuple[int, ...]:
        """Token ids: none, one or several."""
        found = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(i, int) for i in found):
            raise CheckpointError(f"{self.file}: {value!r} are no token ids.")
        return tuple(found)

    def special(self) -> dict[str, Any]:
        """The special ids, as GPTConfig takes them."""
        first = {
            key: (self.ids(self.values.get(key)) or (None,))[0] for key in ("bos_token_id", "pad_token_id")
        }
        return {
            "bos_id": first["bos_token_id"],
            "pad_id": first["pad_token_id"],
            "eos_ids": self.ids(self.eos),
        }

    def rope_theta(self) -> float:
        """The rotary base, in `rope_parameters` (transformers 5) or `rope_theta` beside `rope_scaling`."""
        theta = self.number("rope_theta", 10_000.0)
        for key in ("rope_scaling", "rope_parameters"):
            rope = self.values.get(key)
            if rope is None:
                continue
            kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, dict) else rope
            if kind != "default":
                raise UnsupportedModel(
                    f"{self.file}: rope scaling {kind!r} is not supported by this decoder."
                )
            if rope.get("partial_rotary_factor", 1.0) != 1.0:
                raise UnsupportedModel(
                    f"{self.file}: partial_rotary_factor is not supported by this decoder."
                )
            theta = rope.get("rope_theta", theta)
        return float(theta)


def _llama(values: _Values, family: str, attention_bias: bool, output_bias: bool) -> GPTConfig:
    values.refuse("hidden_act", "silu")
    values.refuse("partial_rotary_factor", 1.0)
    values.refuse("use_sliding_window", False)
    n_heads, width = values.number("num_attention_heads"), values.number("hidden_size")
    return GPTConfig(
        vocab_size=values.number("vocab_size"),
        context_length=values.number("max_position_embeddings"),
        n_layers=values.number("num_hidden_layers"),
        n_heads=n_heads,
        n_kv_heads=values.number("num_key_value_heads", n_heads),
        d_model=width,
        head_dim=values.number("head_dim", width // max(n_heads, 1)),
        d_mlp=values.number("intermediate_size"),
        positions="rotary",
        norm="rmsnorm",
        mlp="swiglu",
        norm_eps=values.number("rms_norm_eps", 1e-6),
        rope_theta=values.rope_theta(),
        attention_bias=attention_bias,
        output_bias=output_bias,
        mlp_bias=bool(values.values.get("mlp_bias", False)),
        tied_head=bool(values.values.get("tie_word_embeddings", False)),
        family=family,
        **values.special(),
    )


def _llama_config(values: _Values) -> GPTConfig:
    bias = bool(values.values.get("attention_bias", False))
    return _llama(values, "llama", bias, bias)


def _qwen2_config(values: _Values) -> GPTConfig:
    return _llama(values, "qwen2", attention_bias=True, output_bias=False)


def _gpt2_config(values: _Values) -> GPTConfig:
    values.refuse("scale_attn_weights", True)
    values.refuse("scale_attn_by_inverse_layer_idx", False)
    values.refuse("add_cross_attention", False)
    activation = values.values.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        raise UnsupportedModel(f"{values.file}: activation {activation!r} is not supported by this decoder.")
    n_heads, width = values.number("n_head"), values.number("n_embd")
    return GPTConfig(
        vocab_size=values.number("vocab_size"),
        context_length=values.number("n_positions"),
        n_layers=values.number("n_layer"),
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_model=width,
        head_dim=width // max(n_heads, 1),
        d_mlp=values.number("n_inner", 4 * width),
        positions="learned",
        norm="layernorm",
        mlp=ACTIVATIONS[activation],
        norm_eps=values.number("layer_norm_epsilon", 1e-5),
        attention_bias=True,
        output_bias=True,
        mlp_bias=True,
        tied_head=bool(values.values.get("tie_word_embeddings", True)),
        family="gpt2",
        **values.special(),
    )


FAMILIES = {
    "LlamaForCausalLM": Family(LLAMA_NAMES, "model.", _llama_config),
    "Qwen2ForCausalLM": Family(LLAMA_NAMES, "model.", _qwen2_config),
    "GPT2LMHeadModel": Family(GPT2_NAMES, "transformer.", _gpt2_config),
}


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
    config = family.config(_Values(path / CONFIG_FILE, values, eos))
    weights: dict[str, Weight] = {}
    for name, tensor in _tensors(path).items():
        bare = name.removeprefix(family.prefix)
        if BUFFERS.fullmatch(bare) or (config.tied_head and bare == "lm_head.weight"):
            continue
        weights |= _native(path, family, bare, tensor)
    tokenizer = path / TOKENIZER_FILE
    if not tokenizer.is_file():
        raise UnsupportedModel(
            f"{path} has no {TOKENIZER_FILE}; save it with a fast tokenizer of transformers."
        )
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
        shards = sorted(set(listed.values()))
        if not shards or any(Path(shard).name != shard for shard in shards):
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
        return file.read_text(encoding="utf-8")
    template = _json(path / "tokenizer_config.json", absent={}).get("chat_template", "")
    return template if isinstance(template, str) else ""


def _json(file: Path, absent: dict[str, Any] | None = None) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if absent is not None:
            return absent
        raise CheckpointError(f"{file} is missing: {file.parent} is not a checkpoint folder.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} should hold a JSON object.")
    return content
