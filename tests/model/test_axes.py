"""The axes of a decoder: every entry is there, runs, learns, is written and read; oracles are transformers'."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from model import checkpoint
from model.axes import choices, options
from model.axes.heads import HEADS, ROWS
from model.axes.initialise import INITIALISATIONS
from model.axes.mlps import ACTIVATIONS
from model.axes.norms import NORMS
from model.axes.positions import POSITIONS, RotaryPositions, SinusoidalPositions
from model.axes.scaling import STRETCHES
from model.config import GPTConfig
from model.engine import Engine
from model.engine.cache import Cache
from model.errors import CheckpointError, UnsupportedModel
from model.formats import gguf, hf
from model.gpt import GPT
from model.layout import tensor_shapes
from model.presets import NANO, preset
from model.train import fused, losses
from tests.model import tiny
from tests.model.test_gpt import build, ids

pytestmark = pytest.mark.usefixtures("one_thread")
TABLES = {
    "positions": (choices.Positions, POSITIONS),
    "norm": (choices.Norm, NORMS),
    "mlp": (choices.MLP, ACTIVATIONS),
    "head": (choices.Head, HEADS),
    "rows": (choices.Head, ROWS),
    "initialisation": (choices.Initialisation, INITIALISATIONS),
    "stretch": (choices.Stretch, STRETCHES),
}
#: One change to the tiny Llama each, and some together.
MIXED: list[dict[str, object]] = [
    *({"mlp": entry} for entry in get_args(choices.MLP)),
    *({"positions": entry} for entry in get_args(choices.Positions)),
    {"norm": "layernorm"},
    {"head": "normhead"},
    {"head": "normhead", "tied_head": False},
    {"rope_scaling": choices.RopeScaling(kind="yarn", factor=4.0, original_context_length=16)},
    {"positions": "sinusoidal", "norm": "layernorm", "mlp": "prelu", "head": "normhead", "mlp_bias": True},
]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def named(change: dict[str, object]) -> str:
    return "-".join(f"{value}" for value in change.values())[:40]


@pytest.mark.parametrize("axis", TABLES)
def test_names_and_tables_agree(axis: str) -> None:
    names, table = TABLES[axis]
    assert tuple(table) == get_args(names)


@pytest.mark.parametrize("change", MIXED, ids=named)
def test_any_mixture_is_kept_served_and_trained(tmp_path: Path, change: dict[str, object]) -> None:
    """Config and tensors survive the disk, the engine's parts and training's compute what the plain ones do."""
    config = tiny.config(**change)
    assert GPTConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    model, tokens = build(config), ids(config, 2, 24)
    state = dict(model.state_dict())
    assert {name: tuple(t.shape) for name, t in state.items()} == tensor_shapes(config)
    checkpoint.save(tmp_path / "mixed", config, state, tiny.tokenizer(), {})
    with torch.no_grad():
        expected = model.logits(model(tokens))
        cache = Cache(config, rows=2)
        pieces = [model.logits(model(piece, cache=cache)) for piece in tokens.split([9, 1, 1, 13], 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), expected, **CLOSE)
    served = Engine.load(tmp_path / "mixed", kernel="float32")
    logits, _ = served.prefill([row.tolist() for row in tokens])
    torch.testing.assert_close(logits, expected[:, -1], **CLOSE)
    quick = build(config).train()
    fused.quicken(quick)
    total = {}
    for name, decoder in (("plain", model.train()), ("quick", quick)):
        hidden = decoder(tokens[:, :-1])
        rows = decoder.head_rows()
        total[name] = losses.HeadLoss.apply(hidden.flatten(0, 1), rows, tokens[:, 1:].flatten(), 0.0)
        total[name].backward()
    torch.testing.assert_close(total["quick"], total["plain"], **CLOSE)
    wanted = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name, parameter in quick.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-3, atol=1e-4, msg=name)
        assert float(parameter.grad.abs().max()) > 0 or name.endswith("k.bias"), name


STRETCHED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"kind": "linear", "factor": 2.5}, {"factor": 2.5}),
    ({"kind": "dynamic", "factor": 3.0, "original_context_length": 64}, {"factor": 3.0}),
    (
        {"kind": "llama3", "factor": 8.0, "original_context_length": 64, "low_freq_factor": 1.0},
        {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
    (
        {"kind": "yarn", "factor": 4.0, "original_context_length": 64},
        {"factor": 4.0, "original_max_position_embeddings": 64},
    ),
    (
        {"kind": "yarn", "factor": 4.0, "original_context_length": 64, "attention_factor": 0.9, "beta_fast": 8.0,
         "truncate": False},
        {"factor": 4.0, "original_max_position_embeddings": 64, "attention_factor": 0.9, "beta_fast": 8.0,
         "truncate": False},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs"), STRETCHED, ids=lambda said: str(said.get("kind", "")))
@pytest.mark.parametrize("length", [20, 150])
def test_stretched_positions_are_those_of_transformers(
    ours: dict[str, Any], theirs: dict[str, Any], length: int
) -> None:
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    transformers = pytest.importorskip("transformers")
    scaling = choices.RopeScaling(**ours)
    config = tiny.config(context_length=192, head_dim=32, rope_theta=500.0, rope_scaling=scaling)
    reference = llama.LlamaRotaryEmbedding(
        transformers.LlamaConfig(
            hidden_size=128,
            num_attention_heads=4,
            max_position_embeddings=64 if scaling.kind == "dynamic" else 192,
            rope_parameters={"rope_type": scaling.kind, "rope_theta": 500.0} | theirs,
        )
    )
    positions = torch.arange(length)[None]
    cos, sin = reference(torch.zeros(1), positions)
    got_cos, got_sin = RotaryPositions(config).rotation(positions, torch.float32)
    torch.testing.assert_close(got_cos[:, 0], cos, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got_sin[:, 0, :, 16:], sin[..., 16:], rtol=1e-4, atol=1e-4)
    plain = RotaryPositions(replace(config, rope_scaling=None)).rotation(positions, torch.float32)
    unchanged = scaling.kind == "dynamic" and length <= 64
    assert (
        torch.allclose(plain[0], got_cos, atol=1e-4) == unchanged
    )  # a stretch that does nothing passes nothing


@pytest.mark.parametrize(("ours", "theirs"), STRETCHED, ids=lambda said: str(said.get("kind", "")))
def test_a_stretched_model_is_the_same_in_transformers(
    tmp_path: Path, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    transformers = pytest.importorskip("transformers")
    window = 192 if ours["kind"] == "dynamic" else 128
    tokenizer = tiny.trained_tokenizer()
    config = tiny.family("llama", tokenizer.get_vocab_size(), context_length=window)
    config = replace(config, rope_scaling=choices.RopeScaling(**ours))
    made = tiny.saved(tmp_path / "native", config, tokenizer.to_str().encode())
    folder = hf.write(made, tmp_path / "out", dtype="fp32")
    assert hf.read(folder).config == config
    said = json.loads((folder / "config.json").read_text())["rope_parameters"]
    assert theirs.items() <= said.items()
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokens = ids(config, 1, 120)
    model = GPT(config)
    model.load_state_dict(made.weights)
    with torch.no_grad():
        torch.testing.assert_close(
            model.logits(model(tokens)), reference(tokens).logits, rtol=1e-3, atol=2e-4
        )
    with pytest.raises(UnsupportedModel, match="rope_scaling"):
        gguf.write(made, tmp_path / "tiny.gguf")


@pytest.mark.parametrize("name", NANO)
def test_transformers_loads_a_nano_model_as_it_is_trained(tmp_path: Path, name: str) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = tiny.trained_tokenizer()
    rows = tokenizer.get_vocab_size()
    # The shape of the preset, narrower: every axis stays.
    small = options.apply(preset(name), options.ModelOptions(n_layers=2, d_model=96, context_length=48))
    config = replace(small, vocab_size=rows, bos_id=0, eos_ids=(0,))
    model = GPT(config)
    model.initialise(torch.Generator().manual_seed(0))
    for parameter in model.parameters():
        parameter.data.mul_(3 if parameter.ndim == 2 else 1)  # fresh ones say nearly nothing
    weights = dict(model.state_dict())
    checkpoint.save(tmp_path / "native", config, weights, tokenizer.to_str().encode(), {})
    made = checkpoint.load(tmp_path / "native")
    reference, report = transformers.AutoModelForCausalLM.from_pretrained(
        hf.write(made, tmp_path / "out", dtype="fp32"), output_loading_info=True
    )
    assert not any(report.values())
    tokens = ids(config, 2, 48)
    with torch.no_grad():
        expected, found = reference.eval()(tokens).logits, model.eval().logits(model(tokens))
    assert float(expected.std()) > 0.05
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    dropped = reference.config.to_dict()
    assert dropped.get("attn_pdrop", dropped.get("attention_dropout")) == config.attention_dropout


@pytest.mark.parametrize("mlp", ["relu", "leaky_relu", "prelu", "tanh", "sigmoid", "gelu"])
def test_a_gpt2_of_another_activation_is_the_same_in_transformers(tmp_path: Path, mlp: str) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = tiny.trained_tokenizer()
    config = replace(tiny.family("gpt2", tokenizer.get_vocab_size()), mlp=mlp)  # type: ignore[arg-type]
    made = tiny.saved(tmp_path / "native", config, tokenizer.to_str().encode())
    folder = hf.write(made, tmp_path / "out", dtype="fp32")
    reference, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    model, tokens = GPT(config), ids(config, 2, 30)
    model.load_state_dict(made.weights)
    with torch.no_grad():
        expected = reference.eval()(tokens).logits
        torch.testing.assert_close(model.logits(model(tokens)), expected, rtol=1e-3, atol=2e-4)
    assert hf.read(folder).config == config


def test_another_family_takes_what_its_own_cannot_say(tmp_path: Path) -> None:
    tokenizer = tiny.trained_tokenizer()
    config = replace(tiny.family("qwen2", tokenizer.get_vocab_size()), attention_bias=False)
    made = tiny.saved(tmp_path / "native", config, tokenizer.to_str().encode())
    assert hf.read(hf.write(made, tmp_path / "out")).config == replace(config, family="llama")


def test_a_refused_export_names_the_axis_and_says_what_to_do(tmp_path: Path) -> None:
    made = tiny.saved(
        tmp_path / "mixed", tiny.config(norm="layernorm", mlp="prelu", head="normhead"), tiny.tokenizer()
    )
    with pytest.raises(UnsupportedModel) as refusal:
        hf.write(made, tmp_path / "out")
    for said in ("norm = 'layernorm'", "mlp = 'prelu'", "head = 'normhead'", "nano-llama"):
        assert said in str(refusal.value)
    with pytest.raises(UnsupportedModel, match=r"head = 'normhead'.*train one with head = 'linear'"):
        gguf.write(made, tmp_path / "tiny.gguf")
    assert not (tmp_path / "out").exists() and not (tmp_path / "tiny.gguf").exists()


def test_sinusoidal_positions_are_those_of_the_paper() -> None:
    config = tiny.config(positions="sinusoidal")
    x = torch.randn(1, 50, config.d_model)
    placed = SinusoidalPositions(config).place(x, torch.arange(50)[None])
    waves = placed - x * math.sqrt(config.d_model)
    for position, i in itertools.product((0, 1, 7, 49), (0, 1, 10, 31)):
        angle = position / 10_000 ** (2 * i / config.d_model)
        assert math.isclose(float(waves[0, position, 2 * i]), math.sin(angle), abs_tol=1e-4)
        assert math.isclose(float(waves[0, position, 2 * i + 1]), math.cos(angle), abs_tol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_normhead_scores_are_products_with_unit_rows(tied: bool) -> None:
    config = tiny.config(head="normhead", tied_head=tied)
    model, hidden = build(config), torch.randn(3, config.d_model)
    scores = model.logits(hidden)
    assert bool((scores.abs() <= hidden.norm(dim=-1, keepdim=True) + 1e-4).all())
    matrix = model.embed.weight if model.head is None else model.head.weight
    with torch.no_grad():
        matrix.mul_(torch.rand(config.vocab_size, 1) + 0.5)  # lengths say nothing
    torch.testing.assert_close(model.logits(hidden), scores)


@pytest.mark.parametrize("kind", get_args(choices.Initialisation))
def test_fresh_weights_have_the_variance_that_they_should(kind: choices.Initialisation) -> None:
    config = tiny.config(d_model=256, d_mlp=512, n_heads=8, n_kv_heads=8, head_dim=32, initialisation=kind)
    model = GPT(config)
    model.initialise(torch.Generator().manual_seed(0))
    again = GPT(config)
    again.initialise(torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    up, down = model.get_parameter("blocks.0.mlp.up.weight"), model.get_parameter("blocks.0.mlp.down.weight")
    wide, back = {
        "gpt2": (0.02, 0.02),
        "xavier": (math.sqrt(2 / 768), math.sqrt(2 / 768)),
        "kaiming": (math.sqrt(2 / 256), math.sqrt(2 / 512)),
    }[kind]
    assert math.isclose(float(up.detach().std()), wide, rel_tol=0.02)
    assert math.isclose(float(down.detach().std()), back / math.sqrt(2 * 2), rel_tol=0.02)
    assert math.isclose(float(model.embed.weight.detach().std()), 0.02, rel_tol=0.02)
    whole = GPT(replace(config, scaled_residual=False))
    assert math.isclose(
        float(whole.get_parameter("blocks.1.attn.o.weight").detach().std()),
        wide if kind != "xavier" else math.sqrt(2 / 512),
        rel_tol=0.02,
    )


@pytest.mark.parametrize("place", ["embed_dropout", "attention_dropout", "residual_dropout"])
def test_dropout_works_while_training_and_only_then(place: str) -> None:
    config = tiny.config(**{place: 0.5})
    model, tokens = build(config), ids(config, 1, 30)
    plain = build(replace(config, **{place: 0.0}))  # type: ignore[arg-type]
    fused.quicken(model)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(tokens), plain(tokens), **CLOSE)
        torch.manual_seed(0)
        first, second = model.train()(tokens), model(tokens)
        torch.manual_seed(0)
        assert torch.equal(model(tokens), first)
        assert not torch.allclose(first, second)


def test_options_change_a_preset_and_keep_its_proportions() -> None:
    change = options.ModelOptions(d_model=64, positions="sinusoidal", dropout=0.1, attention_dropout=0.0)
    config = options.apply(preset("nano-char"), change)
    assert (config.head_dim, config.d_mlp, config.n_heads) == (16, 176, 4)
    assert (config.embed_dropout, config.attention_dropout, config.residual_dropout) == (0.1, 0.0, 0.1)
    assert options.apply(preset("nano-char"), options.ModelOptions()) == preset("nano-char")
    stretched = options.apply(preset("nano-char"), options.ModelOptions(rope_scaling="yarn:4"))
    assert stretched.rope_scaling == choices.RopeScaling(kind="yarn", factor=4, original_context_length=64)
    for wrong, said in (
        ({"rope_scaling": "yarn"}, "KIND:FACTOR"),
        ({"rope_scaling": "longrope:2"}, "rope_scaling.kind must be one of linear"),
        ({"mlp": "swish"}, "mlp must be one of gelu"),
        ({"n_heads": 3}, "multiple of n_heads"),
        ({"dropout": 1.0}, "embed_dropout must be"),
        ({"positions": "learned", "rope_scaling": "linear:2"}, "goes with rotary"),
    ):
        with pytest.raises(CheckpointError, match=said):
            options.apply(preset("nano-char"), options.ModelOptions(**wrong))  # type: ignore[arg-type]
