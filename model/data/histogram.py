"""How long the conversations are: bars for a terminal, a picture for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model.errors import DataError

BINS = 12
WIDTH = 50


def edges(lengths: Sequence[int], bins: int = BINS) -> list[int]:
    """Round edges of at most `bins` equal bins that cover 0 to the longest: (first, second, ..., last)."""
    step, longest = 1, max(lengths)
    rounds = (1, 2, 5)
    while step * bins <= longest:
        power, digit = len(str(step)) - 1, int(str(step)[0])
        step = 10 ** (power + 1) if digit == rounds[-1] else rounds[rounds.index(digit) + 1] * 10**power
    return list(range(0, (longest // step + 2) * step, step))


def bars(lengths: Sequence[int], cutoff_len: int) -> list[str]:
    """One line a bin: its range, a bar, its count; bins past `cutoff_len` say so."""
    marks = edges(lengths)
    counts, _ = np.histogram(lengths, bins=marks)
    digits, most = len(str(marks[-1])), max(counts)
    lines = []
    for low, high, count in zip(marks, marks[1:], counts.tolist(), strict=False):
        bar = "█" * max(round(WIDTH * count / most), int(count > 0))
        past = " > cutoff_len" if low > cutoff_len and count else ""
        lines.append(f"  {low:>{digits}} to {high - 1:>{digits}} {bar}{' ' * bool(bar)}{count}{past}")
    return lines


def picture(lengths: Sequence[int], cutoff_len: int, file: Path) -> None:
    """The same as a picture; the format goes by the suffix.

    Raises:
        DataError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.hist(lengths, bins=edges(lengths, 40), color="#3b6ea5")
    if max(lengths) > cutoff_len / 2:
        axes.axvline(cutoff_len, color="#b5442e", linestyle="--", label=f"cutoff_len {cutoff_len}")
        axes.legend()
    axes.set(xlabel="tokens of a conversation", ylabel="conversations", title=f"{len(lengths)} conversations")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=120)
    except (OSError, ValueError) as error:
        raise DataError(f"the picture {file} cannot be written: {error}") from error
