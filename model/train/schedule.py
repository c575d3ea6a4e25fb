"""Learning-rate schedules: a table of functions from progress to a factor."""

from __future__ import annotations

import math
from collections.abc import Callable

from model.config import Scheduler

#: Share of the steps behind the warm-up, 0 to 1, -> factor of the learning rate.
SCHEDULES: dict[Scheduler, Callable[[float], float]] = {
    "cosine": lambda share: (1 + math.cos(math.pi * share)) / 2,
    "linear": lambda share: 1 - share,
    "constant": lambda share: 1.0,  # noqa: ARG005
}


def factor(kind: Scheduler, step: int, steps: int, warmup_ratio: float) -> float:
    """What the learning rate of step 0 .. steps - 1 is multiplied by.

    It rises linearly over the first `warmup_ratio` of the steps, whose last has factor 1, and no step has 0.
    """
    warmup = round(warmup_ratio * steps)
    if step < warmup:
        return (step + 1) / warmup
    return SCHEDULES[kind]((step - warmup) / max(steps - warmup, 1))
