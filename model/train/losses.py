"""Losses: each returns a sum and how many terms it has, so that accumulating them is exact.

The mean over a step's micro-batches, or over processes, is the sum of the sums over the sum of the counts;
a mean of means would weigh a token in a short answer more than one in a long answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from model.gpt import GPT

if TYPE_CHECKING:
    from model.data.batches import Batch

IGNORED = -100
#: Positions whose logits are held at once: 25 MB at 49,152 words and float32; where words are fewer, as many
#: as stay in a processor's cache.
POSITIONS, LOGITS = 128, 512 * 4096

#: (model, micro-batch) -> (sum, count); the sum is what gradients are taken of.
Loss = Callable[["GPT", "Batch"], tuple[Tensor, int]]


def next_token(
    model: GPT, batch: Batch, *, label_smoothing: float = 0.0, max_z: float = 0.0
) -> tuple[Tensor, int]:
    """Cross-entropy of the supervised targets: the sum in nats, and their number.

    The head is applied at supervised positions and nowhere else. While training, `max_z` times the square of
    each position's largest logit is added, which keeps logits from drifting (Baichuan 2, arXiv 2309.10305).
    """
    hidden = model(batch.ids, positions=batch.positions, mask=batch.mask)
    wanted = batch.targets != IGNORED
    weight = model.head_rows()
    weight = weight if torch.is_grad_enabled() else weight.detach()  # inside a Function nobody can tell
    targets = batch.targets[wanted]
    extra = max_z if torch.is_grad_enabled() else 0.0
    smoothing = label_smoothing if torch.is_grad_enabled() else 0.0  # validation tells the plain loss
    total: Tensor = HeadLoss.apply(hidden[wanted], weight, targets, smoothing, extra)  # type: ignore[no-untyped-call]
    return total, len(targets)


class HeadLoss(torch.autograd.Function):
    """Head and cross-entropy in one, some positions at a time: all logits never exist together.

    The gradients are made on the way forward, while the logits are there, and multiplied on the way back by
    what arrives (1, as a rule).
    """

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes them by position
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float, max_z: float = 0.0
    ) -> Tensor:
        """Hidden states (m, d), weight (v, d), targets (m,) to the sum, float32."""
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        ghidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        gweight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        at_once = max(POSITIONS, LOGITS // len(weight))
        for at in range(0, len(targets), at_once):
            some, chosen = hidden[at : at + at_once], targets[at : at + at_once, None]
            logits = F.linear(some, weight).float()
            chances = logits.softmax(
                -1
            )  # log-probabilities are logits less `whole`: one pass over all instead of two
            whole = logits.amax(-1, keepdim=True) - chances.amax(-1, keepdim=True).log_()
            total += (whole - logits.gather(1, chosen)).sum() * (1 - smoothing)
            if smoothing:
                total += (len(weight) * whole - logits.sum(-1, keepdim=True)).sum() * (
                    smoothing / len(weight)
                )
            if max_z:
                highest, where = logits.max(-1, keepdim=True)
                total += max_z * highest.square().sum()
            if ghidden is None and gweight is None:
                continue
            glogits = chances
            if smoothing:
                glogits -= smoothing / len(weight)
            glogits.scatter_add_(1, chosen, torch.full_like(chosen, smoothing - 1, dtype=glogits.dtype))
            if max_z:
                glogits.scatter_add_(1, where, 2 * max_z * highest)
            glogits = glogits.to(weight.dtype)
            if ghidden is not None:
                torch.mm(glogits, weight, out=ghidden[at : at + at_once])
            if gweight is not None and weight.dtype == torch.float32:
                gweight.addmm_(glogits.T, some)
            elif gweight is not None:
                gweight += glogits.T @ some
        ctx.save_for_backward(ghidden, None if gweight is None else gweight.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the hidden states and, where it is trained, of the head."""
        ghidden, gweight = ctx.saved_tensors
        pull = grads[0]
        return (
            None if ghidden is None else ghidden * pull.to(ghidden.dtype),
            None if gweight is None else gweight * pull.to(gweight.dtype),
            None,
            None,
            None,
        )
