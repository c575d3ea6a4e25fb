"""What the stream is brought to a common scale by, before attention, before the MLP, and at the end."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from model.axes.choices import Norm
from model.config import GPTConfig

#: LayerNorm takes away the mean and divides by the deviation (arXiv 1607.06450); RMSNorm divides by the root
#: of the mean square and has no bias (arXiv 1910.07467).
NORMS: dict[Norm, Callable[[GPTConfig], nn.Module]] = {
    "layernorm": lambda config: nn.LayerNorm(config.d_model, eps=config.norm_eps),
    "rmsnorm": lambda config: nn.RMSNorm(config.d_model, eps=config.norm_eps),
}
