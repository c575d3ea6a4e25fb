"""From replies to the report: figures with intervals, by kind and by language, curves, comparisons.

The report is plain data, as it is written to `report.json`; the terminal's table and the page read nothing
else. Modes are compared over the questions that every mode has been asked, so an interrupted run is fair.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from service.evaluation import statistics
from service.evaluation.figures import COMPARED, FIGURES, is_right
from service.evaluation.modes import Mode
from service.evaluation.questions import Question
from service.evaluation.replies import Reply
from service.evaluation.statistics import Floats, Interval

#: Points of a curve in the report; more are thinned out.
CURVE_POINTS = 200
Replies = Mapping[str, Mapping[str, Reply]]


def build(
    questions: Sequence[Question],
    modes: Sequence[Mode],
    replies: Replies,
    *,
    settings: Mapping[str, object],
    notes: Sequence[str] = (),
    resamples: int = statistics.RESAMPLES,
) -> dict[str, Any]:
    """The whole report.

    Args:
        questions: all that were to be asked.
        modes: in the order of the report.
        replies: mode -> question -> reply; may be incomplete.
        settings: what the run was made with.
        notes: what readers should know (modes left out, ...).
        resamples: of the bootstrap.
    """
    modes = [mode for mode in modes if replies.get(mode.name)]
    asked = [q for q in questions if all(q.id in replies[mode.name] for mode in modes)] if modes else []
    told = [*notes, *_unread(modes, replies)]
    if len(asked) < len(questions):
        told.append(
            f"{len(questions) - len(asked)} of {len(questions)} questions have not been asked in every mode; "
            "the figures are over the others. The same command goes on."
        )
    values = {
        m.name: np.array(
            [[f.value(q, replies[m.name][q.id]) for f in FIGURES.values()] for q in asked], dtype=np.float64
        ).reshape(len(asked), len(FIGURES))
        for m in modes
    }
    rows = [_mode(mode, asked, replies[mode.name], values[mode.name], resamples) for mode in modes]
    return {
        "settings": dict(settings),
        "notes": told,
        "questions": {
            "asked": len(asked),
            "of": len(questions),
            "answerable": sum(q.answerable for q in asked),
            "kinds": _counts([q.kind for q in asked]),
            "languages": _counts([q.language for q in asked]),
        },
        "figures": {
            name: {"label": f.label, "about": f.about, "higher_is_better": f.higher_is_better}
            for name, f in FIGURES.items()
        },
        "modes": rows,
        "comparisons": _comparisons(modes, values, resamples),
        "answers": [_answers(q, modes, replies) for q in asked],
    }


def _unread(modes: Sequence[Mode], replies: Replies) -> list[str]:
    """A note for each mode that was to read each passage apart and put all into one prompt instead."""
    wanting = [
        m.name
        for m in modes
        if m.ask is not None and m.ask.mode == "rag" and m.ask.reading == "each"
        and {r.reading for r in replies[m.name].values()} & {"each", "joint"} == {"joint"}
    ]  # fmt: skip
    return [
        f"{name} read no passage apart: the reading adapter is not installed, or does not fit the model. It "
        "answered as rag does."
        for name in wanting
    ]


def _mode(
    mode: Mode, asked: Sequence[Question], given: Mapping[str, Reply], values: Floats, resamples: int
) -> dict[str, Any]:
    own = [given[q.id] for q in asked]
    found = statistics.intervals(values, resamples)
    counts = (~np.isnan(values)).sum(axis=0).tolist()
    return {
        "name": mode.name,
        "about": mode.about,
        "model": next((r.model for r in own if r.model), mode.generator or ""),
        "n": len(asked),
        "answered": sum(r.answered for r in own),
        "errors": sum(r.error is not None for r in own),
        "figures": {
            name: _interval(interval, n)
            for name, interval, n in zip(FIGURES, found, counts, strict=True)
            if interval is not None
        },
        "by_kind": _groups([q.kind for q in asked], values, resamples),
        "by_language": _groups([q.language for q in asked], values, resamples),
        "latency_ms": {
            "first_token": _spread(
                [r.first_token_ms for r in own if r.answered and r.first_token_ms is not None]
            ),
            "total": _spread([r.total_ms for r in own if r.error is None]),
        },
        "judge": _judge(own),
        **_confidence(asked, own),
    }


def _groups(labels: Sequence[str], values: Floats, resamples: int) -> dict[str, dict[str, Any]]:
    """The compared figures and the refusals by group, in the order in which groups appear."""
    names = list(FIGURES)
    groups = {}
    for label in dict.fromkeys(labels):
        rows = values[[i for i, other in enumerate(labels) if other == label]]
        found = statistics.intervals(rows, min(resamples, 2000))
        groups[label] = {"n": len(rows)} | {
            name: _interval(found[names.index(name)], int((~np.isnan(rows[:, names.index(name)])).sum()))
            for name in (*COMPARED, "refused_right", "refused_wrongly", "citation_precision")
            if found[names.index(name)] is not None
        }
    return groups


def _confidence(asked: Sequence[Question], given: Sequence[Reply]) -> dict[str, Any]:
    """Risk-coverage and calibration over what was answered with a confidence."""
    pairs = [(q, r) for q, r in zip(asked, given, strict=True) if r.answered and r.confidence is not None]
    if len(pairs) < 2 or len({r.confidence for _, r in pairs}) < 2:
        return {"risk_coverage": None, "calibration": None}
    right = np.array([float(is_right(q, r)) for q, r in pairs])
    confidence = np.array([r.confidence for _, r in pairs], dtype=np.float64)
    curve = statistics.risk_coverage(confidence, 1 - right)
    scores = [r.retrieval_score for _, r in pairs]
    by_score = None
    if all(s is not None for s in scores):
        by_score = statistics.risk_coverage(np.array(scores, dtype=np.float64), 1 - right).area
    bins, error = statistics.calibration(np.clip(confidence, 0.0, 1.0), right)
    step = max(1, math.ceil(len(pairs) / CURVE_POINTS))
    shown = sorted({*range(0, len(pairs), step), len(pairs) - 1})
    return {
        "risk_coverage": {
            "n": len(pairs),
            "coverage": [round(curve.coverage[i], 4) for i in shown],
            "risk": [round(curve.risk[i], 4) for i in shown],
            "area": round(curve.area, 4),
            "area_by_retrieval_score": None if by_score is None else round(by_score, 4),
            "error_rate": round(float(1 - right.mean()), 4),
        },
        "calibration": {
            "n": len(pairs),
            "bins": [
                {"confidence": round(b.confidence, 4), "right": round(b.right, 4), "n": b.count} for b in bins
            ],
            "expected_error": round(error, 4),
        },
    }


def _comparisons(modes: Sequence[Mode], values: Mapping[str, Floats], resamples: int) -> list[dict[str, Any]]:
    """Every mode against the first one, and against the baseline that quotes."""
    if not modes:
        return []
    names, found = list(FIGURES), []
    columns = [names.index(name) for name in COMPARED]
    for against in dict.fromkeys((modes[0].name, "best-sentence")):
        if against not in values:
            continue
        for mode in modes:
            if mode.name == against:
                continue
            rows = statistics.differences(
                values[mode.name][:, columns], values[against][:, columns], resamples
            )
            found.append(
                {
                    "mode": mode.name,
                    "against": against,
                    "figures": {
                        name: _interval(row, len(values[against]))
                        for name, row in zip(COMPARED, rows, strict=True)
                        if row is not None
                    },
                }
            )
    return found


def _answers(question: Question, modes: Sequence[Mode], replies: Replies) -> dict[str, Any]:
    return {
        "id": question.id,
        "question": question.text,
        "kind": question.kind,
        "language": question.language,
        "answers": list(question.answers) if len(question.parts) < 2 else [list(p) for p in question.parts],
        "source": question.source,
        "replies": {
            mode.name: _reply(question, replies[mode.name][question.id])
            for mode in modes
        },
    }  # fmt: skip


def _reply(question: Question, reply: Reply) -> dict[str, Any]:
    return {
        "right": is_right(question, reply),
        "answered": reply.answered,
        "answer": reply.answer,
        "llm_generated": reply.llm_generated,
        "refusal_reason": reply.refusal_reason,
        "f1": round(value, 4) if not math.isnan(value := FIGURES["f1"].value(question, reply)) else None,
        "confidence": reply.confidence,
        "citations": [
            {"path": c.path, "page": c.page, "text": c.text, "evidence": c.evidence, "holds": c.holds}
            for c in reply.citations
        ],
        "total_ms": reply.total_ms,
        "judged": reply.judged,
        "error": reply.error,
    }


def _judge(given: Sequence[Reply]) -> dict[str, Any] | None:
    asked = [r for r in given if r.judge is not None]
    if not asked:
        return None
    return {"model": asked[0].judge, "n": len(asked), "malformed": sum(r.judged is None for r in asked)}


def _interval(interval: Interval | None, n: int) -> dict[str, float | int] | None:
    if interval is None:
        return None
    return {
        "mean": round(interval.mean, 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
        "n": n,
    }


def _spread(values: Sequence[float | None]) -> dict[str, float | int] | None:
    if not values:
        return None
    p10, p50, p90 = np.quantile(np.array(values, dtype=np.float64), [0.1, 0.5, 0.9]).tolist()
    return {"n": len(values), "p10": round(p10, 1), "median": round(p50, 1), "p90": round(p90, 1)}


def _counts(labels: Sequence[str]) -> dict[str, int]:
    return {label: labels.count(label) for label in dict.fromkeys(labels)}
