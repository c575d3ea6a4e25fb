"""Texts with labels: rows of `text` and `label` to learn from, split so that equal texts stay on one side."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model.data.forms import HALF_CHARACTER
from model.data.registry import SetSpec, find
from model.data.rows import Problem, first, read
from model.data.sets import SHOWN
from model.data.split import normal
from model.errors import DataError


@dataclass(frozen=True, slots=True)
class Labelled:
    """One text and what it is."""

    text: str
    label: str
    file: Path
    row: int


def load(
    names: Sequence[str], folder: Path, *, max_samples: int | None = None, skip_malformed: bool = False
) -> tuple[list[Labelled], list[str]]:
    """The texts of several sets, and a line on each.

    Raises:
        DataError: a file that cannot be used as a whole, a column that no row has, or malformed rows.
    """
    found: list[Labelled] = []
    report = []
    for spec in find(names, folder):
        texts, problems = _read(spec, max_samples)
        if problems and not skip_malformed:
            more = len(problems) - SHOWN
            raise DataError(
                f"{len(problems)} of {len(texts) + len(problems)} rows of {spec.name} are malformed:"
                + "".join(f"\n  {problem}" for problem in problems[:SHOWN])
                + (f"\n  and {more} more" if more > 0 else "")
                + "\nMend them, or leave them out with skip_malformed."
            )
        left_out = f", {len(problems)} malformed left out" if problems else ""
        report.append(f"{spec.name}: {len(texts)} texts{left_out}")
        found += texts
    report += _doubts(found)
    return found, report


def _read(spec: SetSpec, max_samples: int | None) -> tuple[list[Labelled], list[Problem]]:
    spec = spec if spec.form is not None else spec.with_form("labelled")
    if spec.form != "labelled":
        raise DataError(f"{spec.name}: formatting should be labelled, with a text and a label in each row")
    rows, problems = read(spec.file)
    rows, problems = first(rows, problems, max_samples, spec.num_samples)
    text_column, label_column = spec.columns["text"], spec.columns["label"]
    seen = {column for row in rows for column in row.values}
    for column in (text_column, label_column):
        if column not in seen:
            raise DataError(
                f"{spec.file} has no column {column!r}; it has {', '.join(sorted(seen)) or 'none'}. Say in "
                'dataset_info.json: "formatting": "labelled", "columns": {"text": ..., "label": ...}'
            )
    texts = []
    for row in rows:
        text, label = row.values.get(text_column), row.values.get(label_column)
        if isinstance(label, int) and not isinstance(label, bool):
            label = str(label)
        wrong = None
        if not isinstance(text, str) or not text.strip():
            wrong = f"column {text_column!r} must be a text, is {text!r:.60}"
        elif not isinstance(label, str) or not label.strip():
            wrong = f"column {label_column!r} must be a label, is {label!r:.60}"
        elif half := HALF_CHARACTER.search(text + label):
            wrong = f"holds half a character (an unpaired surrogate, {half.group()!r})"
        if wrong is not None:
            problems.append(Problem(spec.file, row.number, wrong))
            continue
        assert isinstance(text, str)
        assert isinstance(label, str)
        texts.append(Labelled(text, label.strip(), spec.file, row.number))
    return texts, sorted(problems, key=lambda problem: problem.row)


def _doubts(texts: Sequence[Labelled]) -> list[str]:
    """A line on texts that stand there with several labels."""
    labels = defaultdict(set)
    for one in texts:
        labels[normal(one.text)].add(one.label)
    torn = sum(len(found) > 1 for found in labels.values())
    return [f"{torn} texts stand there with more than one label"] if torn else []


def split(texts: Sequence[Labelled], *sizes: float) -> list[list[Labelled]]:
    """What is left to train on, then one part a size (a share below 1, or a number of texts).

    Texts that are equal but for case, width and spaces stay on one side. Which side is decided by a hash of
    the text alone: the same in every run and in any order of the file.

    Raises:
        DataError: a size out of range, or a part that stays empty.
    """
    families: dict[str, list[int]] = defaultdict(list)
    for i, one in enumerate(texts):
        families[hashlib.sha256(normal(one.text).encode("utf-8", "replace")).hexdigest()].append(i)
    order = iter([families[key] for key in sorted(families)])
    parts: list[list[int]] = []
    for size in sizes:
        if size < 0 or size >= len(texts) or (size > 1 and size != int(size)):
            raise DataError(f"a part of {size} cannot be split off {len(texts)} texts")
        quota, part = round(size * len(texts)) if size < 1 else int(size), list[int]()
        while len(part) < quota and (members := next(order, None)) is not None:
            part += members
        parts.append(part)
    parts.insert(0, [i for members in order for i in members])
    if not all(part for part, size in zip(parts, (1, *sizes), strict=True) if size):
        raise DataError(f"{len(texts)} texts are too few to split off {', '.join(map(str, sizes))}")
    return [[texts[i] for i in sorted(part)] for part in parts]


def balanced(texts: Sequence[Labelled]) -> list[Labelled]:
    """As many texts of each label as the rarest has, chosen by the hash of the text."""
    fewest = min(Counter(one.label for one in texts).values())
    ranked: dict[str, list[Labelled]] = defaultdict(list)
    for one in sorted(texts, key=lambda one: hashlib.sha256(one.text.encode("utf-8", "replace")).digest()):
        ranked[one.label].append(one)
    kept = {id(one) for members in ranked.values() for one in members[:fewest]}
    return [one for one in texts if id(one) in kept]
