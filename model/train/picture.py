"""A run's curves as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model.errors import TrainingError

#: Weight of the past in the smoothed curve.
SMOOTHING = 0.9


def smoothed(values: Sequence[float]) -> list[float]:
    """Exponential moving average, without the pull towards its start."""
    averages, average = [], 0.0
    for count, value in enumerate(values, 1):
        average = SMOOTHING * average + (1 - SMOOTHING) * value
        averages.append(average / (1 - SMOOTHING**count))
    return averages


def draw(metrics: Sequence[Mapping[str, Any]], title: str, file: Path) -> bool:
    """Loss, validation loss and learning rate by step; False where there is nothing to draw yet.

    Raises:
        TrainingError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [event for event in metrics if "loss" in event]
    validations = [event for event in metrics if "eval_loss" in event]
    if not steps:
        return False
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    at, loss = [event["step"] for event in steps], [event["loss"] for event in steps]
    axes.plot(at, loss, color="#3b6ea5", alpha=0.3, linewidth=1)
    axes.plot(at, smoothed(loss), color="#3b6ea5", label="training")
    if validations:
        where = [event["step"] for event in validations]
        axes.plot(
            where, [event["eval_loss"] for event in validations], "o-", color="#b5442e", label="validation"
        )
    axes.set(xlabel="step", ylabel="loss, nats a token", title=title)
    axes.grid(alpha=0.25)
    rate = axes.twinx()
    rate.plot(at, [event["learning_rate"] for event in steps], color="#8a8a8a", linestyle=":", linewidth=1)
    rate.set_ylabel("learning rate (dotted)", color="#8a8a8a")
    rate.set_ylim(bottom=0)
    axes.legend()
    try:
        figure.savefig(file, dpi=120)
    except (OSError, ValueError) as error:
        raise TrainingError(f"the picture {file} cannot be written: {error}") from error
    return True
