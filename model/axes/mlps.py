"""The part of a block that works on each token alone: plain with an activation, or gated by one.

A plain MLP is down(activation(up(x))); a gated one is down(activation(gate(x)) * up(x)) (arXiv 2002.05202).
One table names the activation of each entry. PReLU alone learns its own slope, one a layer, which starts at
a quarter (arXiv 1502.01852).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.axes.choices import GATED, MLP
from model.config import GPTConfig

Activation = Callable[[Tensor], Tensor]

#: Makes the activation of one layer.
ACTIVATIONS: dict[MLP, Callable[[], Activation]] = {
    "gelu": lambda: F.gelu,
    "gelu_tanh": lambda: partial(F.gelu, approximate="tanh"),
    "relu": lambda: F.relu,
    "leaky_relu": lambda: F.leaky_relu,
    "prelu": nn.PReLU,
    "tanh": lambda: torch.tanh,
    "sigmoid": lambda: torch.sigmoid,
    "swiglu": lambda: F.silu,
    "geglu": lambda: F.gelu,
    "geglu_tanh": lambda: partial(F.gelu, approximate="tanh"),
    "reglu": lambda: F.relu,
    "glu": lambda: torch.sigmoid,
}


class GatedMLP(nn.Module):
    """down(activation(gate(x)) * up(x)); with SiLU it is SwiGLU."""

    def __init__(self, config: GPTConfig, activation: Activation = F.silu) -> None:
        super().__init__()
        self.activation = activation
        self.gate = nn.Linear(config.d_model, config.d_mlp, bias=config.mlp_bias)
        self.up = nn.Linear(config.d_model, config.d_mlp, bias=config.mlp_bias)
        self.down = nn.Linear(config.d_mlp, config.d_model, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(r, n, d) to (r, n, d)."""
        y: Tensor = self.down(self.activation(self.gate(x)) * self.up(x))
        return y


class PlainMLP(nn.Module):
    """down(activation(up(x)))."""

    def __init__(self, config: GPTConfig, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.up = nn.Linear(config.d_model, config.d_mlp, bias=config.mlp_bias)
        self.down = nn.Linear(config.d_mlp, config.d_model, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(r, n, d) to (r, n, d)."""
        y: Tensor = self.down(self.activation(self.up(x)))
        return y


def mlp(config: GPTConfig) -> GatedMLP | PlainMLP:
    """The MLP of one block."""
    kind = GatedMLP if config.mlp in GATED else PlainMLP
    return kind(config, ACTIVATIONS[config.mlp]())
