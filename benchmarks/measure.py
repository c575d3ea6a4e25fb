"""Interleaved timing: A B A B ... in one process, so that a noisy neighbour hits both alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """Units a second over the rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle round."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        """Median and range."""
        return f"{self.median:8.1f}  ({min(self.values):.1f} to {max(self.values):.1f})"


def interleave(
    units: dict[str, float], runs: dict[str, Callable[[], object]], rounds: int
) -> dict[str, Rate]:
    """Run each entry of `runs` once to warm up, then `rounds` times in turn; `units` says how much one run processes."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: Rate(tuple(units[name] / s for s in values)) for name, values in seconds.items()}


def ratio(ours: Rate, theirs: Rate) -> str:
    """Ours over theirs, round by round: median and range."""
    pairs = Rate(tuple(a / b for a, b in zip(ours.values, theirs.values, strict=True)))
    return f"{pairs.median:.2f}x  ({min(pairs.values):.2f} to {max(pairs.values):.2f})"


def memory_mb(field: str = "VmHWM", pid: int | str = "self") -> float:
    """Resident memory of a process in MB: `VmHWM` is the peak, `VmRSS` now (Linux; proc(5))."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:  # noqa: PTH123
        line = next((line for line in status if line.startswith(field + ":")), None)
    return int(line.split()[1]) / 1024 if line else 0.0  # a process that has just ended holds nothing
