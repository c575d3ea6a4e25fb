"""Log-probabilities of given tokens, with gradients, a few positions at a time.

As `model.train.losses.HeadLoss`, but one value a token instead of one sum, for losses that weigh tokens or
replies apart. Logits of all positions never exist together: on the way back they are made again where the
head itself is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from model import lora
from model.data.batches import IGNORED, Batch
from model.gpt import GPT
from model.train.losses import POSITIONS


def token_logs(model: GPT, batch: Batch) -> Tensor:
    """Natural log-probability of every target of the batch, (m,) float32, row by row."""
    hidden = model(batch.ids, positions=batch.positions, mask=batch.mask)
    wanted = batch.targets != IGNORED
    weight = model.head_rows()
    weight = weight if torch.is_grad_enabled() else weight.detach()  # inside a Function nobody can tell
    found: Tensor = TokenLogs.apply(hidden[wanted], weight, batch.targets[wanted])  # type: ignore[no-untyped-call]
    return found


@contextmanager
def reference(model: GPT) -> Iterator[None]:
    """Within it, the model is its base: no adapter, no dropout, no gradients.

    What a reply was worth before training is one number, whatever the step draws.
    """
    name, training = lora.active(model), model.training
    lora.set_active(model, None)
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        lora.set_active(model, name)
        model.train(training)


class TokenLogs(torch.autograd.Function):
    """Hidden states (m, d), head (v, d), targets (m,) to log-probabilities (m,), float32."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        """A row's gradient is made while its logits are there, and scaled on the way back."""
        found = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        ghidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for at in range(0, len(targets), POSITIONS):
            rows = slice(at, at + POSITIONS)
            logs = F.linear(hidden[rows], weight).float().log_softmax(-1)
            chosen = targets[rows, None]
            found[rows] = logs.gather(1, chosen)[:, 0]
            if ghidden is not None:
                torch.mm(_pull(logs, chosen).to(weight.dtype), weight, out=ghidden[rows])
        own = ctx.needs_input_grad[1]
        ctx.save_for_backward(ghidden, *((hidden, weight, targets) if own else (None, None, None)))
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the hidden states and, where it is trained, of the head."""
        ghidden, hidden, weight, targets = ctx.saved_tensors
        pull = grads[0][:, None]
        gweight = None
        if weight is not None:
            gweight = torch.zeros_like(weight, dtype=torch.float32)
            for at in range(0, len(targets), POSITIONS):
                rows = slice(at, at + POSITIONS)
                logs = F.linear(hidden[rows], weight).float().log_softmax(-1)
                pulled = _pull(logs, targets[rows, None]) * pull[rows]
                gweight += (pulled.T.to(weight.dtype) @ hidden[rows]).float()
            gweight = gweight.to(weight.dtype)
        return None if ghidden is None else (ghidden * pull).to(ghidden.dtype), gweight, None


def _pull(logs: Tensor, chosen: Tensor) -> Tensor:
    """Gradient of the chosen log-probability by the logits: 1 at it, less the probabilities; over `logs`."""
    pulled = logs.exp_().neg_()
    return pulled.scatter_add_(1, chosen, torch.ones_like(chosen, dtype=pulled.dtype))
