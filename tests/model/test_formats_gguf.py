"""GGUF: blocks read exactly as `gguf` decodes them, rows of q and k put back, false figures refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from tokenizers import Tokenizer

from model.config import GPTConfig
from model.errors import CheckpointError, TokenizerError, UnsupportedModel
from model.formats import gguf as reader
from model.formats.gguf.architectures import ARCHITECTURES
from model.quantized import Q4_1, Q8_0, dense
from tests.model import tiny

TOKENS = ["<end>", "a", "b", "1", "2", "ab", "Ġ", "12"]
KINDS = [3, 1, 1, 1, 1, 1, 1, 1]
MERGES = ["a b", "1 2"]


def interleaved(matrix: np.ndarray, heads: int) -> np.ndarray:
    """What llama.cpp's converter does to q and k when it writes a Llama."""
    return matrix.reshape(heads, 2, matrix.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(matrix.shape)


def write(
    path: Path,
    config: GPTConfig,
    kinds: dict[str, Kind] | None = None,
    extra: dict[str, Any] | None = None,
    leave_out: tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
    """Write a tiny Llama; returns what every tensor decodes to, by native name and in native order."""
    kinds = kinds or {}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.d_model)
    writer.add_block_count(config.n_layers)
    writer.add_feed_forward_length(config.d_mlp)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.n_kv_heads)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types(KINDS)
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(0)
    writer.add_chat_template("{{ messages }}")
    for key, value in (extra or {}).items():
        writer.add_string(key, value) if isinstance(value, str) else writer.add_uint32(key, value)
    decoded = {}
    for name, weight in tiny.weights(config, 5).items():
        if name in leave_out:
            continue
        assert isinstance(weight, torch.Tensor)
        values = weight.numpy()
        kind = kinds.get(name, Kind.F32)
        stored = values
        if name.endswith(("attn.q.weight", "attn.k.weight")):
            stored = interleaved(values, config.n_heads if ".q." in name else config.n_kv_heads)
        blocks = gguf.quants.quantize(stored, kind)
        writer.add_tensor(ARCHITECTURES["llama"].foreign(name), blocks, raw_dtype=kind)
        decoded[name] = gguf.quants.dequantize(blocks, kind)
        if stored is not values:  # blocks lie within a row: decode in the file's order, then put rows back
            order = interleaved(np.arange(len(values))[:, None], len(values) // config.head_dim)[:, 0]
            decoded[name] = decoded[name][np.argsort(order)]
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return decoded


CONFIG = tiny.config(vocab_size=len(TOKENS), rope_theta=50_000.0)
MIXED = {
    "embed.weight": Kind.Q8_0,
    "blocks.0.attn.q.weight": Kind.Q4_1,
    "blocks.0.attn.k.weight": Kind.Q8_0,
    "blocks.1.attn.k.weight": Kind.Q4_1,
    "blocks.0.attn.v.weight": Kind.F16,
    "blocks.1.attn.q.weight": Kind.BF16,
    "blocks.0.mlp.down.weight": Kind.Q4_1,
    "blocks.1.mlp.up.weight": Kind.BF16,
    "blocks.1.attn.o.weight": Kind.Q8_0,
}


def test_every_type_reads_back_as_gguf_decodes_it(tmp_path: Path) -> None:
    expected = write(tmp_path / "tiny.gguf", CONFIG, MIXED)
    found = reader.read(tmp_path / "tiny.gguf")
    assert found.config == CONFIG
    assert found.weights.keys() == expected.keys()
    for name, values in expected.items():
        assert np.array_equal(dense(found.weights[name]).numpy(), values), name
    kept = {name: type(found.weights[name]) for name in MIXED}
    assert kept["embed.weight"] is Q8_0
    assert kept["blocks.0.attn.q.weight"] is Q4_1
    assert found.weights["blocks.0.attn.v.weight"].dtype == torch.float16  # type: ignore[union-attr]
    assert found.weights["blocks.1.mlp.up.weight"].dtype == torch.bfloat16  # type: ignore[union-attr]
    assert found.metadata["chat_template"] == "{{ messages }}"


def test_heads_of_a_llama_answer_as_in_transformers(tmp_path: Path) -> None:
    """transformers reads the same file with its own code: the permutation above is not the only witness."""
    transformers = pytest.importorskip("transformers")
    write(tmp_path / "tiny.gguf", CONFIG, {"blocks.0.attn.q.weight": Kind.Q8_0})
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="tiny.gguf", dtype=torch.float32
    ).state_dict()
    ours = reader.read(tmp_path / "tiny.gguf").weights
    for i in range(CONFIG.n_layers):
        for part in "qk":
            expected = theirs[f"model.layers.{i}.self_attn.{part}_proj.weight"]
            assert torch.equal(dense(ours[f"blocks.{i}.attn.{part}.weight"]), expected)


def test_tokenizer_cuts_digits_and_keeps_control_tokens_apart(tmp_path: Path) -> None:
    write(tmp_path / "tiny.gguf", CONFIG)
    tokenizer = Tokenizer.from_str(reader.read(tmp_path / "tiny.gguf").tokenizer.decode())
    assert tokenizer.encode("ab12").tokens == ["ab", "1", "2"], "digits stand alone although 12 is a merge"
    assert tokenizer.encode("ab<end>").ids == [5, 0]
    assert [t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special] == ["<end>"]


@pytest.mark.parametrize(
    ("extra", "kinds", "error"),
    [
        ({"general.architecture": "mamba"}, {}, UnsupportedModel),
        ({"llama.rope.scaling.type": "yarn"}, {}, UnsupportedModel),
        ({"llama.rope.dimension_count": 8}, {}, UnsupportedModel),
        ({"tokenizer.ggml.model": "llama"}, {}, UnsupportedModel),
        ({"tokenizer.ggml.pre": "llama-bpe"}, {}, UnsupportedModel),
        ({}, {"blocks.0.attn.q.weight": Kind.MXFP4}, UnsupportedModel),
        ({"llama.attention.head_count": 8}, {}, CheckpointError),
        ({"llama.attention.head_count": 0}, {}, CheckpointError),
        ({"llama.block_count": "two"}, {}, CheckpointError),
    ],
)
def test_what_this_stack_has_not_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    extra: dict[str, Any],
    kinds: dict[str, Kind],
    error: type,
) -> None:
    real = gguf.GGUFWriter.add_key_value  # the writer refuses a key given twice: the later one wins here

    def later_wins(self: gguf.GGUFWriter, key: str, *rest: Any, **named: Any) -> None:
        self.kv_data[0].pop(key, None)
        real(self, key, *rest, **named)

    monkeypatch.setattr(gguf.GGUFWriter, "add_key_value", later_wins)
    write(tmp_path / "tiny.gguf", CONFIG, kinds, extra)
    with pytest.raises(error):
        found = reader.read(tmp_path / "tiny.gguf")
        from model import checkpoint

        checkpoint.check(found.config, found.weights, "tiny")


def test_lists_of_a_tokenizer_that_do_not_fit_are_refused() -> None:
    from model.formats.bpe import tokenizer_json

    good: dict[str, Any] = {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": TOKENS,
        "merges": MERGES,
        "kinds": KINDS,
    }
    tokenizer_json(**good)
    for change in (
        {"merges": ["a z"]},
        {"merges": ["ab"]},
        {"kinds": KINDS[:-1]},
        {"tokens": ["a"] * len(TOKENS)},
        {"kinds": [99] * len(TOKENS)},
    ):
        with pytest.raises(TokenizerError):
            tokenizer_json(**(good | change))


ANY_BITS = [
    Kind.Q2_K,
    Kind.Q3_K,
    Kind.Q4_K,
    Kind.Q5_K,
    Kind.Q6_K,
    Kind.IQ4_XS,
]  #: rows of 256; no quantizer in gguf
BY_32 = [Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0, Kind.IQ4_NL]
#: Where a block of the type keeps its half-precision scales: offsets in bytes.
SCALES = {
    Kind.Q2_K: (80, 82),
    Kind.Q3_K: (108,),
    Kind.Q4_K: (0, 2),
    Kind.Q5_K: (0, 2),
    Kind.Q6_K: (208,),
    Kind.IQ4_XS: (0,),
    Kind.Q4_1: (0, 2),
    Kind.Q5_1: (0, 2),
}


def random_blocks(kind: Kind, rows: int, width: int, seed: int) -> np.ndarray:
    """Blocks of any bits but for their scales, which are ordinary numbers."""
    rng = np.random.default_rng(seed)
    per_block, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (rows, width // per_block, size), dtype=np.uint8)
    for at in SCALES.get(kind, (0,)):
        scales = rng.uniform(-0.01, 0.01, blocks.shape[:2]).astype(np.float16)
        blocks[:, :, at : at + 2] = scales[..., None].view(np.uint8)
    return blocks.reshape(rows, -1)


@pytest.mark.parametrize("kind", ANY_BITS + BY_32, ids=lambda kind: kind.name)
def test_any_bits_of_a_block_decode_as_in_gguf(tmp_path: Path, kind: Kind) -> None:
    """Exactly where there is a block form; else to float16, within its rounding."""
    from model.formats.gguf.blocks import decode

    blocks = random_blocks(kind, 5, 512, 7)
    writer = gguf.GGUFWriter(tmp_path / "one.gguf", "llama")
    writer.add_tensor("blk.0.ffn_up.weight", blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    expected = torch.from_numpy(gguf.quants.dequantize(blocks, kind))
    (tensor,) = gguf.GGUFReader(tmp_path / "one.gguf").tensors
    found = decode(tmp_path / "one.gguf", tensor)
    assert isinstance(found, {Kind.Q4_0: Q4_1, Kind.Q4_1: Q4_1, Kind.Q8_0: Q8_0}.get(kind, torch.Tensor))
    if isinstance(found, torch.Tensor):
        assert found.dtype == torch.float16
        torch.testing.assert_close(found.float(), expected, rtol=2**-11, atol=2**-25)
    else:
        assert torch.equal(dense(found), expected)


@pytest.mark.parametrize("kind", [Kind.Q4_K, Kind.Q6_K], ids=lambda kind: kind.name)
def test_rows_of_k_quants_are_put_back(tmp_path: Path, kind: Kind) -> None:
    """A whole model with matrices in K-quants: transformers' own reader is the other witness."""
    transformers = pytest.importorskip("transformers")
    config = tiny.config(
        vocab_size=len(TOKENS), d_model=256, n_heads=4, n_kv_heads=2, head_dim=64, d_mlp=256, n_layers=1
    )
    names = [f"blocks.0.attn.{part}.weight" for part in "qkv"]
    real = gguf.quants.quantize

    def quantize(values: np.ndarray, wanted: Kind) -> np.ndarray:  # gguf has no quantizer for these
        return (
            random_blocks(kind, *values.shape, seed=len(values)) if wanted == kind else real(values, wanted)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf.quants, "quantize", quantize)
        write(tmp_path / "tiny.gguf", config, dict.fromkeys(names, kind))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="tiny.gguf", dtype=torch.float32
    ).state_dict()
    ours = reader.read(tmp_path / "tiny.gguf").weights
    for part in "qkv":
        torch.testing.assert_close(
            dense(ours[f"blocks.0.attn.{part}.weight"]),
            theirs[f"model.layers.0.self_attn.{part}_proj.weight"],
            rtol=2**-11,
            atol=2**-25,
        )


def test_missing_and_mis_shaped_tensors_are_named(tmp_path: Path) -> None:
    write(tmp_path / "tiny.gguf", CONFIG, leave_out=("blocks.1.mlp.gate.weight", "blocks.0.attn_norm.weight"))
    with pytest.raises(
        CheckpointError, match=r"tiny\.gguf: missing tensors: blocks\.0\.attn_norm.*mlp\.gate"
    ):
        reader.read(tmp_path / "tiny.gguf")
