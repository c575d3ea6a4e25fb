"""Attention: every fast way against the definition, flash where there is a GPU, and the picture."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from model import attention
from model.engine.kernels import attend_grouped, attend_stacked, attend_tiled
from model.errors import ModelError
from model.gpt import Span, attend, penalty
from model.layout import WEIGHTS_FILE
from tests.model import tiny
from tests.model.test_gpt import build

pytestmark = pytest.mark.usefixtures("one_thread")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
#: Rows, heads, key-value heads, queries, keys, elements a head.
SHAPES = [(1, 1, 1, 1, 1, 2), (2, 4, 2, 7, 7, 8), (1, 9, 3, 5, 40, 16), (2, 6, 1, 130, 300, 8)]


def drawn(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    rows, heads, groups, n, t, width = shape
    generator = torch.Generator().manual_seed(0)
    sizes = ((rows, heads, n, width), (rows, groups, t, width), (rows, groups, t, width))
    return tuple(torch.randn(size, generator=generator).to(dtype) for size in sizes)


def test_the_definition_by_hand() -> None:
    """Two tokens, one head, computed with plain numbers."""
    q = k = torch.tensor([[[[1.0, 0.0], [0.0, 2.0]]]])
    v = torch.tensor([[[[10.0, 0.0], [0.0, 20.0]]]])
    mixed, shares = attention.naive(q, k, v)
    second = math.exp(4 / math.sqrt(2)) / (1 + math.exp(4 / math.sqrt(2)))
    torch.testing.assert_close(shares[0, 0], torch.tensor([[1.0, 0.0], [1 - second, second]]))
    torch.testing.assert_close(mixed[0, 0, 1], torch.tensor([10 * (1 - second), 20 * second]))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_way_to_attend_is_the_definition(shape: tuple[int, ...]) -> None:
    q, k, v = drawn(shape)
    _, heads, groups, n, t, _ = shape
    seen = torch.arange(t) <= torch.arange(t - n, t)[:, None]
    mask = penalty(seen[None, None].clone(), torch.float32)
    expected, shares = attention.naive(q, k, v)
    assert bool((shares.sum(-1) - 1).abs().max() < 1e-5) and not bool(shares[..., ~seen].any())
    torch.testing.assert_close(attention.naive(q, k, v, mask)[0], expected, **CLOSE)
    masked = Span(None, mask, causal=False, cache=None)
    torch.testing.assert_close(attend(q, k, v, masked), expected, **CLOSE)
    torch.testing.assert_close(attend_tiled(q, k, v, masked), expected, **CLOSE)
    if n == t:
        torch.testing.assert_close(attend(q, k, v, Span(None, None, True, None)), expected, **CLOSE)
    reads = (torch.arange(heads)[:, None] // (heads // groups) == torch.arange(groups)).float()[..., None]
    last = Span(None, None, causal=False, cache=None)
    one = q[:, :, -1:]
    torch.testing.assert_close(attend_grouped(one, k, v, last), expected[:, :, -1:], **CLOSE)
    torch.testing.assert_close(attend_stacked(one, k, v, last, reads), expected[:, :, -1:], **CLOSE)


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device: its flash kernel cannot be asked for"
)
@pytest.mark.parametrize("shape", [(2, 8, 8, 512, 512, 64), (1, 9, 3, 1024, 1024, 64)])
def test_on_cuda_the_flash_kernel_takes_the_path(shape: tuple[int, ...]) -> None:
    """With every other backend forbidden, what the decoder calls still runs, and is the definition."""
    q, k, v = (part.cuda() for part in drawn(shape, torch.bfloat16))
    span = Span(None, None, causal=True, cache=None)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        found = attend(q, k, v, span)
    expected, _ = attention.naive(q.float(), k.float(), v.float())
    torch.testing.assert_close(found.float(), expected, rtol=2e-2, atol=2e-2)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        attend(q, k, v, span)
    table = shape[0] * shape[1] * shape[3] * shape[4] * q.element_size()
    assert torch.cuda.max_memory_allocated() - before < table  # the n x n table is never made


@pytest.mark.parametrize("axes", [{}, {"positions": "sinusoidal"}, {"n_kv_heads": 4}])
def test_what_is_drawn_is_what_the_decoder_does(axes: dict[str, object]) -> None:
    """With values that say where they stand, attention's output is its table of probabilities."""
    config = tiny.config(**axes)
    model = build(config)
    ids = list(range(10, 10 + config.head_dim))
    tables = attention.probabilities(model, ids)
    assert tables.shape == (config.n_layers, config.n_heads, len(ids), len(ids))
    torch.testing.assert_close(tables.sum(-1), torch.ones(tables.shape[:3]))
    assert not bool(tables.triu(1).any())
    seen: list[torch.Tensor] = []
    places = torch.eye(config.head_dim).expand(1, config.n_kv_heads, -1, -1)

    def placed(q: torch.Tensor, k: torch.Tensor, _: torch.Tensor, span: Span) -> torch.Tensor:
        seen.append(attend(q, k, places, span))
        return attend(q, k, _, span)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr("model.gpt.attend", placed)
        model(torch.tensor([ids]))
    torch.testing.assert_close(torch.cat(seen), tables, **CLOSE)


def test_a_picture_of_a_checkpoint(tmp_path: Path) -> None:
    made = tiny.saved(tmp_path / "tiny", tiny.config(), tiny.tokenizer(), kinds=("q8_0", "f32"))
    assert (made.path / WEIGHTS_FILE).is_file()
    file = attention.inspect(made.path, "a $b$ \u96ea\n", tmp_path / "map.png")
    assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    for text in ("", "x" * (attention.MOST_TOKENS + 1)):
        with pytest.raises(ModelError, match=r"1 to 64 tokens"):
            attention.inspect(made.path, text, tmp_path / "none.png")
    with pytest.raises(ModelError, match="cannot be written"):
        attention.inspect(made.path, "ab", tmp_path / "no" / "such.png")
    assert attention.readable("$ x\n") == "\\$\u00b7x\u21b5"
