"""Adapters beside a loaded decoder's products, switched without touching a weight.

    y = W x + b + scale * B A x           with DoRA: y = gain * (W x + scale * B A x) + b

The base stays what it is, 4-bit blocks included; only the small products are added, to whichever kernel made
the large one. Corrections of projections that read the same input (q, k and v; gate and up) are stacked into
two products: A one under another, B block-diagonal.

Invariants:

* Which adapter speaks belongs to the call and not to the decoder: `Switch` holds it for the thread that is
  inside a forward pass. With none, the parts compute what they compute without this module.
* A and B are float32, with `scale` folded into B. So are their products with few rows: torch multiplies a
  narrow matrix by one bf16 row at a tenth of the speed. Products with many rows are made in the engine's
  dtype.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.errors import AdapterError
from model.lora import Adapter, LowRank, check

#: What reads the same input within a block, in the order in which the packed products stack it.
SHARED = {
    "qkv": ("attn.q", "attn.k", "attn.v"),
    "o": ("attn.o",),
    "first": ("mlp.gate", "mlp.up"),
    "down": ("mlp.down",),
}

#: Rows up to which products with A and B are float32.
MANY_ROWS = 16


class Product(Protocol):
    """One product with the stacked matrices of several projections."""

    bias: Tensor | None

    def product(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out of all), without the bias."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The corrections of projections that read the same input."""

    a: Tensor  #: (ranks of all, in)
    b: Tensor  #: (ranks of all, out of all): block-diagonal, transposed, scale folded in
    parts: tuple[tuple[slice, slice], ...]  #: of each projection, its ranks and its outputs
    gain: Tensor | None  #: (out of all) DoRA's m / |W + scale B A|, 1 where a projection has none

    @classmethod
    def build(cls, modules: Sequence[LowRank | None], weights: Sequence[Tensor]) -> Stack | None:
        """Stack corrections (None where a projection has none) of matrices (out, in); None for no correction.

        The gain has the matrices' dtype.
        """
        if not any(modules):
            return None
        dtype, width = weights[0].dtype, weights[0].shape[1]
        ranks = [0 if m is None else m.a.shape[0] for m in modules]
        outputs = [w.shape[0] for w in weights]
        parts = tuple(
            (slice(sum(ranks[:i]), sum(ranks[: i + 1])), slice(sum(outputs[:i]), sum(outputs[: i + 1])))
            for i in range(len(modules))
        )
        a, b = (torch.zeros(sum(ranks), n, dtype=torch.float32) for n in (width, sum(outputs)))
        gain = torch.ones(sum(outputs), dtype=torch.float32)
        for low_rank, weight, (rows, columns) in zip(modules, weights, parts, strict=True):
            if low_rank is None:
                continue
            a[rows], b[rows, columns] = low_rank.a.float(), low_rank.scale * low_rank.b.float().T
            if low_rank.magnitude is not None:
                whole = torch.addmm(weight.float(), b[rows, columns].T, a[rows])
                gain[columns] = low_rank.magnitude.float() / torch.linalg.vector_norm(whole, dim=1)
        gained = any(m is not None and m.magnitude is not None for m in modules)
        return cls(a, b, parts, gain.to(dtype) if gained else None)

    def beside(self, x: Tensor, base: Product) -> Tensor:
        """(..., in) to (..., out of all), corrected, beside one product for all projections."""
        y = base.product(x)
        _add(y, self._inner(x, torch.float32), self.b)
        if self.gain is not None:
            y *= self.gain
        return y if base.bias is None else y.add_(base.bias)

    def apart(self, x: Tensor, projections: Sequence[nn.Linear]) -> list[Tensor]:
        """(..., in) to each projection's (..., out), corrected."""
        dtype = x.dtype if x.numel() > MANY_ROWS * x.shape[-1] else torch.float32
        inner, b = self._inner(x, dtype), self.b.to(dtype)
        found = []
        for projection, (ranks, outputs) in zip(projections, self.parts, strict=True):
            y = F.linear(x, projection.weight, projection.bias if self.gain is None else None)
            if ranks.start < ranks.stop:
                _add(y, inner[:, ranks], b[ranks, outputs])
            if self.gain is not None:
                y *= self.gain[outputs]
                if projection.bias is not None:
                    y += projection.bias
            found.append(y)
        return found

    def _inner(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """A x, (rows, ranks of all)."""
        return F.linear(x.to(dtype).view(-1, x.shape[-1]), self.a.to(dtype))


def _add(y: Tensor, inner: Tensor, b: Tensor) -> None:
    """Add inner (rows, ranks) times b (ranks, out) to y (..., out) in place."""
    rows = y.view(-1, y.shape[-1])
    if rows.dtype == inner.dtype:
        rows.addmm_(inner, b)
    else:
        rows += inner @ b


@dataclass(frozen=True, slots=True)
class Layer:
    """One block's corrections; None where nothing is corrected."""

    qkv: Stack | None = None
    o: Stack | None = None
    first: Stack | None = None
    down: Stack | None = None


UNCORRECTED = Layer()


@dataclass(frozen=True, slots=True)
class Attached:
    """An adapter made ready for one decoder."""

    label: str  #: what caches remember: the name and a hash of what it says, for names are given again
    layers: tuple[Layer, ...]
    digest: str = ""  #: of what it says, whatever it is called

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        stacks = [s for layer in self.layers for s in (layer.qkv, layer.o, layer.first, layer.down) if s]
        return sum(s.a.nbytes + s.b.nbytes + (0 if s.gain is None else s.gain.nbytes) for s in stacks)


class Rack:
    """The adapters attached to one decoder, by name."""

    def __init__(self, switch: Switch, matrices: Callable[[], Mapping[str, Tensor]], n_layers: int) -> None:
        self.switch, self._matrices, self._n_layers = switch, matrices, n_layers
        self._held: dict[str, Attached] = {}

    @property
    def names(self) -> list[str]:
        """What is attached."""
        return sorted(self._held)

    def attach(self, name: str, adapter: Adapter) -> None:
        """Make an adapter ready under a name.

        Raises:
            AdapterError: the name is taken, or the adapter does not fit.
        """
        if not name:
            raise AdapterError("an adapter needs a name")
        if name in self._held:
            raise AdapterError(f"an adapter {name!r} is attached already: detach it first")
        digest = _digest(adapter)[:12]
        held = prepare(adapter, self._matrices(), self._n_layers, f"{name} ({digest})")
        self._held[name] = replace(held, digest=digest)

    def detach(self, name: str) -> None:
        """Let go of it.

        Raises:
            AdapterError: it is not attached.
        """
        self.get(name)
        del self._held[name]

    def get(self, name: str) -> Attached:
        """The adapter of that name.

        Raises:
            AdapterError: it is not attached; lists what is.
        """
        if name not in self._held:
            raise AdapterError(
                f"no adapter {name!r} is attached; there are {', '.join(self.names) or 'none'}"
            )
        return self._held[name]


class Switch(threading.local):
    """Which adapter speaks in the forward pass that this thread is in, and how its tokens attend.

    Singly, each of a row's few tokens attends by itself, by the very operations that it would be read alone
    with: its states are then the same to the last bit.
    """

    on: Attached | None = None
    singly: bool = False

    @contextmanager
    def turned(self, on: Attached | None, *, singly: bool = False) -> Iterator[None]:
        """Let it speak, or none, until the block ends."""
        before = self.on, self.singly
        self.on, self.singly = on, singly
        try:
            yield
        finally:
            self.on, self.singly = before

    def layer(self, index: int) -> Layer:
        """The corrections of a block."""
        return UNCORRECTED if self.on is None else self.on.layers[index]


def _digest(adapter: Adapter) -> str:
    """SHA-256 of everything that decides what it says."""
    digest = hashlib.sha256()
    for name, low_rank in sorted(adapter.modules.items()):
        digest.update(f"{name} {low_rank.scale!r}\n".encode())
        for part in (low_rank.a, low_rank.b, low_rank.magnitude):
            if part is not None:
                digest.update(part.detach().float().contiguous().numpy().data)
    return digest.hexdigest()


@torch.inference_mode()
def prepare(adapter: Adapter, matrices: Mapping[str, Tensor], n_layers: int, label: str) -> Attached:
    """Make an adapter ready for a decoder with these dense matrices (out, in), by native module name.

    Raises:
        AdapterError: a projection missing, or of another shape: an adapter for another base.
    """
    check(adapter, matrices)
    layers = []
    for i in range(n_layers):
        stacks: dict[str, Stack | None] = {}
        for group, members in SHARED.items():
            names = [name for member in members if (name := f"blocks.{i}.{member}") in matrices]
            stacks[group] = Stack.build([adapter.modules.get(n) for n in names], [matrices[n] for n in names])
        layers.append(Layer(**stacks))
    return Attached(label, tuple(layers))
