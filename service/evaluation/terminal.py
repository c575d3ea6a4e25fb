"""The report as a table of plain text: a line a mode, then the differences that are real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.evaluation.pictures import milliseconds, percent, points

#: Figure -> heading of its column.
COLUMNS = {
    "right": "right",
    "exact": "EM",
    "f1": "F1",
    "rouge_l": "ROUGE-L",
    "refused_right": "refused rightly",
    "refused_wrongly": "wrongly",
    "citation_precision": "cit. precision",
    "citation_recall": "recall",
    "misled": "misled",
    "judged": "judge",
}


def table(report: Mapping[str, Any], told: Sequence[str] = ()) -> str:
    """The report in lines, without the notes that have been `told` already."""
    modes: Sequence[Mapping[str, Any]] = report["modes"]
    asked = report["questions"]
    lines = [f"{asked['asked']} of {asked['of']} questions, {asked['answerable']} with an answer"]
    lines += [f"note: {note}" for note in report["notes"] if note not in told]
    if not modes or not asked["asked"]:
        return "\n".join(lines)
    columns = [name for name in COLUMNS if any(name in mode["figures"] for mode in modes)]
    rows = [["mode", *(COLUMNS[name] for name in columns), "first token", "total"]]
    for mode in modes:
        row = [mode["name"]]
        for name in columns:
            figure = mode["figures"].get(name)
            told = "-"
            if figure:
                told = percent(figure["mean"])
                if name == "right":
                    told += f" [{percent(figure['low'])}, {percent(figure['high'])}]"
            row.append(told)
        for kind in ("first_token", "total"):
            spread = mode["latency_ms"][kind]
            row.append(milliseconds(spread["median"]) if spread and spread["median"] else "-")
        rows.append(row)
    lines += ["", *_aligned(rows)]
    if real := [line for row in report["comparisons"] if (line := _difference(row))]:
        lines += ["", "Right, paired 95% intervals that do not hold 0:", *real]
    for mode in modes:
        if mode["errors"]:
            lines.append(f"{mode['name']}: {mode['errors']} questions failed, see answers.jsonl")
        if mode["judge"] and mode["judge"]["malformed"]:
            lines.append(
                f"{mode['name']}: {mode['judge']['malformed']} of {mode['judge']['n']} verdicts of "
                f"{mode['judge']['model']} could not be read"
            )
    return "\n".join(lines)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _difference(row: Mapping[str, Any]) -> str | None:
    figure = row["figures"].get("right")
    if not figure or figure["low"] <= 0 <= figure["high"]:
        return None
    low, high = points(figure["low"]), points(figure["high"])
    return f"  {row['mode']} less {row['against']}: {points(figure['mean'])} points [{low}, {high}]"
