"""The report as one HTML file that needs nothing else: no script, no font, no picture from anywhere.

Filters are style rules over radio buttons. The page forbids itself every request (its content-security
policy), and all text of documents and models is escaped by the template engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from service.evaluation.pictures import COLOURS, Curve, Scale, curves, milliseconds, percent, points

#: Questions that the page shows one by one; the rest stand in answers.jsonl.
SHOWN = 300
#: Figures of the wide table, in its order.
TABLE = (
    "right", "exact", "f1", "rouge_l", "exact_answerable", "f1_answerable", "refused_right",
    "refused_wrongly", "citation_precision", "citation_recall", "found", "own_words", "misled", "judged",
)  # fmt: skip


def render(report: Mapping[str, Any]) -> str:
    """The page of a report, as `service.evaluation.report.build` makes it."""
    environment = Environment(
        loader=PackageLoader("service", "evaluation"), autoescape=True, trim_blocks=True
    )
    environment.filters.update(percent=percent, points=points, ms=milliseconds)
    modes = report["modes"]
    return environment.get_template("page.html").render(
        report=report,
        modes=modes,
        colours=COLOURS,
        columns=_columns(report),
        kinds=list(report["questions"]["kinds"]),
        languages=list(report["questions"]["languages"]),
        shown=report["answers"][:SHOWN],
        best=(best := _best(modes)),
        lead=_lead(report, best),
        risk=_risk(modes),
        calibration=_calibration(modes),
        times=_times(modes),
    )


def _columns(report: Mapping[str, Any]) -> list[str]:
    """The figures that some mode has; where every question has an answer, none that says the same again."""
    again = "_answerable" if report["questions"]["asked"] == report["questions"]["answerable"] else None
    return [
        name
        for name in TABLE
        if any(name in mode["figures"] for mode in report["modes"]) and not (again and name.endswith(again))
    ]


def _best(modes: list[dict[str, Any]]) -> dict[str, Any] | None:
    return max(modes, key=lambda m: m["figures"]["right"]["mean"], default=None)


def _lead(report: Mapping[str, Any], best: dict[str, Any] | None) -> dict[str, Any] | None:
    """The best mode's distance to the baseline that quotes."""
    for row in report["comparisons"]:
        if best is not None and (row["mode"], row["against"]) == (best["name"], "best-sentence"):
            found: dict[str, Any] = row["figures"]["right"]
            return found
    return None


def _risk(modes: list[dict[str, Any]]) -> Markup | None:
    lines = [
        Curve(mode["name"], place, mode["risk_coverage"]["coverage"], mode["risk_coverage"]["risk"])
        for place, mode in enumerate(modes)
        if mode["risk_coverage"]
    ]
    if not lines:
        return None
    return Markup(  # noqa: S704 - every text in it is escaped where it is put in
        curves(lines, "Risk by coverage", "answered, the most confident first", "of those, wrong")
    )


def _calibration(modes: list[dict[str, Any]]) -> Markup | None:
    lines = [
        Curve(
            mode["name"],
            place,
            [b["confidence"] for b in mode["calibration"]["bins"]],
            [b["right"] for b in mode["calibration"]["bins"]],
            [b["n"] / mode["calibration"]["n"] for b in mode["calibration"]["bins"]],
        )
        for place, mode in enumerate(modes)
        if mode["calibration"]
    ]
    if not lines:
        return None
    return Markup(  # noqa: S704 - every text in it is escaped where it is put in
        curves(lines, "Calibration", "stated confidence", "right", diagonal=True)
    )


def _times(modes: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Spreads of the modes that take time, on one scale."""
    slow = [
        (place, mode["name"], kind, spread)
        for place, mode in enumerate(modes)
        for kind, spread in mode["latency_ms"].items()
        if spread and spread["p90"] > 0
    ]
    if not slow:
        return None
    scale = Scale.over([spread[name] for *_, spread in slow for name in ("p10", "p90")])
    rows = [
        {
            "colour": place,
            "name": name,
            "kind": kind.replace("_", " "),
            "from": scale.at(spread["p10"]),
            "to": scale.at(spread["p90"]),
            "at": scale.at(spread["median"]),
            "spread": spread,
        }
        for place, name, kind, spread in slow
    ]
    return {"rows": rows, "ticks": scale.ticks}
