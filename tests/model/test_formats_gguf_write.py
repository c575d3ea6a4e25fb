"""GGUF written here: read back it is the same model, and llama.cpp and transformers find in it what we put in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import gguf as ggml
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Ggml
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as HuggingFaceTokenizer

from model import checkpoint
from model.checkpoint import Checkpoint
from model.errors import CheckpointError, UnsupportedModel
from model.formats import gguf
from model.formats.gguf.blocks import q8_0_bytes, quantize
from model.formats.gguf.writer import Kind
from model.gpt import GPT
from model.quantized import Q8_0, dense
from model.tokenizer import Tokenizer
from tests.model import tiny
from tests.model.llamacpp import LlamaCpp

FAMILIES = ("llama", "qwen2", "gpt2")
RULES = {"llama": "smollm", "qwen2": "qwen2", "gpt2": "gpt-2"}
ROWS = 380 + 8  #: the tokenizer's tokens and a few rows that no token has


def made(path: Path, name: str, **changes: Any) -> Checkpoint:
    seed = changes.pop("seed", 3)
    tokenizer = tiny.trained_tokenizer(changes.pop("rule", RULES[name])).to_str().encode()
    return tiny.saved(path, tiny.family(name, ROWS, **changes), tokenizer, seed=seed)


def decoder(found: Any) -> GPT:
    gpt = GPT(found.config).eval()
    gpt.load_state_dict({name: dense(weight) for name, weight in found.weights.items()}, strict=True)
    return gpt


def next_log_probabilities(gpt: GPT, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return gpt.logits(gpt(torch.tensor([ids]))[0, -1]).log_softmax(-1)


def regret(gpt: GPT, prompt: list[int], reply: list[int]) -> torch.Tensor:
    """How far each token of the reply lies below our likeliest one, in log-probability: 0 where it is ours."""
    with torch.no_grad():
        scores = gpt.logits(gpt(torch.tensor([prompt + reply]))[0, len(prompt) - 1 : -1])
    return scores.amax(-1) - scores.gather(-1, torch.tensor(reply)[:, None])[:, 0]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", get_args(Kind))
def test_what_is_written_reads_back(tmp_path: Path, kind: Kind, family: str, tied: bool) -> None:
    ours = made(tmp_path / "native", family, tied_head=tied)
    found = gguf.read(gguf.write(ours, tmp_path / "out" / "tiny.gguf", kind=kind))
    assert found.config == ours.config
    assert found.metadata == {"license": "", "chat_template": "{{ messages }}", "title": "tiny"}
    checkpoint.check(found.config, found.weights, "written")
    for name, weight in ours.weights.items():
        values, again = dense(weight), found.weights[name]
        if values.dim() == 1 or name == "positions.weight":
            assert torch.equal(dense(again), values), name
        elif kind == "f16" or values.shape[1] % 32:
            torch.testing.assert_close(dense(again), values, rtol=1e-3, atol=1e-7)
        else:
            assert isinstance(again, Q8_0)
            off = (dense(again) - values).view(len(values), -1, 32).abs()
            assert bool((off <= again.scale.float()[..., None] / 2 * (1 + 1e-5)).all()), name
    theirs, native = json.loads(found.tokenizer), json.loads(ours.tokenizer_file.read_bytes())
    assert theirs["model"]["vocab"] == native["model"]["vocab"]
    assert theirs["added_tokens"] == native["added_tokens"]
    old, new = (HuggingFaceTokenizer.from_str(json.dumps(spec)) for spec in (native, theirs))
    for text in (*tiny.CORPUS, "Cafe\u0301 12345<|im_end|>\r\n\n  <tool> x"):
        assert old.encode(text).ids == new.encode(text).ids


def test_joined_q_k_and_v_of_fewer_heads_read_back(tmp_path: Path) -> None:
    for heads, shared in ((4, 2), (6, 3)):
        ours = made(
            tmp_path / f"native-{heads}", "gpt2", n_heads=heads, n_kv_heads=shared, d_model=16 * heads
        )
        found = gguf.read(gguf.write(ours, tmp_path / f"{heads}.gguf", kind="f16"))
        for name, weight in ours.weights.items():
            torch.testing.assert_close(dense(found.weights[name]), dense(weight), rtol=1e-3, atol=1e-7)


def test_blocks_that_are_there_are_kept(tmp_path: Path) -> None:
    """A Q8_0 checkpoint is not quantized a second time, rows of q and k included."""
    ours = made(tmp_path / "native", "llama", tied_head=True)
    kept = {n: quantize(dense(w)) if len(w.shape) == 2 else w for n, w in ours.weights.items()}
    found = gguf.read(gguf.write(replace(ours, weights=kept), tmp_path / "tiny.gguf", kind="q8_0"))
    assert all(tiny.same(found.weights[name], weight) for name, weight in kept.items())


@given(st.lists(st.floats(-3e4, 3e4, width=32), min_size=32, max_size=32), st.floats(1e-12, 1.0))
@settings(max_examples=300, deadline=None)
def test_every_value_lies_within_half_a_scale(values: list[float], size: float) -> None:
    block = torch.tensor([values]) * size
    found = quantize(block)
    assert bool(((found.dequantize() - block).abs() <= found.scale.float() / 2 * (1 + 1e-5)).all())
    # The bytes are ggml's: its own decoder reads the same values from them.
    assert np.array_equal(ggml.quants.dequantize(q8_0_bytes(found), Ggml.Q8_0), found.dequantize().numpy())


def test_quantizing_is_no_worse_than_ggml() -> None:
    matrix = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    theirs = ggml.quants.dequantize(ggml.quants.quantize(matrix.numpy(), Ggml.Q8_0), Ggml.Q8_0)
    ours = (quantize(matrix).dequantize() - matrix).square().mean()
    assert float(ours) <= float(np.square(theirs - matrix.numpy()).mean())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_reads_the_same_model(tmp_path: Path, family: str, tied: bool) -> None:
    transformers = pytest.importorskip("transformers")
    # Of a GPT-2 in GGUF it reads neither the width of the MLP nor the number of positions: its defaults.
    sizes = {"d_mlp": 4 * 64, "context_length": 1024} if family == "gpt2" else {}
    ours = made(tmp_path / "native", family, tied_head=tied, **sizes)
    file = gguf.write(ours, tmp_path / "tiny.gguf", kind="f16")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=file.name, dtype=torch.float32
    ).eval()
    ids = torch.randint(0, ROWS, (2, 40), generator=torch.Generator().manual_seed(1))
    gpt = decoder(gguf.read(file))
    with torch.no_grad():
        torch.testing.assert_close(gpt.logits(gpt(ids)), theirs(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_computes_the_same(tmp_path: Path, family: str, kind: Kind) -> None:
    """Against our decoder in float32 on the weights as the file holds them.

    llama.cpp rounds activations to half precision (F16) or to 8 bits (Q8_0) before each product, and random
    weights make near ties: a token may differ where ours was likelier by less than that rounding.
    """
    ours = made(tmp_path / "native", family, tied_head=family != "qwen2")
    file = gguf.write(ours, tmp_path / "tiny.gguf", kind=kind)
    gpt, theirs = decoder(gguf.read(file)), LlamaCpp(file)
    plain = Tokenizer.from_file(ours.tokenizer_file).encode("a")[0]
    rounding = {"f16": 0.01, "q8_0": 0.2}[kind]
    generator = torch.Generator().manual_seed(2)
    for n in (1, 7, 40):
        prompt = torch.randint(4, 380, (n,), generator=generator).tolist()
        found = torch.tensor(theirs.log_probabilities(prompt, ROWS, plain))
        torch.testing.assert_close(found, next_log_probabilities(gpt, prompt), rtol=0, atol=rounding)
        reply = theirs.greedy(prompt, 24)
        lost = regret(gpt, prompt, reply)
        assert len(reply) == 24 or reply[-1] in ours.config.eos_ids
        assert bool((lost < rounding).all()) and int((lost == 0).sum()) >= 0.8 * len(reply)


@pytest.mark.parametrize("rule", ["gpt-2", "smollm", "qwen2", "deepseek-r1-qwen"])
def test_llama_cpp_cuts_text_the_same(tmp_path: Path, rule: str) -> None:
    ours = made(tmp_path / "native", "llama", rule=rule, n_layers=1)
    theirs, tokenizer = (
        LlamaCpp(gguf.write(ours, tmp_path / "a.gguf")),
        Tokenizer.from_file(ours.tokenizer_file),
    )
    for text in (
        *tiny.CORPUS,
        "It's 2026, isn't it?  Yes — IT'S 12345678.9!\n\n\n   x\t\ty\r\n",
        "中文 と 日本語 한국어 ελληνικά עברית ١٢٣ Ⅷ ½ 👍🏽 naïve",
        "x =   7\n    12,   34\t5",
        "<|im_end|> typed by a user; def f(x):\n\treturn x ** 2  # done",
    ):
        assert theirs.tokenize(text) == tokenizer.encode(text), text


def test_a_tokenizer_that_puts_bos_first_does_so_in_llama_cpp(tmp_path: Path) -> None:
    from tokenizers import processors

    tokenizer = tiny.trained_tokenizer("deepseek-r1-qwen")
    bos = [("<|im_start|>", 1)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<|im_start|> $A", special_tokens=bos)
    ours = tiny.saved(tmp_path / "native", tiny.family("qwen2", ROWS), tokenizer.to_str().encode())
    file = gguf.write(ours, tmp_path / "a.gguf")
    again = HuggingFaceTokenizer.from_str(gguf.read(file).tokenizer.decode())
    expected = tokenizer.encode("It's").ids
    assert expected[0] == 1 and again.encode("It's").ids == expected
    assert LlamaCpp(file).tokenize("It's", add_special=True) == expected


@pytest.mark.parametrize(
    ("family", "change", "named"),
    [
        ("llama", {"norm": "layernorm"}, "norm"),
        ("llama", {"family": "mine"}, "mine"),
        ("llama", {"eos_ids": (0, 1, 2, 3)}, "end tokens"),
        ("qwen2", {"mlp_bias": True}, "mlp_bias"),
        ("gpt2", {"mlp": "gelu"}, "gelu"),
        ("qwen2", {"head_dim": 24}, "heads as wide together"),
    ],
)
def test_what_llama_cpp_has_not_is_refused(
    tmp_path: Path, family: str, change: dict[str, Any], named: str
) -> None:
    ours = made(tmp_path / "native", family, **change)
    with pytest.raises(UnsupportedModel, match=named):
        gguf.write(ours, tmp_path / "tiny.gguf")
    assert not list(tmp_path.glob("*.gguf*")) and not list(tmp_path.glob(".*.new"))


def test_nothing_that_was_there_is_harmed(tmp_path: Path) -> None:
    ours = made(tmp_path / "native", "llama", n_layers=1)
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    with pytest.raises(CheckpointError, match="no GGUF"):
        gguf.write(ours, file)
    assert file.read_text() == "mine"
    good = gguf.write(ours, tmp_path / "a.gguf").read_bytes()
    name = "blocks.0.mlp.up.weight"
    broken = replace(ours, weights=ours.weights | {name: dense(ours.weights[name]) * 1e9})
    with pytest.raises(CheckpointError, match=r"ffn_up.*finite"):  # too large for half precision
        gguf.write(broken, tmp_path / "a.gguf")
    assert (tmp_path / "a.gguf").read_bytes() == good
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")) == [
        "a.gguf",
        "native",
        "notes.txt",
    ]


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    ours = made(tmp_path / "native", "llama")
    small = tiny.saved(
        tmp_path / "small", tiny.family("llama", 300), ours.tokenizer_file.read_bytes(), seed=1
    )
    with pytest.raises(CheckpointError, match="380 tokens, the model 300 rows"):
        gguf.write(small, tmp_path / "a.gguf")


PROMPTS = ("What is heat?", "Explain how a bridge is built.", "List three uses of iron.")


@pytest.mark.weights
@pytest.mark.parametrize("kind", get_args(Kind))
def test_real_weights_speak_the_same_in_llama_cpp(tmp_path: Path, weights_of: Any, kind: Kind) -> None:
    """Greedy tokens are ours in float32 on the weights as the file holds them; all of them in F16."""
    from model.chat import ChatTemplate

    ours = checkpoint.load(weights_of("smollm2-135m-instruct"))
    file = gguf.write(ours, tmp_path / "smol.gguf", kind=kind)
    gpt, theirs = decoder(gguf.read(file)), LlamaCpp(file)
    tokenizer = Tokenizer.from_file(ours.tokenizer_file)
    template = ChatTemplate.recognise(ours.metadata["chat_template"])
    for prompt in PROMPTS:
        ids = template.encode([{"role": "user", "content": prompt}], tokenizer).ids
        reply = theirs.greedy(ids, 32)
        lost = regret(gpt, ids, reply)
        if kind == "f16":
            assert len(reply) >= 24 and not bool(lost.any()), prompt
        else:  # it rounds activations to 8 bits, too
            assert int((lost == 0).sum()) >= 0.9 * len(reply) and float(lost.max()) < 0.3, prompt
    for text in ("It's 2026!  Δx ≈ 3.14159\n\n\tdef f(): return '中文'", *tiny.CORPUS):
        assert theirs.tokenize(text) == tokenizer.encode(text)
