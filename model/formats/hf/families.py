"""What differs between the Hugging Face families: tensor names, and how a `config.json` reads.

One table of names a family. A setting that this decoder does not have (sliding windows, another activation)
is refused by name, never passed over: a model that runs slightly wrong is worse than one that does not run.
Dropout is a setting of training: it is written, and not taken over from a model that is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from model.axes.choices import MLP
from model.config import GPTConfig
from model.errors import CheckpointError, UnsupportedModel
from model.formats.hf import rope
from model.layout import CONFIG_FILE

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
    "h.{i}.mlp.act": "blocks.{i}.mlp.activation",
    "h.{i}.mlp.c_proj": "blocks.{i}.mlp.down",
}
#: What GPT-2 keeps in one matrix, in this order.
FUSED = tuple(f"blocks.{{i}}.attn.{part}" for part in "qkv")
TRANSPOSED = re.compile(r".*\.c_(attn|proj|fc)\.weight")  #: GPT-2's Conv1D holds (in, out)
#: What transformers calls an activation -> the MLP; the first name of an MLP is the one that is written.
ACTIVATIONS: dict[str, MLP] = {
    "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu",
    "leaky_relu": "leaky_relu", "prelu": "prelu", "tanh": "tanh", "sigmoid": "sigmoid",
}  # fmt: skip
GATES: dict[str, MLP] = {
    "silu": "swiglu", "swish": "swiglu", "gelu": "geglu", "gelu_pytorch_tanh": "geglu_tanh",
    "gelu_new": "geglu_tanh", "relu": "reglu", "sigmoid": "glu",
}  # fmt: skip


class Values:
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

    def activation(self, key: str, default: str, known: dict[str, MLP]) -> MLP:
        """The MLP that an activation's name makes."""
        name = self.values.get(key, default)
        if name not in known:
            raise UnsupportedModel(
                f"{self.file}: {key} = {name!r} is not supported by this decoder; it has {', '.join(known)}."
            )
        return known[name]


def _llama(values: Values, family: str, attention_bias: bool, output_bias: bool) -> GPTConfig:
    values.refuse("partial_rotary_factor", 1.0)
    values.refuse("use_sliding_window", False)
    n_heads, width = values.number("num_attention_heads"), values.number("hidden_size")
    rotary = rope.read(values.file, values.values, window=values.number("max_position_embeddings"))
    return GPTConfig(
        vocab_size=values.number("vocab_size"),
        context_length=rotary.context_length,
        n_layers=values.number("num_hidden_layers"),
        n_heads=n_heads,
        n_kv_heads=values.number("num_key_value_heads", n_heads),
        d_model=width,
        head_dim=values.number("head_dim", width // max(n_heads, 1)),
        d_mlp=values.number("intermediate_size"),
        positions="rotary",
        norm="rmsnorm",
        mlp=values.activation("hidden_act", "silu", GATES),
        norm_eps=values.number("rms_norm_eps", 1e-6),
        rope_theta=rotary.theta,
        rope_scaling=rotary.scaling,
        attention_bias=attention_bias,
        output_bias=output_bias,
        mlp_bias=bool(values.values.get("mlp_bias", False)),
        tied_head=bool(values.values.get("tie_word_embeddings", False)),
        family=family,
        **values.special(),
    )


def _llama_config(values: Values) -> GPTConfig:
    bias = bool(values.values.get("attention_bias", False))
    return _llama(values, "llama", bias, bias)


def _qwen2_config(values: Values) -> GPTConfig:
    return _llama(values, "qwen2", attention_bias=True, output_bias=False)


def _gpt2_config(values: Values) -> GPTConfig:
    values.refuse("scale_attn_weights", True)
    values.refuse("scale_attn_by_inverse_layer_idx", False)
    values.refuse("add_cross_attention", False)
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
        mlp=values.activation("activation_function", "gelu_new", ACTIVATIONS),
        norm_eps=values.number("layer_norm_epsilon", 1e-5),
        attention_bias=True,
        output_bias=True,
        mlp_bias=True,
        tied_head=bool(values.values.get("tie_word_embeddings", True)),
        family="gpt2",
        **values.special(),
    )


def _describe_llama(config: GPTConfig) -> dict[str, Any]:
    """Keys that Llama and Qwen2 share."""
    return rope.written(config) | {
        "hidden_act": _name_of(config.mlp, GATES),
        "vocab_size": config.vocab_size,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "hidden_size": config.d_model,
        "head_dim": config.head_dim,
        "intermediate_size": config.d_mlp,
        "rms_norm_eps": config.norm_eps,
        "attention_dropout": config.attention_dropout,
    }


def _llama_values(config: GPTConfig) -> dict[str, Any]:
    return _describe_llama(config) | {"attention_bias": config.attention_bias, "mlp_bias": config.mlp_bias}


def _qwen2_values(config: GPTConfig) -> dict[str, Any]:
    return _describe_llama(config) | {"use_sliding_window": False}


def _gpt2_values(config: GPTConfig) -> dict[str, Any]:
    return {
        "activation_function": _name_of(config.mlp, ACTIVATIONS),
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_layer": config.n_layers,
        "n_head": config.n_heads,
        "n_embd": config.d_model,
        "n_inner": config.d_mlp,
        "layer_norm_epsilon": config.norm_eps,
        "attn_pdrop": config.attention_dropout,
        "embd_pdrop": config.embed_dropout,
        "resid_pdrop": config.residual_dropout,
    }


def _name_of(mlp: MLP, known: dict[str, MLP]) -> str | None:
    """What the family calls an MLP's activation; None: it has none, as `describe` will see."""
    return next((theirs for theirs, ours in known.items() if ours == mlp), None)


@dataclass(frozen=True)
class Family:
    """One architecture: its name table, what stands before the names, and its `config.json` both ways."""

    model_type: str  #: what transformers calls it, and what `GPTConfig.family` does
    architecture: str
    names: dict[str, str]
    prefix: str
    config: Callable[[Values], GPTConfig]
    values: Callable[[GPTConfig], dict[str, Any]]


FAMILIES = {
    family.architecture: family
    for family in (
        Family("llama", "LlamaForCausalLM", LLAMA_NAMES, "model.", _llama_config, _llama_values),
        Family("qwen2", "Qwen2ForCausalLM", LLAMA_NAMES, "model.", _qwen2_config, _qwen2_values),
        Family("gpt2", "GPT2LMHeadModel", GPT2_NAMES, "transformer.", _gpt2_config, _gpt2_values),
    )
}


#: Keys that say how a decoder is trained, not what it computes: no format need hold them.
TRAINING_ONLY = frozenset(
    {"embed_dropout", "attention_dropout", "residual_dropout", "initialisation", "scaled_residual"}
)


def describe(config: GPTConfig) -> tuple[Family, dict[str, Any]]:
    """A family that computes what a native config says, and the `config.json` that says the same.

    It is the family that the config names, where that one can say it, else another.

    Raises:
        UnsupportedModel: no family of transformers has these axes; names the keys and values in the way.
    """
    named = next((family for family in FAMILIES.values() if family.model_type == config.family), None)
    if named is None:
        known = ", ".join(family.model_type for family in FAMILIES.values())
        raise UnsupportedModel(
            f"a decoder of the family {config.family!r} has no form in transformers; known are {known}."
        )
    found = {family.model_type: _said(config, family) for family in (named, *FAMILIES.values())}
    fitting = next(
        (family for family in (named, *FAMILIES.values()) if not found[family.model_type][1]), None
    )
    if fitting is not None:
        return fitting, found[fitting.model_type][0]
    said = "; ".join(
        f"{key} = {ours!r} cannot be written for the family {named.model_type}: there it is {theirs!r}"
        for key, (ours, theirs) in found[named.model_type][1].items()
    )
    raise UnsupportedModel(
        f"{said}. No family of transformers has these axes together. The model runs here; for use elsewhere "
        "train it with the axes of one family, as the presets nano-llama and nano-gpt2 have them."
    )


def _said(config: GPTConfig, family: Family) -> tuple[dict[str, Any], dict[str, tuple[object, object]]]:
    """A family's `config.json` for a native config, and what it does not say: key -> (ours, theirs)."""
    eos: int | list[int] | None = list(config.eos_ids) or None
    if eos is not None and len(config.eos_ids) == 1:
        eos = config.eos_ids[0]
    values = {"architectures": [family.architecture], "model_type": family.model_type}
    values |= family.values(config) | {
        "tie_word_embeddings": config.tied_head,
        "bos_token_id": config.bos_id,
        "eos_token_id": eos,
        "pad_token_id": config.pad_id,
        "use_cache": True,
    }
    # Whatever a family cannot say would silently come back as its default: read it again and compare.
    readable = {key: value for key, value in values.items() if value is not None}
    again = family.config(Values(Path(CONFIG_FILE), readable, eos))
    lost: dict[str, tuple[object, object]] = {}
    for field in fields(config):
        ours, theirs = getattr(config, field.name), getattr(again, field.name)
        idle = field.name == "rope_theta" and config.positions != "rotary" == again.positions
        if ours != theirs and field.name not in TRAINING_ONLY and field.name != "family" and not idle:
            lost[field.name] = (ours, theirs)
    return values, lost


def foreign_name(native: str, family: Family) -> str:
    """What the family calls a native tensor; q, k and v of GPT-2 have one name together.

    Raises:
        UnsupportedModel: it has no name there.
    """
    module, _, kind = native.rpartition(".")
    index = ""
    if module.startswith("blocks."):
        _, index, rest = module.split(".", 2)
        module = f"blocks.{{i}}.{rest}"
    fused = "blocks.{i}.attn.{qkv}" if module in FUSED else module
    for theirs, ours in family.names.items():
        if ours in (module, fused):
            prefix = "" if theirs == "lm_head" else family.prefix
            return f"{prefix}{theirs}.{kind}".replace("{i}", index)
    raise UnsupportedModel(f"{native} has no place in the family {family.model_type}.")
