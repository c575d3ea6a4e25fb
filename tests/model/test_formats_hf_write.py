"""Hugging Face folders written here: plain `from_pretrained` loads them and computes the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from model import checkpoint
from model.checkpoint import Checkpoint
from model.errors import CheckpointError, UnsupportedModel
from model.formats import hf
from model.gpt import GPT
from model.quantized import dense
from model.tokenizer import Tokenizer
from tests.model import tiny

transformers = pytest.importorskip("transformers")

RULES = {"llama": "smollm", "qwen2": "qwen2", "gpt2": "gpt-2"}
ROWS = 388
TEXTS = (*tiny.CORPUS, "It's 12345 o'clock —  中文\r\n\n\tcafe\u0301 👍🏽")


def made(path: Path, family: str, **changes: Any) -> Checkpoint:
    tokenizer = tiny.trained_tokenizer(RULES[family]).to_str().encode()
    kinds = changes.pop("kinds", ("f32",))
    return tiny.saved(path, tiny.family(family, ROWS, **changes), tokenizer, seed=3, kinds=kinds)


def logits(found: Any, ids: torch.Tensor) -> torch.Tensor:
    gpt = GPT(found.config).eval()
    gpt.load_state_dict({name: dense(weight) for name, weight in found.weights.items()}, strict=True)
    with torch.no_grad():
        return gpt.logits(gpt(ids))


@pytest.mark.parametrize("shard_bytes", [None, 60_000])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", RULES)
def test_transformers_computes_the_same(
    tmp_path: Path, family: str, tied: bool, shard_bytes: int | None
) -> None:
    ours = made(tmp_path / "native", family, tied_head=tied)
    folder = hf.write(ours, tmp_path / "out", dtype="fp32", shard_bytes=shard_bytes)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert theirs.dtype == torch.float32
    shared = (
        theirs.get_output_embeddings().weight.data_ptr() == theirs.get_input_embeddings().weight.data_ptr()
    )
    assert shared == tied == theirs.config.tie_word_embeddings
    ids = torch.randint(0, ROWS, (3, 33), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(ids).logits, logits(ours, ids), rtol=1.3e-6, atol=1e-5)
    shards = sorted(folder.glob("*.safetensors"))
    assert (len(shards) > 2) == (shard_bytes is not None)
    for shard in shards:
        with safe_open(shard, framework="pt") as reader:
            stored = [reader.get_tensor(name) for name in reader.keys()]  # noqa: SIM118
        total = sum(t.numel() * 4 for t in stored)
        assert shard_bytes is None or total <= shard_bytes or len(stored) == 1
    found = hf.read(folder)  # and back, bit for bit
    assert found.config == ours.config and found.weights.keys() == ours.weights.keys()
    assert all(torch.equal(dense(found.weights[n]), dense(w)) for n, w in ours.weights.items())
    assert found.metadata["chat_template"] == "{{ messages }}"


@pytest.mark.parametrize("family", RULES)
def test_the_tokenizer_gives_the_same_ids(tmp_path: Path, family: str) -> None:
    ours = made(tmp_path / "native", family)
    theirs = transformers.AutoTokenizer.from_pretrained(hf.write(ours, tmp_path / "out"))
    tokenizer = Tokenizer.from_file(ours.tokenizer_file)
    for text in TEXTS:
        assert theirs.encode(text) == tokenizer.encode(text)
        assert theirs.decode(theirs.encode(text)) == tokenizer.decode(tokenizer.encode(text))
    assert theirs.encode("<|im_start|>a<|im_end|>")[0::2] == [1, 2], "control tokens are known by name"
    assert (theirs.eos_token_id, theirs.pad_token_id, theirs.bos_token_id) == (2, 0, 1)
    assert theirs.chat_template == "{{ messages }}" and theirs.model_max_length == 64


def test_every_end_token_ends_what_they_generate(tmp_path: Path) -> None:
    ours = made(tmp_path / "native", "llama")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(hf.write(ours, tmp_path / "out"))
    assert theirs.generation_config.eos_token_id == [2, 0]
    assert theirs.generation_config.pad_token_id == 0


@pytest.mark.parametrize(("dtype", "torch_dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_quantized_matrices_are_rounded_once(tmp_path: Path, dtype: Any, torch_dtype: torch.dtype) -> None:
    ours = made(tmp_path / "native", "llama", kinds=("q4_1", "q8_0", "bf16"))
    folder = hf.write(ours, tmp_path / "out", dtype=dtype)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert theirs.dtype == torch_dtype
    found = hf.read(folder)
    for name, weight in ours.weights.items():
        assert torch.equal(found.weights[name], dense(weight, torch.float32).to(torch_dtype)), name


@pytest.mark.parametrize(
    ("family", "change", "named"),
    [
        ("llama", {"family": "mine"}, "mine"),
        ("llama", {"output_bias": True}, "output_bias"),
        ("llama", {"norm": "layernorm"}, "norm"),
        ("qwen2", {"mlp_bias": True}, "mlp_bias"),
        ("llama", {"head": "normhead"}, "head = 'normhead'"),
        ("llama", {"positions": "sinusoidal"}, "positions = 'sinusoidal'"),
        ("llama", {"mlp": "relu"}, "mlp = 'relu'"),
        ("gpt2", {"mlp": "swiglu"}, "mlp = 'swiglu'"),
        ("gpt2", {"head_dim": 8}, "head_dim"),
        ("gpt2", {"n_kv_heads": 2}, "n_kv_heads"),
    ],
)
def test_axes_that_the_family_has_not_are_refused(
    tmp_path: Path, family: str, change: dict[str, Any], named: str
) -> None:
    config = replace(tiny.family(family, ROWS), **change)
    ours = tiny.saved(tmp_path / "native", config, tiny.trained_tokenizer().to_str().encode())
    with pytest.raises(UnsupportedModel, match=named):
        hf.write(ours, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_never_written_over(tmp_path: Path) -> None:
    ours = made(tmp_path / "native", "llama")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    for other in (tmp_path / "mine", ours.path):
        with pytest.raises(CheckpointError, match="no earlier export"):
            hf.write(ours, other)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"
    folder = hf.write(ours, tmp_path / "out", shard_bytes=60_000)
    hf.write(ours, folder)  # an earlier export is replaced as a whole: no shard of it is left
    assert [p.name for p in folder.glob("*.safetensors*")] == ["model.safetensors"]


def test_a_failure_leaves_the_earlier_export(tmp_path: Path) -> None:
    ours = made(tmp_path / "native", "gpt2")
    folder = hf.write(ours, tmp_path / "out")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    name = "blocks.1.mlp.down.weight"
    broken = replace(ours, weights=ours.weights | {name: dense(ours.weights[name]) / 0})
    with pytest.raises(CheckpointError, match=r"h\.1\.mlp\.c_proj\.weight is not finite"):
        hf.write(broken, folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    tokenizer = tiny.trained_tokenizer().to_str().encode()
    small = tiny.saved(tmp_path / "small", tiny.family("llama", 300), tokenizer)
    with pytest.raises(CheckpointError, match="380 tokens, the model 300 rows"):
        hf.write(small, tmp_path / "out")
    folder = hf.write(made(tmp_path / "native", "llama"), tmp_path / "good")
    larger = tiny.trained_tokenizer()
    larger.add_tokens([f"<new{i}>" for i in range(20)])
    (folder / "tokenizer.json").write_text(larger.to_str())
    with pytest.raises(CheckpointError, match="400 tokens, the model 388 rows"):
        hf.read(folder)


@pytest.mark.weights
def test_real_weights_compute_the_same_in_transformers(tmp_path: Path, weights_of: Any) -> None:
    ours = checkpoint.load(weights_of("smollm2-135m-instruct"))
    folder = hf.write(ours, tmp_path / "smol", dtype="fp32", shard_bytes=200_000_000)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    own = Tokenizer.from_file(ours.tokenizer_file)
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is heat?"}], add_generation_prompt=True
    )
    ids = torch.tensor([chat["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, logits(ours, ids), rtol=0, atol=1e-3)
    assert all(tokenizer.encode(text) == own.encode(text) for text in TEXTS)
