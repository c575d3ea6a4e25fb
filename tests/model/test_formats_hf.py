"""Hugging Face folders: tiny models give transformers' own logits, the rest is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model import checkpoint
from model.errors import CheckpointError, ModelError, UnsupportedModel
from model.formats import Foreign, hf
from model.gpt import GPT
from model.quantized import dense
from tests.model import tiny

transformers = pytest.importorskip("transformers")

LLAMA: dict[str, Any] = {
    "vocab_size": 261,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
GPT2: dict[str, Any] = {
    "vocab_size": 261,
    "n_embd": 48,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "eos_token_id": 2,
}


def rope(theta: float) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}


MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", LLAMA | rope(500_000.0)),
    "llama, tied": ("Llama", LLAMA | {"tie_word_embeddings": True}),
    "llama, biases": ("Llama", LLAMA | {"attention_bias": True, "mlp_bias": True}),
    "llama, wide heads": ("Llama", LLAMA | {"head_dim": 20, "num_key_value_heads": 1}),
    "qwen2": ("Qwen2", LLAMA | rope(1_000_000.0) | {"tie_word_embeddings": True}),
    "gpt2": ("GPT2", GPT2),
    "gpt2, untied, another MLP": (
        "GPT2",
        GPT2 | {"tie_word_embeddings": False, "n_inner": 64, "activation_function": "gelu"},
    ),
}
CLASSES = {"Llama": "LlamaForCausalLM", "Qwen2": "Qwen2ForCausalLM", "GPT2": "GPT2LMHeadModel"}


def build(family: str, values: dict[str, Any], seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = getattr(transformers, family + "Config")(**values)
    model = getattr(transformers, CLASSES[family])(config).eval()
    with torch.no_grad():  # fresh biases are zero and norms one, which would hide a swapped pair
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def folder_of(model: Any, path: Path, **how: Any) -> Path:
    model.save_pretrained(path, **how)
    (path / "tokenizer.json").write_bytes(tiny.tokenizer())
    return path


def logits(found: Foreign, ids: torch.Tensor) -> torch.Tensor:
    gpt = GPT(found.config).eval()
    gpt.load_state_dict({name: dense(weight) for name, weight in found.weights.items()}, strict=True)
    with torch.no_grad():
        return gpt.logits(gpt(ids))


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    family, values = MODELS[name]
    model = build(family, values)
    found = hf.read(folder_of(model, tmp_path))
    checkpoint.check(found.config, found.weights, name)
    ids = torch.randint(0, 261, (3, 33), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(logits(found, ids), model(ids).logits, rtol=1.3e-6, atol=1e-5)
    assert found.config.eos_ids == (2,)


def test_shards_are_joined_and_a_missing_one_is_named(tmp_path: Path) -> None:
    model = build("Llama", LLAMA)
    whole = hf.read(folder_of(model, tmp_path / "whole"))
    path = folder_of(model, tmp_path / "sharded", max_shard_size="40KB")
    shards = sorted(p.name for p in path.glob("*.safetensors"))
    assert len(shards) > 2
    sharded = hf.read(path)
    assert sharded.weights.keys() == whole.weights.keys()
    assert all(tiny.same(sharded.weights[n], whole.weights[n]) for n in whole.weights)
    (path / shards[1]).rename(path / "elsewhere")
    with pytest.raises(CheckpointError, match=shards[1]):
        hf.read(path)


def test_old_and_new_spellings_of_the_rotary_base(tmp_path: Path) -> None:
    path = folder_of(build("Llama", LLAMA), tmp_path)
    config = json.loads((path / "config.json").read_text())
    for spelling in ({"rope_theta": 5e5}, {"rope_theta": 5e5, "rope_scaling": None}, rope(5e5)):
        stripped = {k: v for k, v in config.items() if not k.startswith("rope")}
        (path / "config.json").write_text(json.dumps(stripped | spelling))
        assert hf.read(path).config.rope_theta == 5e5


def test_generation_config_and_chat_template_are_read(tmp_path: Path) -> None:
    path = folder_of(build("Llama", LLAMA), tmp_path)
    (path / "generation_config.json").write_text('{"eos_token_id": [2, 5]}')
    (path / "tokenizer_config.json").write_text('{"chat_template": "old"}')
    assert hf.read(path).config.eos_ids == (2, 5)
    assert hf.read(path).metadata["chat_template"] == "old"
    (path / "chat_template.jinja").write_text("new")
    assert hf.read(path).metadata["chat_template"] == "new"


@pytest.mark.parametrize(
    ("family", "change", "named"),
    [
        ("Llama", {"architectures": ["MambaForCausalLM"]}, "Mamba"),
        ("Llama", {"architectures": None}, "None"),
        ("Llama", {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}}, "longrope"),
        ("Llama", {"rope_scaling": {"type": "su", "factor": 2}}, "su"),
        ("Llama", {"hidden_act": "relu2"}, "relu2"),
        ("Llama", {"quantization_config": {"quant_method": "gptq"}}, "quantized"),
        ("Qwen2", {"use_sliding_window": True}, "sliding"),
        ("GPT2", {"activation_function": "relu2"}, "relu2"),
        ("GPT2", {"scale_attn_by_inverse_layer_idx": True}, "inverse_layer"),
    ],
)
def test_settings_that_the_decoder_has_not_are_refused_by_name(
    tmp_path: Path, family: str, change: dict[str, Any], named: str
) -> None:
    path = folder_of(build(family, GPT2 if family == "GPT2" else LLAMA), tmp_path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(UnsupportedModel, match=named):
        hf.read(path)


def test_a_tensor_of_no_known_place_is_refused(tmp_path: Path) -> None:
    path = folder_of(build("Llama", LLAMA), tmp_path)
    tensors = load_file(path / "model.safetensors")
    save_file(
        tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(6)}, path / "model.safetensors"
    )
    hf.read(path)  # an old file's buffer
    save_file(tensors | {"model.layers.0.self_attn.sinks": torch.ones(6)}, path / "model.safetensors")
    with pytest.raises(UnsupportedModel, match="sinks"):
        hf.read(path)


def test_pickled_weights_are_never_opened(tmp_path: Path) -> None:
    path = folder_of(build("Llama", LLAMA), tmp_path)
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    with pytest.raises(UnsupportedModel, match="pickled"):
        hf.read(path)


def test_damage_stays_within_the_error_tree(tmp_path: Path) -> None:
    path = folder_of(build("GPT2", GPT2), tmp_path)
    (path / "generation_config.json").unlink()  # it would overrule the eos_token_id below
    config = json.loads((path / "config.json").read_text())
    changes: list[Any] = [
        {"n_head": 0},
        {"n_head": 5},
        {"n_embd": "48"},
        {"n_layer": 1.5},
        {"n_layer": 10**15},
        {"n_embd": None},
    ]
    changes += [{"eos_token_id": "two"}, {"n_layer": 1}, {"n_layer": 3}, {"vocab_size": 260}]
    for change in changes:
        (path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ModelError):
            found = hf.read(path)
            checkpoint.check(found.config, found.weights, "tiny")
    for content in ("", "[]", "{", "\x00"):
        (path / "config.json").write_text(content)
        with pytest.raises(ModelError):
            hf.read(path)
    (path / "config.json").write_text(json.dumps(config))
    (path / "chat_template.jinja").write_bytes(b"\xff{{")
    with pytest.raises(CheckpointError, match=r"chat_template\.jinja cannot be read"):
        hf.read(path)
    (path / "chat_template.jinja").unlink()
    index = path / "model.safetensors.index.json"
    for shards in ([1], {"a": 5}, {"a": ["x"]}, {"a": "../x", "b": "model.safetensors"}, {}):
        index.write_text(json.dumps({"weight_map": shards}))
        with pytest.raises(CheckpointError, match="does not list shards"):
            hf.read(path)
    index.unlink()
    (path / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="damaged"):
        hf.read(path)


def test_missing_extra_and_odd_weights_are_named(tmp_path: Path) -> None:
    path = folder_of(build("Qwen2", LLAMA), tmp_path)
    tensors = load_file(path / "model.safetensors")
    bias = "model.layers.1.self_attn.k_proj.bias"
    for change, named in (
        ({bias: None}, r"missing tensors: blocks\.1\.attn\.k\.bias"),
        (
            {"model.layers.0.mlp.up_proj.bias": torch.ones(80)},
            r"unexpected tensors: blocks\.0\.mlp\.up\.bias",
        ),
        ({bias: torch.ones(25)}, r"blocks\.1\.attn\.k\.bias has shape \(25,\)"),
        ({bias: tensors[bias].double()}, r"blocks\.1\.attn\.k\.bias is torch\.float64"),
    ):
        changed = {n: t for n, t in (tensors | change).items() if t is not None}
        save_file(changed, path / "model.safetensors")
        with pytest.raises(CheckpointError, match=named) as caught:
            hf.read(path)
        assert str(path) in str(caught.value)
