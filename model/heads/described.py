"""What a head's folder says of itself, and where heads lie; nothing here reads a weight or imports torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from model import folder
from model.errors import CheckpointError, UnknownModel

HEAD_FILE = "head.json"
VERSION = 1
Kind = Literal["classifier", "reward"]
SHELVES: dict[Kind, str] = {"classifier": "classifiers", "reward": "rewards"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What stands in `head.json`."""

    kind: Kind
    labels: tuple[str, ...]  #: of a classifier, in the order of the outputs; empty for a reward
    base: str  #: name of the model that it was trained on
    base_weights: str  #: `model.identity` of it
    first_block: int  #: the first trained one; 0 with an adapter
    cutoff_len: int  #: tokens of a text that are read
    adapter: bool = False
    description: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)  #: texts that each label was learned from
    figures: Mapping[str, Any] = field(default_factory=dict)  #: on texts that it was not trained on
    run: str = ""


def write_description(target: Path, described: Described) -> None:
    """`head.json` alone."""
    content = {"version": VERSION} | asdict(described)
    text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    (target / HEAD_FILE).write_text(text, encoding="utf-8")


def path_of(kind: Kind, name: str, home: Path) -> Path:
    """Where a head of that name lies.

    Raises:
        UnknownModel: there is none; lists those there are.
    """
    shelf = home / SHELVES[kind]
    found = shelf / name
    folder.recover(found)
    if "/" in name or not (found / HEAD_FILE).is_file():
        there = ", ".join(names(kind, home)) or "none"
        raise UnknownModel(f"there is no {kind} {name!r} in {shelf}; there are: {there}")
    return found


def names(kind: Kind, home: Path) -> list[str]:
    """All trained ones, sorted."""
    return sorted(file.parent.name for file in (home / SHELVES[kind]).glob(f"[!.]*/{HEAD_FILE}"))


def describe(path: Path) -> Described:
    """What a head's folder says of itself; reads no weights.

    Raises:
        CheckpointError: not a head's folder, or a damaged one.
    """
    try:
        content = json.loads((path / HEAD_FILE).read_text(encoding="utf-8"))
        if content.pop("version") != VERSION:
            raise CheckpointError(f"{path}: this head was written by another version. Train it again")
        labels = tuple(map(str, content.pop("labels")))
        return Described(**content, labels=labels)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path / HEAD_FILE} cannot be read: {error}. Train it again") from error
