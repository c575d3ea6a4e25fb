"""Distillation by logits (arXiv 1503.02531).

    a * T^2 * KL(softmax(t / T) || softmax(s / T))  +  (1 - a) * cross-entropy of the target

summed over supervised positions, with the teacher's logits t, the student's s and a temperature T. T^2 keeps
the size of the gradient whatever T is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from model.data.batches import IGNORED, Batch
from model.gpt import GPT
from model.train.losses import POSITIONS


class Distilling:
    """The loss against one teacher, which reads every batch beside the student."""

    def __init__(self, teacher: GPT, vocabulary: int, *, temperature: float, share: float) -> None:
        """Make the loss.

        Args:
            teacher: a frozen decoder with the student's tokenizer.
            vocabulary: tokens of that tokenizer; rows of either head behind them are padding.
            temperature: T.
            share: a, of the teacher in the loss.
        """
        self.teacher, self.vocabulary = teacher.requires_grad_(False).eval(), vocabulary
        self.temperature, self.share = temperature, share

    def __call__(self, model: GPT, batch: Batch) -> tuple[Tensor, int]:
        """The sum in nats over supervised positions, and how many they are."""
        wanted = batch.targets != IGNORED
        with torch.no_grad():
            told = self.teacher(batch.ids, positions=batch.positions, mask=batch.mask)[wanted]
            rows = self.teacher.head_rows()[: self.vocabulary]
        hidden = model(batch.ids, positions=batch.positions, mask=batch.mask)[wanted]
        weight = model.head_rows()[: self.vocabulary]
        weight = weight if torch.is_grad_enabled() else weight.detach()
        targets = batch.targets[wanted]
        knobs = self.temperature, self.share
        total: Tensor = DistilLoss.apply(hidden, weight, targets, (told, rows), knobs)  # type: ignore[no-untyped-call]
        return total, len(targets)


class DistilLoss(torch.autograd.Function):
    """Both heads, divergence and cross-entropy in one, some positions at a time.

    As `model.train.losses.HeadLoss`: gradients are made on the way forward, while the logits are there.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes them by position
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        teacher: tuple[Tensor, Tensor],
        knobs: tuple[float, float],
    ) -> Tensor:
        """Hidden (m, d), weight (v, d), targets (m,), teacher's hidden and head, (T, a) to the sum."""
        temperature, share = knobs
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        ghidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        gweight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for at in range(0, len(targets), POSITIONS):
            rows = slice(at, at + POSITIONS)
            logits = F.linear(hidden[rows], weight).float()
            soft = (logits / temperature).log_softmax(-1)
            aim = (F.linear(teacher[0][rows], teacher[1]).float() / temperature).log_softmax(-1)
            hard = logits.log_softmax(-1)
            chances, chosen = aim.exp(), targets[rows, None]
            divergence = (chances * (aim - soft)).sum()
            total += share * temperature**2 * divergence - (1 - share) * hard.gather(1, chosen).sum()
            if ghidden is None and gweight is None:
                continue
            glogits = (soft.exp() - chances) * (share * temperature)
            other = hard.exp()
            other.scatter_add_(1, chosen, torch.full_like(chosen, -1, dtype=other.dtype))
            glogits = (glogits + (1 - share) * other).to(weight.dtype)
            if ghidden is not None:
                torch.mm(glogits, weight, out=ghidden[rows])
            if gweight is not None:
                gweight += glogits.T @ hidden[rows]
        ctx.save_for_backward(ghidden, None if gweight is None else gweight.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the student's hidden states and, where it is trained, of its head."""
        ghidden, gweight = ctx.saved_tensors
        pulled = [None if g is None else g * grads[0].to(g.dtype) for g in (ghidden, gweight)]
        return pulled[0], pulled[1], None, None, None
