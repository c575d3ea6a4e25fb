"""Fresh weights for a decoder that is trained from nothing.

The axis is how a projection's matrix is filled: `gpt2` normal with deviation 0.02, `xavier` uniform with
variance 2 / (in + out) (Glorot and Bengio 2010), `kaiming` normal with variance 2 / in (arXiv 1502.01852).
Embeddings are normal with 0.02 under all three, for they have no inputs to count; norms begin as nothing
done, biases at 0, PReLU at a quarter. `scaled_residual` divides what adds to the residual stream by sqrt(2
layers), as GPT-2 does, so that a deep stream begins no larger than a shallow one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from model.axes.choices import Initialisation
from model.config import GPTConfig

DEVIATION = 0.02  #: GPT-2's
RESIDUAL = ("attn.o.weight", "mlp.down.weight")  #: what adds to the stream
EMBEDDINGS = ("embed.weight", "positions.weight", "head.weight")
SLOPE = "mlp.activation.weight"  #: PReLU's

Fill = Callable[[Tensor, torch.Generator | None, float], None]


def _gpt2(matrix: Tensor, generator: torch.Generator | None, scale: float) -> None:
    matrix.normal_(0.0, DEVIATION * scale, generator=generator)


def _xavier(matrix: Tensor, generator: torch.Generator | None, scale: float) -> None:
    nn.init.xavier_uniform_(matrix, gain=scale, generator=generator)


def _kaiming(matrix: Tensor, generator: torch.Generator | None, scale: float) -> None:
    deviation = math.sqrt(2 / matrix.shape[1]) * scale
    matrix.normal_(0.0, deviation, generator=generator)


#: Fills (out, in) in place; the last argument multiplies its deviation.
INITIALISATIONS: dict[Initialisation, Fill] = {"gpt2": _gpt2, "xavier": _xavier, "kaiming": _kaiming}


@torch.no_grad()
def initialise(model: nn.Module, config: GPTConfig, generator: torch.Generator | None = None) -> None:
    """Fill every parameter of a decoder in place, in the order of their names' modules."""
    fill = INITIALISATIONS[config.initialisation]
    smaller = 1 / math.sqrt(2 * config.n_layers) if config.scaled_residual else 1.0
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            parameter.zero_()
        elif name.endswith(SLOPE):
            parameter.fill_(0.25)
        elif parameter.ndim == 1:
            parameter.fill_(1.0)
        elif name in EMBEDDINGS:
            _gpt2(parameter, generator, 1.0)
        else:
            fill(parameter, generator, smaller if name.endswith(RESIDUAL) else 1.0)
