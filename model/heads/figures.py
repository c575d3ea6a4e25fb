"""How good a classifier is on texts that it has not learned from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def judge(said: Tensor, truth: Sequence[int], labels: Sequence[str]) -> dict[str, Any]:
    """Figures of probabilities (n, k) against the right labels' numbers.

    `accuracy` with its 95% interval (Wilson), the accuracy of always saying the commonest label beside it,
    `balanced_accuracy` (the mean of the labels' recalls), `log_loss` in nats, and for each label precision,
    recall, F1 and how many texts have it.
    """
    right = torch.tensor(truth)
    best, n = said.argmax(1), len(right)
    hits = int((best == right).sum())
    table = {}
    for i, label in enumerate(labels):
        both = int(((best == i) & (right == i)).sum())
        named, there = int((best == i).sum()), int((right == i).sum())
        precision = both / named if named else 0.0
        recall = both / there if there else 0.0
        f1 = 2 * precision * recall / (precision + recall) if both else 0.0
        table[label] = {"precision": precision, "recall": recall, "f1": f1, "texts": there}
    chances = said[torch.arange(n), right].clamp_min(1e-12)
    recalls = [row["recall"] for row in table.values() if row["texts"]]
    low, high = wilson(hits, n)
    return {
        "texts": n,
        "accuracy": hits / n,
        "accuracy_low": low,
        "accuracy_high": high,
        "always_the_commonest": max(row["texts"] for row in table.values()) / n,
        "balanced_accuracy": sum(recalls) / len(recalls),
        "log_loss": float(-chances.log().mean()),
        "labels": table,
    }


def wilson(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """95% interval of a share (Wilson 1927)."""
    share, widened = hits / n, 1 + z * z / n
    middle = (share + z * z / (2 * n)) / widened
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / widened
    return max(middle - half, 0.0), min(middle + half, 1.0)


def lines(figures: dict[str, Any]) -> list[str]:
    """For a terminal."""
    share = "{:.2%}".format
    found = [
        f"accuracy {share(figures['accuracy'])} ({share(figures['accuracy_low'])} to "
        f"{share(figures['accuracy_high'])}) of {figures['texts']} texts; always saying the commonest label "
        f"gives {share(figures['always_the_commonest'])}; balanced accuracy "
        f"{share(figures['balanced_accuracy'])}; log loss {figures['log_loss']:.4f}"
    ]
    return found + [
        f"  {label}: precision {share(row['precision'])}, recall {share(row['recall'])}, "
        f"F1 {share(row['f1'])}, {row['texts']} texts"
        for label, row in figures["labels"].items()
    ]
