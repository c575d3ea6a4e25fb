"""`python -m service calibrate`: how likely the reader is right, learned on the collection's own questions.

The questions come from a file (the forms that `evaluate` reads), or from those that `tune` has written on the
collection's passages and kept. Figures before and after are of questions that the fit has not seen.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ingest.collections import collection_folder
from service.answer import reader_of
from service.app import assemble
from service.cli.printed import print_json
from service.deps import Parts
from service.errors import InvalidRequest
from service.evaluation.questions import Question, read_questions
from service.reading import calibrating
from service.reading.calibrating import Result
from service.reading.second import seconded
from service.settings import ServiceSettings

#: Where `tune` keeps the questions that it has written on a collection, below its folder.
PAIRS = "pairs.jsonl"
#: What is shown of the figures, in this order.
SHOWN = (
    "log loss",
    "calibration error",
    "area under risk-coverage",
    "the same by retrieval score",
    "threshold",
    "answered",
    "wrong among the answers",
    "refused, passage found",
    "refused, hidden",
    "refused, unanswerable",
)


def execute(given: argparse.Namespace, settings: ServiceSettings, home: Path) -> int:
    """The command over the data folder; see `run`."""
    return run(given, assemble(settings, home))


def run(given: argparse.Namespace, parts: Parts) -> int:
    """Calibrate; returns the exit status: 0 written, 1 the shipped calibrator stays since it is as good.

    Raises:
        ServiceError, IngestError, ModelError: it cannot be done; the message says what to do.
        KeyboardInterrupt: stopped; the same command goes on.
    """
    collection = parts.settings.collection
    acceptable = given.acceptable_error
    acceptable = parts.settings.acceptable_error if acceptable is None else acceptable
    if acceptable is not None and not 0 <= acceptable <= 1:
        raise InvalidRequest(f"--acceptable-error should be a share from 0 to 1, got {acceptable}")
    questions, flattering = _questions(given.questions, given.corpus, parts.home, collection)
    if given.limit is not None:
        questions = questions[: max(0, given.limit)]
    chosen = calibrating.trials_of(questions, _foreign(parts.home, collection, given.foreign))
    source = parts.library.source(collection)
    if source.search is None or source.embedder is None:
        raise InvalidRequest(
            f"the collection {collection!r} is empty. Ingest the documents that the questions are about: "
            f"python -m ingest ./docs --collection {collection}"
        )
    generator = parts.models.choose(None).get()
    reader = reader_of(generator)
    if reader is None:
        raise InvalidRequest(
            f"{generator.name} has no reader, and only what a reader finds is calibrated: install the "
            "reading adapter grounded-qa for it, or name a model that has one with --model"
        )
    # One calibrator is made: for the way of reading that most of these questions take.
    ways = [seconded(reader, source.quoter, trial.question).fingerprint for trial in chosen]
    usual = max(sorted({*ways}), key=ways.count)
    chosen = [trial for trial, way in zip(chosen, ways, strict=True) if way == usual]
    made_for = {"reader": usual, "embedder": source.embedder}
    info = {c.name: c for c in parts.library.collections()}[collection]
    k = given.k or parts.settings.k
    folder = collection_folder(parts.home, collection)
    with tqdm(total=len(chosen), unit="question", file=sys.stderr, disable=None) as bar:

        def told(done: int, of: int, _: float) -> None:
            bar.update(len(chosen) - of + 1 if done == 1 else 1)  # those of an earlier run come at once

        records = calibrating.read(
            chosen,
            source,
            reader,
            folder,
            setup=_setup(made_for, info.generation, k),
            k=k,
            told=told,
        )
    shipped = parts.answerer.calibrators.shipped_for(made_for["reader"])
    result = calibrating.make(
        f"collection {collection}", chosen, records, shipped, made_for=made_for, acceptable_error=acceptable
    )
    if result.kept or given.force:
        calibrating.save(result.calibrator, folder)
    if given.json:
        print_json(_plain(result, given.force))
    else:
        print(_report(result, collection, acceptable, flattering, given.force))
    return 0 if result.kept or given.force else 1


def _questions(
    file: Path | None, corpus: str | None, home: Path, collection: str
) -> tuple[list[Question], bool]:
    """The questions, and whether they were chosen because the reader can answer them."""
    if file is not None:
        return read_questions(file, corpus=corpus), False
    kept = home / "tuning" / collection / PAIRS
    if not kept.is_file():
        raise InvalidRequest(
            f"calibrating needs questions about {collection!r} with their answers: name a file of them "
            "(--questions FILE, see docs/evaluate.md for its forms), or let some be written on its passages: "
            f"python -m service tune --collection {collection}"
        )
    return pairs(kept), True


def pairs(file: Path, *, but: Collection[object] = ()) -> list[Question]:
    """The questions that `tune` has kept, from its file, without those on passages of the keys in `but`."""
    found: dict[str, Question] = {}
    for done in _done(file):
        if done.get("key") in but:
            continue
        try:
            for pair in done["pairs"]:
                said = pair["answer"] if pair["answer"] is not None else " ".join(pair["sentences"])
                found[pair["question"]] = Question(
                    id=str(len(found) + 1),
                    text=pair["question"],
                    parts=((said,),),
                    kind=str(pair["kind"]),
                    source=done["path"],
                )
        except (ValueError, TypeError, KeyError):
            continue
    return list(found.values())


def _foreign(home: Path, collection: str, file: Path | None) -> list[str]:
    """Questions that this collection does not answer: from a file, or those kept for other collections."""
    if file is not None:
        return [q.text for q in read_questions(file)]
    own = home / "tuning" / collection / PAIRS
    here = {done.get("key") for done in _done(own)} if own.is_file() else set()
    others = sorted((home / "tuning").glob(f"*/{PAIRS}"))
    return [
        q.text
        for other in others
        if other.parent.name != collection
        for q in pairs(other, but=here)  # the same passage may be in both
    ]


def _done(file: Path) -> Iterator[dict[str, Any]]:
    """What became of each passage; lines of another form are passed over."""
    # By "\n" alone: a text may hold other characters that end a line.
    for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            done = json.loads(line)
        except ValueError:
            continue
        if isinstance(done, dict):
            yield done


def _setup(made_for: dict[str, str], generation: int, k: int) -> str:
    told = json.dumps([made_for, generation, k], sort_keys=True)
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


def _plain(result: Result, force: bool) -> dict[str, Any]:
    return {
        "calibrator": result.calibrator.name,
        "written": result.kept or force,
        "asked": result.asked,
        "shipped": result.before,
        "own": result.after,
    }


def _report(result: Result, collection: str, acceptable: float | None, flattering: bool, force: bool) -> str:
    asked = ", ".join(f"{count} {kind}" for kind, count in result.asked.items())
    lines = [
        f"asked: {asked}",
        "",
        f"{'on questions that the fit has not seen':44}{'shipped':>10}{'own':>10}",
    ]
    for name in SHOWN:
        if name in result.before or name in result.after:
            values = [figures.get(name, float("nan")) for figures in (result.before, result.after)]
            lines.append(f"{name:44}{values[0]:10.3f}{values[1]:10.3f}")
    lines.append("")
    if acceptable is not None:
        point = _point(result, acceptable)
        lines.append(point)
    if flattering:
        lines.append(
            "These questions were kept because the reader can answer them, so real ones will be answered "
            "worse. Questions of your own (--questions FILE) are worth more."
        )
    if "unanswerable" not in result.asked:
        lines.append("None of them has no answer: name a file of questions about something else (--foreign).")
    if result.kept or force:
        if not result.after["log loss"] < result.before["log loss"]:
            lines.append(
                "The own one is no better here than the shipped one. More questions may change that."
            )
        lines.append(f"written: the collection {collection!r} has its own calibrator now.")
    else:
        lines.append(
            "not written: on questions that it has not seen it is worse than the shipped calibrator, which "
            "goes on speaking. More questions may change that; --force writes it all the same."
        )
    return "\n".join(lines)


def _point(result: Result, acceptable: float) -> str:
    """What the threshold for an acceptable error stands for, in a sentence."""
    point = result.calibrator.operating_point(acceptable)
    if point.expected_error is None or point.coverage is None:
        return f"no threshold keeps wrong answers under {acceptable:.0%} here: with it, nothing is answered"
    return (
        f"acceptable error {acceptable:.0%}: from {point.threshold:.3f} on, where {point.expected_error:.1%} "
        f"of the answers were wrong and {point.coverage:.0%} of the questions were answered"
    )
