"""A collection's own calibrator: from questions with known answers to `calibrator.json` in its folder.

What is asked: the questions given, each once more with what answers it taken away (hidden), and questions of
other collections, which this one does not answer. What was read is appended to `calibration.jsonl` beside it,
so an interrupted run goes on. The fit is pulled towards the shipped calibrator; with few questions it stays
near it. It is kept only where, on questions that it has not seen, it is no worse than the shipped one.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from service.answer import READ_FROM
from service.answering.turn import Source
from service.errors import InvalidRequest, ServiceError
from service.evaluation.questions import Question
from service.generators import PassageReader
from service.reading import trials
from service.reading.calibration import Calibrator
from service.reading.calibrators import FILE
from service.reading.trials import Judged, Record, Trial

#: Records of what was read.
KEPT = "calibration.jsonl"
#: Fewest questions with an answer, and fewest right and wrong answers among what was read.
LEAST_QUESTIONS, LEAST_OF_EACH = 20, 5
#: Questions of other collections beside those with an answer.
FOREIGN_SHARE = 0.5
#: How much worse, in nats a question, an own calibrator may look than the shipped one by chance.
TOLERANCE = 0.01


class TooFewQuestions(InvalidRequest):
    """Too few questions, or too one-sided ones, to learn from."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it."""

    calibrator: Calibrator
    kept: bool  #: whether it was written; else the shipped one goes on speaking
    before: dict[str, float]
    after: dict[str, float]
    asked: dict[str, int] = field(default_factory=dict)  #: trials by kind


def trials_of(questions: Sequence[Question], foreign: Sequence[str]) -> list[Trial]:
    """What is asked: each question as it is and hidden, and questions of other collections.

    Raises:
        TooFewQuestions: fewer with an answer than `LEAST_QUESTIONS`.
    """
    answerable = [q for q in questions if q.answerable]
    if len(answerable) < LEAST_QUESTIONS:
        raise TooFewQuestions(
            f"{len(answerable)} questions with an answer are too few to calibrate on: at least "
            f"{LEAST_QUESTIONS} are needed, some hundred are better. The shipped calibrator goes on speaking"
        )
    found: list[Trial] = []
    for q in answerable:
        group = q.source or " ".join(q.answers)
        found.append(Trial("answerable", q.text, q.parts, group, q.source))
        found.append(Trial("hidden", q.text, q.parts, group, q.source))
    found += [Trial("unanswerable", q.text, (), q.text) for q in questions if not q.answerable]
    most = round(FOREIGN_SHARE * len(answerable))
    mine = {q.text for q in questions}
    others = [text for text in dict.fromkeys(foreign) if text not in mine]
    step = max(1, len(others) // max(1, most))
    found += [Trial("unanswerable", text, (), text) for text in others[::step][:most]]
    return list({trial.key: trial for trial in found}.values())


def read(
    chosen: Sequence[Trial],
    source: Source,
    reader: PassageReader,
    folder: Path,
    *,
    setup: str,
    k: int,
    told: Callable[[int, int, float], None] | None = None,
    cancel: threading.Event | None = None,
) -> list[Record]:
    """Every trial's record, read now or in an earlier run.

    Args:
        chosen: what is asked.
        source: the collection.
        reader: reads.
        folder: the collection's, where records are kept.
        setup: what decides a record beside its trial: reader, embedder, generation of the index, k.
        k: passages.
        told: after each, how many are done, of how many, and seconds a question.
        cancel: ends the reading.

    Raises:
        Cancelled: `cancel` was set.
        ServiceError: records cannot be kept.
    """
    file = folder / KEPT
    known = dict(_kept(file, setup))
    waiting = [trial for trial in chosen if trial.key not in known]
    started = time.monotonic()
    try:
        with file.open("a", encoding="utf-8") as stream:
            for done, trial in enumerate(waiting, 1):
                record = trials.examine(trial, source, reader, k=k, least_relevance=READ_FROM, cancel=cancel)
                known[trial.key] = record
                stream.write(json.dumps([setup, trial.key, record.as_json()]) + "\n")
                stream.flush()
                if told is not None:
                    told(done, len(waiting), (time.monotonic() - started) / done)
    except OSError as error:
        raise ServiceError(
            f"cannot write to {file} ({error.strerror}); make room and run the same command again: it goes "
            "on where it stopped"
        ) from error
    return [known[trial.key] for trial in chosen]


def _kept(file: Path, setup: str) -> Iterator[tuple[str, Record]]:
    """Records of this setup; lines that are torn or of something else are passed over."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            which, key, stored = json.loads(line)
            if which == setup:
                yield str(key), Record.of(stored)
        except (ValueError, TypeError, KeyError):
            continue


def make(
    name: str,
    chosen: Sequence[Trial],
    records: Sequence[Record],
    shipped: Calibrator,
    *,
    made_for: dict[str, str],
    acceptable_error: float | None = None,
) -> Result:
    """Fit, compare on questions that the fit has not seen, and decide.

    Args:
        name: what the reply calls it.
        chosen: the trials.
        records: what came of them.
        shipped: what it is pulled to, and compared with.
        made_for: fingerprints of reader and embedder.
        acceptable_error: share of wrong answers that sets its threshold; None: few false refusals do.

    Raises:
        TooFewQuestions: too few right or too few wrong answers among what was read.
    """
    right = sum(ok for record in records for _, ok in record.candidates)
    wrong = sum(len(record.candidates) for record in records) - right
    if min(right, wrong) < LEAST_OF_EACH:
        raise TooFewQuestions(
            f"of what was read {right} answers are right and {wrong} wrong: a calibrator needs "
            f"{LEAST_OF_EACH} of each. Are these questions about this collection? The shipped calibrator "
            "goes on speaking"
        )
    crossed = trials.cross_fit(chosen, records, prior=shipped)
    as_shipped = [trials.judge(shipped, record) for record in records]
    about: dict[str, Any] = {"pulled to": shipped.name, "questions": len(chosen)}
    fitted = trials.learn(name, chosen, records, about, prior=shipped)
    curve = trials.curve(crossed)
    fitted = replace(fitted, curve=curve, questions=len(chosen), made_for=made_for)
    threshold = (
        trials.threshold_of(chosen, records, crossed)
        if acceptable_error is None
        else fitted.threshold_for(acceptable_error)
    )
    before = _figures(chosen, records, as_shipped, shipped.operating_point(acceptable_error).threshold)
    after = _figures(chosen, records, crossed, threshold)
    done = replace(fitted, threshold=threshold, fitted=about | {"cross-fitted": after, "shipped": before})
    better = after["log loss"] <= before["log loss"] + TOLERANCE
    kinds = [trial.kind for trial in chosen]
    return Result(done, better, before, after, {kind: kinds.count(kind) for kind in sorted(set(kinds))})


def _figures(
    chosen: Sequence[Trial], records: Sequence[Record], judged: Sequence[Judged], threshold: float
) -> dict[str, float]:
    told = trials.figures(chosen, records, judged, threshold)
    return told | {"log loss": round(trials.log_loss(judged), 4), "threshold": round(threshold, 4)}


def save(calibrator: Calibrator, folder: Path) -> Path:
    """Put it into the collection's folder, from where it speaks. Raises ServiceError where it cannot."""
    file = folder / FILE
    try:
        calibrator.save(file)
    except OSError as error:
        raise ServiceError(f"cannot write {file} ({error.strerror}); make room and run it again") from error
    return file
