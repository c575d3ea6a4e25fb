"""Packed weights hold what they were made from, fast parts compute what plain ones do, the probe chooses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.checkpoint import Checkpoint
from model.config import GPTConfig
from model.engine import Engine, kernels, probe
from model.engine.cache import Cache
from model.engine.engine import SLICE_TOKENS
from model.engine.kernels import PackedLinear, attend_tiled, quantize_q8_0
from model.errors import ModelError
from model.gpt import GPT, Span, attend, penalty
from model.quantized import Q4_1, Q8_0, Weight, dense
from tests.model import tiny

#: Two bf16 roundings: of the scales or weights, and of the result. One is 2^-9 at most, 0.0011 on average.
BF16 = 0.006
BIASES = {"attention_bias": True, "output_bias": True, "mlp_bias": True}
CONFIGS = {
    "llama": tiny.config(context_length=512),
    "llama with biases": tiny.config(context_length=512, **BIASES),
    "eight key-value heads": tiny.config(context_length=512, n_heads=8, n_kv_heads=8),
    "gpt2": tiny.config(
        context_length=512, n_kv_heads=4, positions="learned", norm="layernorm", mlp="gelu_tanh",
        tied_head=False, **BIASES,
    ),
}  # fmt: skip
KINDS = {"packed blocks": ("q4_1", "q8_0"), "trained": ("f32",)}


pytestmark = pytest.mark.usefixtures("one_thread")


def matrix(kind: str, outputs: int = 48, inputs: int = 96, seed: int = 0) -> Weight:
    generator = torch.Generator().manual_seed(seed)
    scale = (0.5 + torch.rand(outputs, inputs // 32, generator=generator)).half() / 16
    if kind == "q4_1":
        codes = torch.randint(0, 16, (outputs, inputs), generator=generator, dtype=torch.uint8)
        return Q4_1(
            codes, scale, -(8 * scale.float() + 0.1 * torch.randn(scale.shape, generator=generator)).half()
        )
    if kind == "q8_0":
        codes = torch.randint(-128, 128, (outputs, inputs), generator=generator, dtype=torch.int8)
        return Q8_0(codes, scale / 16)
    return torch.randn(outputs, inputs, generator=generator)


def unpacked(packed: PackedLinear) -> torch.Tensor:
    """What the kernel multiplies by, read out of it column by column."""
    inputs = packed.scales.shape[0] * 32 // (2 if packed.doubled else 1)
    return packed(torch.eye(inputs)).T


@pytest.mark.parametrize("kind", ["q4_1", "q8_0"])
def test_codes_pack_exactly(kind: str) -> None:
    """Bit for bit, as far as the result's bf16 tells, where bf16 holds the scales."""
    weight = matrix(kind)
    scale = weight.scale.bfloat16().half()  # type: ignore[union-attr]
    exact = Q4_1(weight.codes, scale, -8 * scale) if isinstance(weight, Q4_1) else Q8_0(weight.codes, scale)  # type: ignore[union-attr]
    assert torch.equal(unpacked(PackedLinear([exact])), exact.dequantize().bfloat16().float())


@pytest.mark.parametrize("kind", ["q4_1", "q8_0", "dense"])
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_a_packed_product_is_as_close_as_a_bf16_one(kind: str, rows: int) -> None:
    weights = [matrix(kind, seed=1), matrix(kind, outputs=16, seed=2)]
    biases = [torch.randn(48), torch.randn(16)]
    x = torch.randn(rows, 96).bfloat16()
    whole = torch.cat([dense(weight) for weight in weights]).double()
    exact = x.double() @ whole.T + torch.cat(biases).double()
    found = PackedLinear(weights, [bias.bfloat16() for bias in biases])(x)
    allowed = BF16 if kind != "dense" else 2 * BF16  # a dense matrix is rounded to 8 bits besides
    assert float((found.double() - exact).norm() / exact.norm()) < allowed
    assert found.dtype == torch.bfloat16


def test_rounding_to_8_bits_errs_by_half_a_step_at_most() -> None:
    weight = torch.cat((matrix("dense"), torch.zeros(2, 96), torch.full((1, 96), 1e-9)))  # type: ignore[list-item]
    made = quantize_q8_0(weight)
    step = made.scale.float().repeat_interleave(32, 1)
    largest = weight.abs().view(len(weight), -1, 32).amax(-1).repeat_interleave(32, 1)
    assert (
        (made.dequantize() - weight).abs() <= 0.5 * step + largest * 2**-10 + 1e-8
    ).all()  # 2^-10: half-precision scale


def both(
    name: str, kinds: tuple[str, ...], dtype: torch.dtype, *, packed: bool, tiled: bool
) -> tuple[GPT, GPT]:
    """The plain decoder and the one with its parts replaced, of the same weights."""
    config: GPTConfig = CONFIGS[name]
    made = tiny.weights(config, kinds=kinds)
    # Scaled down so that activations stay of order 1.
    weights: dict[str, Weight] = {
        n: w * 0.15 if isinstance(w, torch.Tensor)
        else Q4_1(w.codes, w.scale / 64, (-7.5 * w.scale / 64).half()) if isinstance(w, Q4_1)
        else Q8_0(w.codes, w.scale / 1024)
        for n, w in made.items()
    }  # fmt: skip
    models = []
    for _ in range(2):
        model = GPT(config)
        model.load_state_dict({n: dense(w, dtype) for n, w in weights.items()}, assign=True)
        models.append(model.requires_grad_(False).eval())
    kernels.install(models[1], weights, packed=packed, tiled=tiled)
    return models[0], models[1]


def apart(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() - exact.double()).norm() / exact.double().norm())


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("stacked_from", [0, 80, 1000])
@torch.no_grad()
def test_the_fast_parts_compute_the_same_in_float32(
    name: str, tiled: bool, stacked_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "FEWEST_STACKED_KEYS", stacked_from)
    plain, fast = both(name, ("f32",), torch.float32, packed=False, tiled=tiled)
    tokens = torch.randint(0, 256, (2, 90), generator=torch.Generator().manual_seed(1))
    caches = [Cache(plain.config, rows=2) for _ in range(2)]
    lengths = [[70, 33], [1, 1], [15, 2], [1, 1], [2, 9]]
    at = 0
    for part in lengths:
        piece = tokens[:, at : at + max(part)]
        at += max(part)
        outputs = [m(piece, cache=c, lengths=part) for m, c in zip((plain, fast), caches, strict=True)]
        for row, length in enumerate(part):
            want, got = outputs[0][row, :length], outputs[1][row, :length]
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(fast.logits(got), plain.logits(want), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("kernel", probe.NAMED)
@torch.no_grad()
def test_read_by_steps_equals_read_at_once_with_each_kernel(
    name: str, kinds: tuple[str, ...], kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same kernels both ways. float32 sums in another order; bf16 and packed products round each of some
    ten results a layer by 2^-9, and a step rounds other sums than a slice does.
    """
    monkeypatch.setattr(kernels, "FEWEST_STACKED_KEYS", 36)  # both ways of attending
    chosen = probe.NAMED[kernel]
    plain, fast = both(name, kinds, chosen.dtype, packed=chosen.packed, tiled=chosen.tiled)
    tokens = torch.randint(0, 256, (1, 40), generator=torch.Generator().manual_seed(2))
    cache = Cache(plain.config, dtype=chosen.dtype)
    pieces = [fast(tokens[:, :30], cache=cache)] + [
        fast(tokens[:, i : i + 1], cache=cache) for i in range(30, 40)
    ]
    stepped, whole = torch.cat(pieces, 1), fast(tokens)
    exact = chosen.dtype == torch.float32 and not chosen.packed
    allowed = 1e-5 if exact else 0.03 if chosen.packed and kinds == ("f32",) else 0.02
    assert apart(stepped, whole) < allowed
    assert apart(fast.logits(stepped[:, -1]), fast.logits(whole[:, -1])) < allowed
    assert apart(whole, plain(tokens)) < (1e-5 if chosen.dtype == torch.float32 else 0.02)


@pytest.mark.parametrize("past", [0, 37])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tiled_attention_is_attention(past: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    n, keys = 150, past + 150
    q = torch.randn(2, 6, n, 16, generator=generator).to(dtype)
    k, v = (torch.randn(2, 2, keys, 16, generator=generator).to(dtype) for _ in range(2))
    # Rows whose queries stand at different places, as in a batch of unequal prompts.
    places = torch.arange(n) + torch.tensor([past, past // 2])[:, None]
    mask = penalty(torch.arange(keys) <= places[:, None, :, None], dtype) if past else None
    span = Span(None, mask, causal=past == 0, cache=None)
    exact = attend(
        q.double(),
        k.double(),
        v.double(),
        Span(None, None if mask is None else mask.double(), past == 0, None),
    )
    assert apart(attend_tiled(q, k, v, span), exact) < (1e-5 if dtype == torch.float32 else 0.01)


def checkpoint(folder: Path, kinds: tuple[str, ...]) -> Checkpoint:
    path = folder / "tokenizer.json"
    path.write_bytes(tiny.tokenizer())
    return Checkpoint(folder, CONFIGS["llama"], tiny.weights(CONFIGS["llama"], kinds=kinds), path, {})


def test_the_probe_takes_what_is_faster_and_refuses_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIGS["llama"]

    def chosen(timings: list[list[float]]) -> probe.Kernels:
        turns = iter(timings)
        monkeypatch.setattr(probe, "_fastest", lambda candidates: next(turns))
        probe._probe.cache_clear()
        return probe.choose("auto", config, 256)

    got = chosen([[2.0, 1.0], [3.0, 1.0], [1.0, 0.5]])
    assert (got.dtype, got.tiled, got.packed) == (torch.bfloat16, True, True)
    got = chosen([[1.0, 40.0], [1.0, 2.0], [1.0, 1.5]])
    assert (got.dtype, got.tiled, got.packed) == (torch.float32, False, False)
    assert "40000.0 ms" in str(got)  # it says why
    monkeypatch.setattr(PackedLinear, "forward", lambda self, x: torch.zeros(x.shape[0], self.outputs))
    got = chosen([[1.0, 1.0], [1.0, 1.0]])
    assert not got.packed and "no packed kernel" in got.reason
    with pytest.raises(ModelError, match="float32"):
        probe.choose("fast", config, 256)


def test_an_engine_says_which_kernels_it_runs(tmp_path: Path) -> None:
    loaded = checkpoint(tmp_path, ("q4_1", "q8_0", "f16"))
    engine = Engine.from_checkpoint(loaded, kernel="bfloat16+packed")
    assert "bfloat16" in engine.describe() and "packed" in engine.describe()
    assert engine.dtype == torch.bfloat16 and engine.kernels == probe.NAMED["bfloat16+packed"]
    assert any(isinstance(module, PackedLinear) for module in engine.model.modules())
    assert Engine.from_checkpoint(loaded).kernels == probe.choose("auto", loaded.config, SLICE_TOKENS)  # once


def test_a_matrix_packed_in_parts_is_the_matrix_packed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("q4_1", "q8_0"):
        weight = matrix(kind, outputs=64 * 5, inputs=64)
        whole = PackedLinear([weight])
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "PACK_ROWS", 128)
            parts = PackedLinear([weight])
        assert torch.equal(parts.codes, whole.codes) and torch.equal(parts.scales, whole.scales)
