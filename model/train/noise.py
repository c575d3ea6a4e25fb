"""NEFTune (arXiv 2310.05914): while training, each token's embedding gets noise.

It is uniform between minus and plus alpha / sqrt(L d): L the row's real tokens, d the width. A row that holds
several conversations counts as one. It is drawn from torch's generator, which the loop seeds at every step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from model.gpt import GPT
from model.train.losses import Loss

if TYPE_CHECKING:
    from model.data.batches import Batch


def noisy(loss: Loss, alpha: float) -> Loss:
    """`loss` with noise of that strength on the embedding while the model trains; 0 is `loss` itself."""

    def noised(model: GPT, batch: Batch) -> tuple[Tensor, int]:
        if not model.training:
            return loss(model, batch)
        lengths = torch.tensor(batch.lengths, device=batch.ids.device)

        def add(module: nn.Module, inputs: tuple[Tensor, ...], embedded: Tensor) -> Tensor:  # noqa: ARG001
            if not module.training:  # a reference that reads within the step
                return embedded
            reach = alpha / (lengths * embedded.shape[-1]).sqrt()
            noise = torch.rand(embedded.shape, device=embedded.device) * 2 - 1
            return embedded + (noise * reach[:, None, None]).to(embedded.dtype)

        hook = model.embed.register_forward_hook(add)
        try:
            return loss(model, batch)
        finally:
            hook.remove()

    return noised if alpha else loss
