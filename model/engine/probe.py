"""Which kernels this machine runs fastest, timed at start-up on products of the model's own shapes.

bf16 halves the bytes of a weight, but on a CPU without the instructions a bf16 product can be 40 times slower
than float32 (pytorch issue 146508); 4-bit codes halve them twice more where the kernel is vectorized. Neither
is assumed: both are timed, the packed product is also compared with the dense one, and what fails or is not
faster is not used.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from model.config import GPTConfig
from model.engine.kernels import FEW_ROWS, PackedLinear, attend_tiled, packable
from model.errors import ModelError
from model.gpt import Span, attend
from model.quantized import BLOCK, Q4_1

ROUNDS = 5
#: Matrices that are cycled through, so that one row's product reads memory and not the cache.
MATRICES = 12
#: Largest relative error of a packed product that is taken for rounding; what is wrong is wrong by far more.
CLOSE = 0.02


@dataclass(frozen=True, slots=True)
class Kernels:
    """What to compute with."""

    dtype: torch.dtype  #: of dense weights, activations and cache
    packed: bool  #: 4- and 8-bit weights for few rows
    tiled: bool  #: attention in tiles for many rows
    reason: str  #: for people

    def __str__(self) -> str:
        """One line for people."""
        name = str(self.dtype).removeprefix("torch.")
        packed = f", packed weights up to {FEW_ROWS} rows" if self.packed else ""
        return f"{name}{packed}{', tiled attention' if self.tiled else ''} ({self.reason})"


#: What `Engine.load(kernel=...)` takes besides "auto".
NAMED = {
    "float32": Kernels(torch.float32, packed=False, tiled=False, reason="asked for"),
    "bfloat16": Kernels(torch.bfloat16, packed=False, tiled=True, reason="asked for"),
    "float32+packed": Kernels(torch.float32, packed=True, tiled=False, reason="asked for"),
    "bfloat16+packed": Kernels(torch.bfloat16, packed=True, tiled=True, reason="asked for"),
}


def choose(kernel: str, config: GPTConfig, rows: int) -> Kernels:
    """The kernels of that name; for "auto", the fastest for slices of `rows` and for one-row steps.

    Raises:
        ModelError: no such name.
    """
    if kernel == "auto":
        return _probe(config, rows, torch.get_num_threads())
    try:
        return NAMED[kernel]
    except KeyError:
        raise ModelError(f"no kernel is called {kernel!r}; there are auto, {', '.join(NAMED)}") from None


@lru_cache(maxsize=16)
@torch.inference_mode()
def _probe(config: GPTConfig, rows: int, threads: int) -> Kernels:  # noqa: ARG001 (a key: timings depend on it)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(config.d_mlp, config.d_model, generator=generator)
    x = torch.randn(rows, config.d_model, generator=generator)
    wide, narrow = (weight, x), (weight.bfloat16(), x.bfloat16())
    in_fp32, in_bf16 = _fastest([lambda: F.linear(wide[1], wide[0]), lambda: F.linear(narrow[1], narrow[0])])
    dtype = torch.bfloat16 if in_bf16 < in_fp32 else torch.float32
    reason = f"{rows}-row product: bfloat16 {in_bf16 * 1e3:.1f} ms, float32 {in_fp32 * 1e3:.1f} ms"
    q = torch.randn(1, config.n_heads, rows, config.head_dim, generator=generator).to(dtype)
    k = torch.randn(1, config.n_kv_heads, 2 * rows, config.head_dim, generator=generator).to(dtype)
    span = Span(None, torch.zeros(1, 1, rows, 2 * rows, dtype=dtype), causal=False, cache=None)
    whole, tiled = _fastest([lambda: attend(q, k, k, span), lambda: attend_tiled(q, k, k, span)])
    reason += f"; attention: torch's {whole * 1e3:.1f} ms, tiled {tiled * 1e3:.1f} ms"
    dense, packed = _one_row(config.d_model, config.d_mlp, dtype, generator)
    if packed is None:
        return Kernels(dtype, packed=False, tiled=tiled < whole, reason=f"{reason}; no packed kernel")
    reason += f"; one row: dense {dense * 1e6:.0f} µs, packed {packed * 1e6:.0f} µs"
    return Kernels(dtype, packed=packed < dense, tiled=tiled < whole, reason=reason)


def _one_row(
    d_model: int, d_mlp: int, dtype: torch.dtype, generator: torch.Generator
) -> tuple[float, float | None]:
    """Seconds of one row's product, dense and packed; None for packed where there is none or it is wrong."""
    codes = torch.randint(0, 16, (d_mlp, d_model), generator=generator, dtype=torch.uint8)
    scale = torch.full((d_mlp, -(-d_model // BLOCK)), 0.01, dtype=torch.float16)
    matrix = Q4_1(codes, scale, -8 * scale)
    if not packable(matrix):
        return 0.0, None
    x = torch.randn(1, d_model, generator=generator).to(dtype)
    exact = matrix.dequantize()
    weights = [exact.to(dtype).clone() for _ in range(MATRICES)]
    try:
        packs = [PackedLinear([matrix]) for _ in range(MATRICES)]
        wrong = (packs[0](x).float() - F.linear(x.float(), exact)).norm() / F.linear(x.float(), exact).norm()
    except (RuntimeError, AttributeError, NotImplementedError):
        return 0.0, None
    if not wrong < CLOSE:
        return 0.0, None
    dense, packed = _fastest([lambda: [F.linear(x, w) for w in weights], lambda: [pack(x) for pack in packs]])
    return dense / MATRICES, packed / MATRICES


def _fastest(candidates: list[Callable[[], Tensor | list[Tensor]]]) -> list[float]:
    """Each candidate's best time in seconds; in turns, so that a disturbance meets all of them."""
    best = [float("inf")] * len(candidates)
    for _ in range(ROUNDS + 1):  # the first round warms up
        for i, candidate in enumerate(candidates):
            start = time.perf_counter()
            candidate()
            best[i] = min(best[i], time.perf_counter() - start)
    return best
