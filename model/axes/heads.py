"""From hidden states to scores: the rows that a hidden state is multiplied with.

Untied, the head has rows of its own; tied, they are the token embedding's. `normhead` brings each row to
length 1 before the product, so that a frequent token cannot win by a long row alone (Baichuan 2, arXiv
2309.10305, section 2.5).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from model.axes.choices import Head


def unit_rows(weight: Tensor) -> Tensor:
    """Each row of (v, d) at length 1, a row of zeros left as it is."""
    return F.normalize(weight, dim=-1)


class NormHead(nn.Linear):
    """A head with rows of its own, brought to length 1."""

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., d) to scores (..., v)."""
        return F.linear(hidden, unit_rows(self.weight))


#: Weight (v, d) -> the rows (v, d) that scores are products with.
ROWS: dict[Head, Callable[[Tensor], Tensor]] = {"linear": lambda weight: weight, "normhead": unit_rows}
#: An untied head.
HEADS: dict[Head, type[nn.Linear]] = {"linear": nn.Linear, "normhead": NormHead}
