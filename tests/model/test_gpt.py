"""The decoder's laws: what was cached, padded or masked changes nothing; every parameter learns.

That its logits are those of transformers, for random models of every family, stands in test_formats_hf.py.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from model.axes.positions import RotaryPositions, rotate
from model.config import GPTConfig
from model.engine.cache import STEP, Cache
from model.gpt import GPT
from model.layout import tensor_shapes
from tests.model import tiny

LLAMA = tiny.config(context_length=2 * STEP)
GPT2 = replace(
    LLAMA, n_kv_heads=4, positions="learned", norm="layernorm", mlp="gelu_tanh", family="gpt2",
    attention_bias=True, output_bias=True, mlp_bias=True,
)  # fmt: skip
FAMILIES = {"llama": LLAMA, "gpt2": GPT2, "untied": replace(LLAMA, tied_head=False, mlp="gelu", head_dim=24)}
#: Two float32 computations of the same sums in another order.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def build(config: GPTConfig, seed: int = 0) -> GPT:
    """Random weights, none of them a neutral 0 or 1."""
    torch.manual_seed(seed)
    model = GPT(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.15 * torch.randn_like(parameter) + (parameter.ndim == 1))
    return model.eval()


def ids(config: GPTConfig, rows: int, n: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, config.vocab_size, (rows, n), generator=torch.Generator().manual_seed(seed))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pieces", [[1] * 40, [7, 1, 1, 20, 11], [39, 1], [STEP - 1, 1, 1, 60]])
@torch.no_grad()
def test_read_in_pieces_equals_read_at_once(family: str, pieces: list[int]) -> None:
    config = FAMILIES[family]
    model, tokens = build(config), ids(config, 2, sum(pieces))
    cache = Cache(config, rows=2)
    parts = [model(part, cache=cache) for part in tokens.split(pieces, 1)]
    torch.testing.assert_close(torch.cat(parts, 1), model(tokens), **CLOSE)
    assert cache.lengths == [sum(pieces)] * 2


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_rows_of_unequal_length_equal_each_alone(family: str) -> None:
    config = FAMILIES[family]
    model = build(config)
    lengths = [[5, 1, 9, 3], [1, 4, 0, 2], [1, 1, 1, 1], [3, 1, 2, 5]]
    rows = [ids(config, 1, sum(part[row] for part in lengths), seed=row)[0] for row in range(4)]
    cache = Cache(config, rows=4)
    found: list[list[torch.Tensor]] = [[] for _ in rows]
    at = [0] * 4
    for part in lengths:
        # The padding is a different real token in every row, so that looking at it would show.
        batch = ids(config, 4, max(part), seed=99)
        for row, length in enumerate(part):
            batch[row, :length] = rows[row][at[row] : at[row] + length]
            at[row] += length
        hidden = model(batch, cache=cache, lengths=part)
        for row, length in enumerate(part):
            found[row].append(hidden[row, :length])
    assert cache.lengths == [len(row) for row in rows]
    for row, tokens in enumerate(rows):
        torch.testing.assert_close(torch.cat(found[row]), model(tokens[None])[0], **CLOSE)


@torch.no_grad()
def test_padding_may_stand_behind_the_last_learned_position() -> None:
    config = replace(GPT2, context_length=8)
    model, cache = build(config), Cache(config, rows=2)
    model(ids(config, 2, 7), cache=cache, lengths=[7, 2])
    hidden = model(ids(config, 2, 5), cache=cache, lengths=[1, 5])
    assert hidden.isfinite().all() and cache.lengths == [8, 7]


@torch.no_grad()
def test_a_mask_and_positions_pack_two_texts_into_one_row() -> None:
    model, tokens = build(LLAMA), ids(LLAMA, 1, 20)
    text = torch.tensor([0] * 12 + [1] * 8)
    mask = (text[:, None] == text) & torch.ones(20, 20).tril().bool()
    positions = torch.cat((torch.arange(12), torch.arange(8)))[None]
    packed = model(tokens, positions=positions, mask=mask[None, None])
    torch.testing.assert_close(packed[:, :12], model(tokens[:, :12]), **CLOSE)
    torch.testing.assert_close(packed[:, 12:], model(tokens[:, 12:]), **CLOSE)


@torch.no_grad()
def test_a_cache_copy_is_independent_and_takes_any_rows() -> None:
    model, tokens = build(LLAMA), ids(LLAMA, 2, 30)
    cache = Cache(LLAMA, rows=2)
    model(tokens, cache=cache, lengths=[30, 20])
    copied = cache.copy([1, 0, 1], length=15)
    assert copied.lengths == [15, 15, 15] and copied.capacity < cache.capacity + STEP
    more = ids(LLAMA, 3, 4, seed=7)
    hidden = model(more, cache=copied)
    for row, source in enumerate((1, 0, 1)):
        whole = model(torch.cat((tokens[source : source + 1, :15], more[row : row + 1]), 1))
        torch.testing.assert_close(hidden[row], whole[0, 15:], **CLOSE)
    assert cache.lengths == [30, 20]  # and the original still continues as if nothing had happened
    torch.testing.assert_close(
        model(more[:2, :1], cache=cache)[0, 0],
        model(torch.cat((tokens[:1], more[:1, :1]), 1))[0, -1],
        **CLOSE,
    )
    cache.truncate(10)
    torch.testing.assert_close(model(tokens[:, 10:], cache=cache)[0], model(tokens)[0, 10:], **CLOSE)


@torch.no_grad()
def test_memory_that_was_never_written_cannot_leak_in() -> None:
    """A masked NaN is still a NaN: slots behind a short row must hold numbers."""
    model = build(LLAMA)
    junk = [torch.full((4_000_000,), math.nan) for _ in range(4)]
    del junk  # what the allocator hands out next
    cache = Cache(LLAMA, rows=2)
    model(ids(LLAMA, 2, 9), cache=cache, lengths=[9, 1])
    cache.lengths = [9, 0]
    assert model(ids(LLAMA, 2, 2), cache=cache).isfinite().all()


def test_rotary_positions_are_those_of_transformers_at_8k() -> None:
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    transformers = pytest.importorskip("transformers")
    settings = {"rope_type": "default", "rope_theta": 100_000.0}
    theirs = llama.LlamaRotaryEmbedding(
        transformers.LlamaConfig(hidden_size=576, num_attention_heads=9, rope_parameters=settings)
    )
    ours = RotaryPositions(replace(LLAMA, head_dim=64, rope_theta=100_000.0))
    positions = torch.arange(8192)[None]
    q, k = torch.randn(1, 3, 8192, 64), torch.randn(1, 3, 8192, 64)
    expected = llama.apply_rotary_pos_emb(q, k, *theirs(q, positions))
    rotation = ours.rotation(positions, torch.float32)
    for x, want in zip((q, k), expected, strict=True):
        # Angles reach 8,191 radians, where float32 neighbours are 5e-4 apart: one rounding shows.
        torch.testing.assert_close(rotate(x, rotation), want, rtol=1e-3, atol=3e-3)
        torch.testing.assert_close(rotate(x, rotation)[:, :, :64], want[:, :, :64], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_learns_and_names_are_the_checkpoint_s(family: str) -> None:
    config = FAMILIES[family]
    model = GPT(config)
    model.initialise(torch.Generator().manual_seed(0))
    named = dict(model.named_parameters())
    assert {name: tuple(p.shape) for name, p in named.items()} == tensor_shapes(config)
    tokens = ids(config, 4, 33)
    logits = model.logits(model(tokens[:, :-1]))
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    assert (
        abs(float(loss.detach()) - math.log(config.vocab_size)) < 0.2
    )  # fresh weights know nothing, and nothing wrong
    loss.backward()
    # A bias on k shifts all scores of a query alike, which softmax does not see: its gradient is nothing.
    assert all(
        p.grad is not None and p.grad.abs().max() > 0 for n, p in named.items() if not n.endswith("k.bias")
    )
