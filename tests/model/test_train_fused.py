"""Hand-written backward passes against autograd's, in float64 where only the formula counts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from model.axes.positions import RotaryPositions, rotate
from model.config import GPTConfig
from model.data.batches import IGNORED, Batch
from model.gpt import GPT, Span, attend
from model.train import fused, losses
from tests.model import tiny


def drawn(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


@given(
    rows=st.integers(1, 2),
    n=st.integers(1, 11),
    groups=st.integers(1, 2),
    shared=st.integers(1, 3),
    masked=st.sampled_from(["no", "additive", "bool"]),
    rotated=st.booleans(),
    block=st.integers(1, 12),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_attention(
    rows: int, n: int, groups: int, shared: int, masked: str, rotated: bool, block: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    e = 4
    q, k, v = (drawn(generator, rows, n, width * e) for width in (groups * shared, groups, groups))
    rotation = None
    if rotated:
        positions = torch.randint(0, 50, (rows, n), generator=generator)
        rotation = RotaryPositions(tiny.config(head_dim=e)).rotation(positions, torch.float64)
    seen = torch.rand(rows, 1, n, n, generator=generator).gt(0.4).tril() | torch.eye(n, dtype=torch.bool)
    mask = {
        "no": None,
        "bool": seen,
        "additive": torch.zeros(seen.shape, dtype=torch.float64).masked_fill(~seen, -torch.inf),
    }[masked]
    span = Span(rotation, mask, mask is None, None)
    heads = [x.view(rows, n, -1, e).transpose(1, 2) for x in (q, k, v)]
    turned = [rotate(x, rotation) if rotation else x for x in heads[:2]]
    expected = attend(turned[0], turned[1], heads[2], span).transpose(1, 2).flatten(2)
    patch = pytest.MonkeyPatch()
    with patch.context() as changed:
        changed.setattr(fused, "QUERIES", block)
        found = fused.Attend.apply(q, k, v, span, e)
        torch.testing.assert_close(found, expected)
        pull = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
        torch.testing.assert_close(
            torch.autograd.grad(found, (q, k, v), pull), torch.autograd.grad(expected, (q, k, v), pull)
        )


def test_norm_and_swiglu() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, up = drawn(generator, 3, 5, 8), drawn(generator, 8), drawn(generator, 3, 5, 8)
    assert torch.autograd.gradcheck(lambda x, w: fused.ScaledRows.apply(x, w, 1e-5), (x, weight))
    torch.testing.assert_close(fused.ScaledRows.apply(x, weight, 1e-5), F.rms_norm(x, (8,), weight, 1e-5))
    assert torch.autograd.gradcheck(fused.SwiGLU.apply, (x, up))


@given(
    count=st.integers(0, 9),
    at_once=st.integers(1, 10),
    smoothing=st.sampled_from([0.0, 0.1]),
    max_z=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_head_and_loss(count: int, at_once: int, smoothing: float, max_z: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden, weight = (torch.randn(m, 6, generator=generator).requires_grad_() for m in (count, 13))
    targets = torch.randint(0, 13, (count,), generator=generator)
    expected = F.cross_entropy(hidden @ weight.T, targets, reduction="sum", label_smoothing=smoothing)
    if count:
        expected = expected + max_z * (hidden @ weight.T).amax(-1).square().sum()
    with pytest.MonkeyPatch().context() as changed:
        changed.setattr(losses, "POSITIONS", at_once)
        changed.setattr(losses, "LOGITS", 0)
        found = losses.HeadLoss.apply(hidden, weight, targets, smoothing, max_z)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(3 * found, (hidden, weight)), torch.autograd.grad(3 * expected, (hidden, weight))
    )


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_quickened_decoder_has_the_same_loss_gradients_and_names(family: str) -> None:
    changes = {} if family == "llama" else {
        "positions": "learned", "norm": "layernorm", "mlp": "gelu_tanh", "n_kv_heads": 4,
        "attention_bias": True, "output_bias": True, "mlp_bias": True,
    }  # fmt: skip
    config: GPTConfig = tiny.config(**changes)
    plain, quick = GPT(config), GPT(config)
    plain.initialise(torch.Generator().manual_seed(3))
    quick.load_state_dict(plain.state_dict())
    fused.quicken(quick)
    assert plain.state_dict().keys() == quick.state_dict().keys()
    assert any(isinstance(module, fused.FusedAttention) for module in quick.modules())
    ids = torch.randint(0, 256, (2, 20), generator=torch.Generator().manual_seed(4))
    targets = ids.roll(-1, 1)
    targets[:, :7] = IGNORED
    targets[0, 15:] = IGNORED
    seen = torch.ones(20, 20).tril().bool()
    seen[10:, 3:10] = False  # a branch that does not see another
    batch = Batch(ids, torch.arange(20).expand(2, 20), targets, seen[None, None], [15, 20], 2)
    logits = plain.logits(plain(ids, positions=batch.positions, mask=batch.mask))
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    expected.backward()
    for model in (plain, quick):
        if model is plain:
            with torch.no_grad():
                total, count = losses.next_token(model, batch)
        else:
            total, count = losses.next_token(model, batch)
            total.backward()
        assert count == batch.supervised == 8 + 13
        torch.testing.assert_close(total, expected)
    for (name, one), other in zip(plain.named_parameters(), quick.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-5, msg=name)
