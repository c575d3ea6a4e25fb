"""What the comparison says, in sentences: which way of answering won, and whether training was worth it.

Reads the report of `service.evaluation.report` and nothing else. A difference whose interval holds 0 is
called what it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.evaluation.modes import BASELINES
from service.evaluation.pictures import percent, points

Report = Mapping[str, Any]


def verdict(report: Report) -> list[str]:
    """Sentences for people, the most important first; empty where nothing was compared."""
    modes: Sequence[Mapping[str, Any]] = [m for m in report["modes"] if m["name"] not in BASELINES]
    if not modes or not report["questions"]["asked"]:
        return []
    best = max(modes, key=_right)
    said = [
        f"Of {report['questions']['asked']} questions about documents that were held out, "
        f"{best['name']} answered {percent(_right(best))} right, {_place(best, report['modes'])}."
    ]
    alone = _difference(report, "finetuned", "base")
    if alone is not None:
        said.append(f"Training on question-answer pairs, asked without the documents: {_told(alone)}.")
        if alone["low"] <= 0:
            said.append(
                "An adapter that learned some documents by heart does not know the others. Use the "
                f"documents: {best['name']}."
            )
    names = [m["name"] for m in modes]
    if {"rag", "rag+finetuned"} <= {*names}:
        with_them = _right(_named(modes, "rag+finetuned")) - _right(_named(modes, "rag"))
        said.append(
            f"With the documents beside it, the trained model differs from the untrained one by "
            f"{points(with_them)} points."
        )
    quoting = _difference(report, best["name"], "best-sentence")
    if quoting is not None:
        said.append(f"{best['name']}, compared with quoting the sentence that fits best: {_told(quoting)}.")
    return said


def _place(best: Mapping[str, Any], modes: Sequence[Mapping[str, Any]]) -> str:
    """Where the best of the modes stands among all, baselines included."""
    others = [mode for mode in modes if mode["name"] != best["name"]]
    above = [m["name"] for m in others if _right(m) > _right(best)]
    level = [m["name"] for m in others if _right(m) == _right(best)]
    if above:
        return f"the most of all models, but fewer than {_listed(above)}, which needs none"
    return f"as many as {_listed(level)}" if level else "more than any other way"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _right(mode: Mapping[str, Any]) -> float:
    return float(mode["figures"]["right"]["mean"])


def _named(modes: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return next(mode for mode in modes if mode["name"] == name)


def _difference(report: Report, mode: str, against: str) -> Mapping[str, float] | None:
    for row in report["comparisons"]:
        if (row["mode"], row["against"]) == (mode, against):
            found: Mapping[str, float] | None = row["figures"].get("right")
            return found
    return None


def _told(difference: Mapping[str, float]) -> str:
    low, mean, high = (points(difference[key]) for key in ("low", "mean", "high"))
    if difference["low"] <= 0 <= difference["high"]:
        return f"{mean} points [{low}, {high}], which may be chance"
    return f"{mean} points [{low}, {high}]"
