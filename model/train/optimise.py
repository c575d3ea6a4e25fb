"""AdamW (arXiv 1711.05101) over the parameters that are trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.config import TrainConfig
from model.errors import TrainingError


def optimiser(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices; what has one dimension (norms, biases, magnitudes) goes without.

    Raises:
        TrainingError: nothing is to be trained.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise TrainingError("no parameter is left to train; lower freeze or name other targets")
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        foreach=True,
    )


def clip(parameters: Sequence[Tensor], limit: float) -> float:
    """Scale gradients to a joint norm of at most `limit` (0: leave them); returns the norm before."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    whole = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    if limit:
        nn.utils.clip_grads_with_norm_(parameters, limit, whole)
    return float(whole)
