"""Which examples validate: decided by their content alone, so that nothing leaks and curves compare.

Two examples stay on one side if their conversations open with the same user turn (however spaced and cased)
or if they agree in their group. Such families go to validation in the order of their hash until `val_size` is
reached: the same rows in every run, in any order of the file, and no training seed moves them.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence

from model.chat import Message
from model.data.forms import Example
from model.errors import DataError


def split(examples: Sequence[Example], val_size: float) -> tuple[list[Example], list[Example]]:
    """Training and validation examples, each in the order given.

    `val_size` is a share below 1, or a number of examples; validation never gets more, and less only where no
    further family fits.

    Raises:
        DataError: a val_size that leaves no training example, or that no family fits.
    """
    if val_size < 0 or val_size >= len(examples) or (val_size > 1 and val_size != int(val_size)):
        raise DataError(
            f"val_size must be a share below 1 or a number below the {len(examples)} examples, got {val_size}"
        )
    quota = round(val_size * len(examples)) if val_size < 1 else int(val_size)
    if val_size and not quota:
        quota = 1
    chosen: set[int] = set()
    for _, members in sorted(_families(examples)):
        if len(chosen) + len(members) <= quota:
            chosen.update(members)
    if quota and not chosen:
        raise DataError(
            f"no {quota} of the {len(examples)} examples can be set aside for validation: they share prompts "
            "or groups with too many others; give a larger val_size or a set of its own (eval_dataset)"
        )
    train = [example for i, example in enumerate(examples) if i not in chosen]
    return train, [examples[i] for i in sorted(chosen)]


def normal(text: str) -> str:
    """`text` in the form in which prompts are compared: compatible characters, case and spaces aside."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def opening(conversation: Sequence[Message]) -> str:
    """The first user turn, in normal form."""
    return normal(next((turn["content"] for turn in conversation if turn["role"] == "user"), ""))


def _families(examples: Sequence[Example]) -> list[tuple[str, list[int]]]:
    """Numbers of the examples that belong together, with the smallest hash among their keys."""
    parents = list(range(len(examples)))

    def root(i: int) -> int:
        while parents[i] != i:
            parents[i] = parents[parents[i]]
            i = parents[i]
        return i

    owner: dict[str, int] = {}
    least: list[str] = []
    for i, example in enumerate(examples):
        keys = {"prompt " + opening(conversation) for conversation in example.conversations}
        if example.group is not None:
            keys.add("group " + example.group)
        hashes = sorted(hashlib.sha256(key.encode()).hexdigest() for key in keys)
        least.append(hashes[0])
        for key in hashes:
            parents[root(owner.setdefault(key, i))] = root(i)
    families: dict[int, list[int]] = {}
    for i in range(len(examples)):
        families.setdefault(root(i), []).append(i)
    return [(min(least[i] for i in members), members) for members in families.values()]
