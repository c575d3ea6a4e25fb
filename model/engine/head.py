"""The output head as the engine computes it: in float32, and for few rows by packed weights made exact.

Whatever the decoder computes in, scores are float32: bf16 would move a logit of 20 by 0.06. Few rows go
through the packed matrix, and the likeliest candidates are computed again exactly; many rows, whose
log-probabilities somebody will compare, are exact throughout.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Candidates whose logits the packed head computes again exactly.
EXACT_CANDIDATES = 64
#: Rows of the embedding that the exact head turns to float32 at a time.
HEAD_ROWS = 8192


class Head(nn.Linear):
    """Hidden states to scores; `packed` computes up to `few` rows."""

    def __init__(self, weight: Tensor, packed: nn.Module | None, few: int) -> None:
        super().__init__(weight.shape[1], weight.shape[0], bias=False, device="meta")
        self.weight, self.packed, self.few = nn.Parameter(weight, requires_grad=False), packed, few

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., d) to (..., vocab_size) float32."""
        rows = hidden.reshape(-1, hidden.shape[-1])
        if self.packed is None or rows.shape[0] > self.few:
            parts = [F.linear(rows.float(), part.float()) for part in torch.split(self.weight, HEAD_ROWS)]
            return torch.cat(parts, -1).view(*hidden.shape[:-1], -1)
        return self._corrected(rows, self.packed, self._exact).view(*hidden.shape[:-1], -1)

    def singly(self, rows: Tensor) -> Tensor:
        """(few, d) to (few, vocab_size) float32, each row to the last bit as it comes out alone."""
        assert self.packed is not None

        def one_by_one(candidates: Tensor, states: Tensor) -> Tensor:
            pairs = zip(torch.split(candidates, 1), torch.split(states, 1), strict=True)
            return torch.cat([self._exact(*pair) for pair in pairs])

        return self._corrected(rows, self.packed, one_by_one)

    def _corrected(
        self, rows: Tensor, packed: nn.Module, exact: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        logits: Tensor = packed(rows).float()
        likeliest = logits.topk(min(EXACT_CANDIDATES, logits.shape[-1])).indices
        return logits.scatter_(-1, likeliest, exact(likeliest, rows))

    def _exact(self, candidates: Tensor, rows: Tensor) -> Tensor:
        """Scores (n, c) of the candidates (n, c) of each row (n, d)."""
        return (self.weight[candidates].float() @ rows.float()[..., None])[..., 0]
