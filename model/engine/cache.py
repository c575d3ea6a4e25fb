"""Keys and values of the tokens already read, so that each token is read once.

One tensor holds all layers: (layers, 2, rows, capacity, kv heads, head dim). It grows in steps, by copying,
because a window of 8,192 tokens reserved up front would cost 377 MB in bf16 for a model of 270 MB. Rows are
explicit: each has its own length, and `copy` takes any of them, in any order or number, cut at any length.
`take` keeps what one row holds in no more memory than that needs, and `join` makes a batch of what was taken.
That is all that prefix reuse, one prompt with several continuations, and a batch of passages need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from model.config import GPTConfig
from model.errors import AdapterError

STEP = 256  #: tokens by which the capacity grows at least


@dataclass(frozen=True, slots=True)
class Kept:
    """Keys and values of one row, apart from any batch."""

    store: Tensor  #: (layers, 2, tokens, kv heads, head dim)
    adapter: str | None  #: which adapter spoke when these tokens were read

    @property
    def tokens(self) -> int:
        """How many it holds."""
        return self.store.shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.store.nbytes


class Cache:
    """Keys and values of `rows` rows, of which row r holds `lengths[r]` tokens."""

    def __init__(self, config: GPTConfig, *, rows: int = 1, dtype: torch.dtype = torch.float32) -> None:
        self.config = config
        self.lengths: list[int] = [0] * rows
        self.adapter: str | None = None  #: which adapter spoke when these tokens were read
        self._store = torch.empty(0)
        self._layers: list[tuple[Tensor, Tensor]] = []
        self._hold(torch.empty(self._shape(rows, 0), dtype=dtype))

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.lengths)

    @property
    def capacity(self) -> int:
        """Tokens a row can take before the cache grows."""
        return self._store.shape[3]

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return self._store.nbytes

    def reserve(self, tokens: int) -> None:
        """Make room for rows of so many tokens in all; never shrinks."""
        if tokens > self.capacity:
            # A quarter more than asked: a long reply then copies the cache a few times, not once every step.
            room = -(-max(tokens, min(self.capacity * 5 // 4, self.config.context_length)) // STEP) * STEP
            # Zeros, not whatever the memory held: a masked NaN is still a NaN.
            grown = torch.zeros(self._shape(self.rows, room), dtype=self._store.dtype)
            held = max(self.lengths)
            grown[:, :, :, :held] = self._store[:, :, :, :held]
            self._hold(grown)

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put k, v (rows, kv heads, n, head dim) behind each row's tokens.

        Returns:
            Keys and values (rows, kv heads, longest row + n, head dim), views into the cache.
        """
        n, start = k.shape[2], max(self.lengths)
        if start + n > self.capacity:
            self.reserve(start + n)
        keys, values = self._layers[layer]
        if min(self.lengths) == start:
            keys[:, start : start + n] = k.transpose(1, 2)
            values[:, start : start + n] = v.transpose(1, 2)
        else:
            for row, at in enumerate(self.lengths):
                keys[row, at : at + n] = k[row].transpose(0, 1)
                values[row, at : at + n] = v[row].transpose(0, 1)
        return keys[:, : start + n].transpose(1, 2), values[:, : start + n].transpose(1, 2)

    def advance(self, lengths: Sequence[int]) -> None:
        """Count as held so many of the tokens just appended to each row."""
        self.lengths = [held + more for held, more in zip(self.lengths, lengths, strict=True)]

    def truncate(self, length: int) -> None:
        """Forget what stands behind the first `length` tokens of each row."""
        self.lengths = [min(held, length) for held in self.lengths]

    def reorder(self, rows: Sequence[int], *, start: int) -> None:
        """Row i takes what row rows[i] holds behind the first `start` tokens, which all rows share."""
        if list(rows) == list(range(self.rows)):
            return
        self.lengths = [self.lengths[row] for row in rows]
        behind = slice(start, max(self.lengths))
        self._store[:, :, :, behind] = self._store[:, :, list(rows), behind]

    def copy(self, rows: Sequence[int] | None = None, *, length: int | None = None, room: int = 0) -> Self:
        """An independent cache of these rows (all by default; repeats are fine), cut at `length`."""
        rows = range(self.rows) if rows is None else rows
        other = type(self)(self.config, rows=len(rows), dtype=self._store.dtype)
        lengths = [self.lengths[row] if length is None else min(self.lengths[row], length) for row in rows]
        held = max(lengths)
        other.reserve(held + room)
        for to, row in enumerate(rows):
            other._store[:, :, to, : lengths[to]] = self._store[:, :, row, : lengths[to]]
        other.lengths, other.adapter = lengths, self.adapter
        return other

    def take(self, row: int, length: int | None = None) -> Kept:
        """A copy of one row, cut at `length`, without any room to grow."""
        held = self.lengths[row] if length is None else min(self.lengths[row], length)
        return Kept(self._store[:, :, row, :held].clone(), self.adapter)

    @classmethod
    def join(cls, config: GPTConfig, rows: Sequence[Kept], lengths: Sequence[int], *, room: int = 0) -> Self:
        """A batch of rows that were read with the same adapter, row r cut at `lengths[r]`.

        Args:
            config: the decoder's shape.
            rows: at least one; they stay as they are, and may repeat.
            lengths: tokens of each that are wanted, at most as many as it has.
            room: tokens that will come behind the longest.

        Raises:
            AdapterError: the rows were read with different adapters.
        """
        if len({row.adapter for row in rows}) > 1:
            raise AdapterError("rows that different adapters have read cannot be one batch: read them again")
        joined = cls(config, rows=len(rows), dtype=rows[0].store.dtype)
        wanted = [min(row.tokens, length) for row, length in zip(rows, lengths, strict=True)]
        store = torch.empty(joined._shape(len(rows), max(wanted) + room), dtype=rows[0].store.dtype)
        for to, (row, length) in enumerate(zip(rows, wanted, strict=True)):
            store[:, :, to, :length] = row.store[:, :, :length]
            store[:, :, to, length:] = 0  # not whatever the memory held: a masked NaN is still a NaN
        joined._hold(store)
        joined.lengths, joined.adapter = wanted, rows[0].adapter
        return joined

    def _shape(self, rows: int, capacity: int) -> tuple[int, ...]:
        return self.config.n_layers, 2, rows, capacity, self.config.n_kv_heads, self.config.head_dim

    def _hold(self, store: Tensor) -> None:
        """Take `store` and its views, one pair a layer: indexing a tensor costs more than indexing a list."""
        self._store = store
        self._layers = [(keys, values) for keys, values in store.unbind(0)]
