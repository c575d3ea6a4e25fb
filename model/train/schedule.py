"""Learning-rate schedules: a table of functions from progress to a factor."""

from __future__ import annotations

import math
from collections.abc import Callable

from model.config import Scheduler

#: Share of the steps behind the warm-up, 0 to 1, and the share of those over which a schedule that stays
#: falls at last -> factor of the learning rate, from 1 to 0.
SCHEDULES: dict[Scheduler, Callable[[float, float], float]] = {
    "cosine": lambda share, decay: (1 + math.cos(math.pi * share)) / 2,  # noqa: ARG005
    "linear": lambda share, decay: 1 - share,  # noqa: ARG005
    "constant": lambda share, decay: 1.0,  # noqa: ARG005
    # MiniCPM (arXiv 2404.06395); the straight fall is that of arXiv 2405.18392.
    "warmup_stable_decay": lambda share, decay: min((1 - share) / decay, 1.0) if decay else 1.0,
}


def factor(
    kind: Scheduler,
    step: int,
    steps: int,
    warmup_ratio: float,
    *,
    min_lr_ratio: float = 0.0,
    decay_ratio: float = 0.2,
) -> float:
    """What the learning rate of step 0 .. steps - 1 is multiplied by.

    It rises linearly over the first `warmup_ratio` of the steps, whose last has factor 1, and no step has 0.
    Behind them it falls as `kind` has it towards `min_lr_ratio`; `decay_ratio` is a share of all steps.
    """
    warmup = round(warmup_ratio * steps)
    if step < warmup:
        return (step + 1) / warmup
    rest = max(steps - warmup, 1)
    share = SCHEDULES[kind]((step - warmup) / rest, round(decay_ratio * steps) / rest)
    return min_lr_ratio + (1 - min_lr_ratio) * share
