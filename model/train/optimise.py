"""Optimisers: a table of torch's own, the groups of parameters they treat apart, and gradient clipping.

    sgd       with momentum (Sutskever et al. 2013)
    adagrad   (Duchi et al. 2011)
    rmsprop   (Hinton 2012, Coursera lecture 6)
    adam      (arXiv 1412.6980); weight decay is an L2 penalty, as for those above
    adamw     (arXiv 1711.05101); weight decay apart from the gradient

Weight decay falls on matrices; what has one dimension (norms, biases, magnitudes) goes without. With LoRA+
(arXiv 2402.12354) an adapter's B, and its magnitudes, learn `loraplus_lr_ratio` times as fast as its A; a
group's `lr_ratio` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, RMSprop

from model.config import Optimiser, TrainConfig
from model.errors import TrainingError

Groups = list[dict[str, Any]]

OPTIMISERS: Mapping[Optimiser, Callable[[Groups, TrainConfig], torch.optim.Optimizer]] = {
    "sgd": lambda groups, config: SGD(
        groups, lr=config.learning_rate, momentum=config.momentum, foreach=True
    ),
    "adagrad": lambda groups, config: Adagrad(
        groups, lr=config.learning_rate, eps=config.adam_epsilon, **_kernel(groups)
    ),
    "rmsprop": lambda groups, config: RMSprop(
        groups, lr=config.learning_rate, alpha=config.rms_alpha, eps=config.adam_epsilon, foreach=True
    ),
    "adam": lambda groups, config: Adam(groups, **_adam(config), **_kernel(groups)),
    "adamw": lambda groups, config: AdamW(groups, **_adam(config), **_kernel(groups)),
}
#: What each keeps of a parameter between two steps, in torch's names.
MOMENTS: Mapping[type[torch.optim.Optimizer], tuple[str, ...]] = {
    SGD: ("momentum_buffer",),
    Adagrad: ("sum",),
    RMSprop: ("square_avg",),
    Adam: ("exp_avg", "exp_avg_sq"),
    AdamW: ("exp_avg", "exp_avg_sq"),
}


def optimiser(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The configured one over what is trained of `model`.

    Raises:
        TrainingError: nothing is to be trained.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        raise TrainingError("no parameter is left to train; lower freeze or name other targets")
    quick = {name: config.loraplus_lr_ratio if _quick(name) else 1.0 for name in trained}
    groups: Groups = [
        {
            "params": [p for name, p in trained.items() if (p.ndim >= 2, quick[name]) == (matrix, ratio)],
            "weight_decay": config.weight_decay if matrix else 0.0,
            "lr_ratio": ratio,
        }
        for matrix in (True, False)
        for ratio in dict.fromkeys(quick.values())
    ]
    return OPTIMISERS[config.optim]([group for group in groups if group["params"]], config)


def moments(optimiser: torch.optim.Optimizer) -> tuple[str, ...]:
    """What a run must save of the optimiser to go on as if it had never stopped."""
    if isinstance(optimiser, SGD) and not any(group["momentum"] for group in optimiser.param_groups):
        return ()
    return MOMENTS[type(optimiser)]


def clip(parameters: Sequence[Tensor], limit: float) -> float:
    """Scale gradients to a joint norm of at most `limit` (0: leave them); returns the norm before."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    whole = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    if limit:
        nn.utils.clip_grads_with_norm_(parameters, limit, whole)
    return float(whole)


def _adam(config: TrainConfig) -> dict[str, Any]:
    return {
        "lr": config.learning_rate,
        "betas": (config.adam_beta1, config.adam_beta2),
        "eps": config.adam_epsilon,
    }


def _kernel(groups: Groups) -> dict[str, Any]:
    """One pass over each parameter on a processor, five times as fast there; not where FSDP2 shards them."""
    plain = all(p.device.type == "cpu" and not hasattr(p, "device_mesh") for g in groups for p in g["params"])
    return {"fused": True} if plain else {"foreach": True}


def _quick(name: str) -> bool:
    """Whether LoRA+ hurries it: an adapter's B, and its magnitudes, as in peft."""
    return ".adapters." in name and name.rpartition(".")[2] in ("b", "magnitude")
