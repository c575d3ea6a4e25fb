"""How often is the reader right when it says so? Fits the calibrator and sets the operating point.

    python -m benchmarks.reading_calibration --adapter grounded-qa [--articles TITLE ...] [--questions 400]
        [--work DIR] [--write service/reading/calibrator.json]

Questions on SQuAD articles that the adapter was not trained on (`LOREBASE_DATA`), asked as the service asks:
five passages from our own search over all articles of the set. Three kinds:

    answerable    the paragraph that answers is in the collection
    hidden        the same question; every passage with an accepted answer is taken out of what was found
    adversarial   SQuAD 2's unanswerable questions

A candidate is right if its F1 with an accepted answer is at least 0.6 (a quotation, if it holds one). Figures
are cross-fitted: the calibrator that judges a question was fitted on other paragraphs. What was read is
kept in --work, so that a fit can be repeated; reading goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ingest.collections import open_collection
from ingest.embed import find_embedder
from ingest.pipeline import ingest_path
from ingest.settings import IngestSettings, find_home
from ingest.types import Hit
from model import install
from model.engine import Engine
from model.formats import peft
from model.merge_command import adapter_folder
from service import refusal
from service.reading.cache import MEGABYTE, States
from service.reading.calibration import Calibrator, area, calibration_error, fit
from service.reading.reader import Reader
from service.reading.readings import PassageReading, Readings
from service.reading.rows import holds
from service.reading.select import CONTRADICTS, FEATURES, describe, same, words
from service.shelves import Shelves

DATA = Path(os.environ.get("LOREBASE_DATA", "../shared/data"))
HELD_OUT = ["Construction"]
K, SEARCHED = 5, 12
RIGHT = 0.6
#: Share of the answerable questions, whose passage was found, that the operating point may refuse.
FALSE_REFUSALS = 0.10


@dataclass(frozen=True)
class Case:
    """A question of one kind, with its accepted answers (of the answerable one where it is hidden)."""

    kind: str
    question: str
    accepted: tuple[str, ...]
    group: str

    @property
    def half(self) -> int:
        """0 or 1, the same for all questions on a paragraph."""
        return hashlib.sha256(self.group.encode()).digest()[0] % 2

    @property
    def key(self) -> str:
        """What its record is found by."""
        return f"{self.kind} {hashlib.sha256(self.question.encode()).hexdigest()[:16]}"


def cases(articles: Sequence[dict[str, Any]], wanted: Sequence[str]) -> Iterator[Case]:
    for article in articles:
        if article["title"] not in wanted:
            continue
        for number, paragraph in enumerate(article["paragraphs"]):
            for qa in paragraph["qas"]:
                accepted = tuple(dict.fromkeys(answer["text"] for answer in qa["answers"]))
                group = f"{article['title']} {number}"
                if qa.get("is_impossible") or not accepted:
                    yield Case("adversarial", qa["question"], (), group)
                else:
                    yield Case("answerable", qa["question"], accepted, group)
                    yield Case("hidden", qa["question"], accepted, group)


def is_right(reading: PassageReading, accepted: Sequence[str]) -> bool:
    if reading.answer is None:
        return holds(" ".join(reading.quoted), accepted)
    return max((f1(reading.answer, answer) for answer in accepted), default=0.0) >= RIGHT


def f1(said: str, accepted: str) -> float:
    left, right = words(said), words(accepted)
    shared = sum(min(left.count(word), right.count(word)) for word in {*left})
    return 2 * shared / (len(left) + len(right)) if shared else 0.0


def read(reader: Reader, question: str, hits: Sequence[Hit]) -> Readings:
    going = reader.read(question, hits, threading.Event())
    while True:
        try:
            next(going)
        except StopIteration as ended:
            return ended.value


def collection(articles: Sequence[dict[str, Any]], work: Path, home: Path) -> Shelves:
    settings = IngestSettings()
    embedder = find_embedder(settings.embedder, home)
    folder = work / "texts"
    for article in articles:
        (folder / article["title"]).mkdir(parents=True, exist_ok=True)
        for number, paragraph in enumerate(article["paragraphs"]):
            (folder / article["title"] / f"{number}.txt").write_text(paragraph["context"], encoding="utf-8")
    ingest_path([folder], open_collection(work, "squad", create=True), embedder, settings)
    return Shelves(work, "squad", settings, lambda _: embedder)


def readings(
    chosen: Sequence[Case], shelves: Shelves, reader: Reader, kept: Path
) -> list[tuple[Case, dict[str, Any]]]:
    """Features and labels of every case's candidates, read now or before."""
    known: dict[str, dict[str, Any]] = {}
    if kept.is_file():
        for line in kept.read_text(encoding="utf-8").splitlines():
            known.update([json.loads(line)])
    source = shelves.source("squad")
    assert source.search is not None
    started, done = time.monotonic(), 0
    with kept.open("a", encoding="utf-8") as file:
        for number, case in enumerate(chosen):
            if case.key in known:
                continue
            found = source.search.search(case.question, SEARCHED, "hybrid").hits
            hits = [h for h in found if not holds(h.text, case.accepted)] if case.kind == "hidden" else found
            hits = hits[:K]
            relevance = refusal.relevance(case.question, hits, source.rarity, source.unrelated_cosine)
            result = read(reader, case.question, hits)
            written = [reading for reading in result.passages if reading.sentences]
            accepted = () if case.kind == "hidden" else case.accepted
            known[case.key] = {
                "relevance": relevance.probability,
                "found": any(holds(hit.text, case.accepted) for hit in hits) if case.accepted else False,
                "candidates": [
                    [list(features), is_right(reading, accepted), reading.answer]
                    for reading, features in zip(
                        written, describe(case.question, result.passages, relevance.probability), strict=True
                    )
                ],
                "apart": [
                    [i for i, other in enumerate(written) if same(reading, other) is False]
                    for reading in written
                ],
            }
            file.write(json.dumps([case.key, known[case.key]], ensure_ascii=False) + "\n")
            file.flush()
            done += 1
            if done % 25 == 0:
                pace = (time.monotonic() - started) / done
                print(f"{number + 1} of {len(chosen)} read, {pace:.1f} s each", file=sys.stderr, flush=True)
    return [(case, known[case.key]) for case in chosen if case.key in known]


def best(calibrator: Calibrator, record: dict[str, Any]) -> tuple[float, bool]:
    """Probability of the likeliest candidate, and whether it is right; 0 where there is none."""
    if not record["candidates"]:
        return 0.0, False
    return max((calibrator.probability(features), right) for features, right, _ in record["candidates"])


def conflicts(calibrator: Calibrator, threshold: float, record: dict[str, Any]) -> bool:
    """Whether two candidates would be shown as contradicting each other (`select.decide`)."""
    p = [calibrator.probability(features) for features, _, _ in record["candidates"]]
    if not p or max(p) < threshold:
        return False
    least = max(threshold, CONTRADICTS * max(p))
    return any(p[i] >= least for i in record["apart"][p.index(max(p))])


def learn(records: Sequence[tuple[Case, dict[str, Any]]], fitted: dict[str, Any]) -> Calibrator:
    questions = [[(f, ok) for f, ok, _ in record["candidates"]] for _, record in records]
    return fit("shipped", FEATURES, questions, fitted)


def operating_point(
    records: Sequence[tuple[Case, dict[str, Any]]], judged: Sequence[tuple[float, bool]]
) -> float:
    """The threshold that refuses the accepted share of the answerable questions whose passage was found."""
    found = [
        probability
        for (case, record), (probability, _) in zip(records, judged, strict=True)
        if case.kind == "answerable" and record["found"]
    ]
    return float(np.clip(np.quantile(found, FALSE_REFUSALS), 0.01, 0.99)) if found else 0.5


def report(
    records: Sequence[tuple[Case, dict[str, Any]]], judged: Sequence[tuple[float, bool]], threshold: float
) -> dict[str, float]:
    """Figures at the operating point, and over all."""
    p = np.array([probability for probability, _ in judged])
    right = np.array([float(ok) for _, ok in judged])
    kinds = np.array([case.kind for case, _ in records])
    found = np.array([bool(record["found"]) for _, record in records])
    relevance = np.array([record["relevance"] for _, record in records])
    answered = p >= threshold
    asked = p > 0
    tells = (kinds == "answerable") & found
    figures = {
        "questions": float(len(p)),
        "passage found": float(found[kinds == "answerable"].mean()),
        "false refusals": float(1 - answered[tells].mean()),
        "right of the answered": float(right[tells & answered].mean()),
        "refused, passage hidden": float(1 - answered[kinds == "hidden"].mean()),
        "refused, adversarial": float(1 - answered[kinds == "adversarial"].mean()),
        "calibration error": calibration_error(p[asked], right[asked]),
        "area under risk-coverage": area(p, right),
        "the same by retrieval": area(relevance, right),
        "the same at best": area(right, right),
    }
    return {name: round(value, 4) for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--adapter", default="grounded-qa", help="a name, a finished run or a folder")
    parser.add_argument("--data", default="squad_train.json.gz", help="file below qa/")
    parser.add_argument("--articles", nargs="+", default=HELD_OUT, help="titles that nobody trained on")
    parser.add_argument("--questions", type=int, default=10_000, help="most of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="keep collection and readings here, and use them again")
    parser.add_argument("--write", type=Path, help="the calibrator's file")
    args = parser.parse_args()
    if not (DATA / "qa").is_dir():
        sys.exit(f"no data in {DATA}: set LOREBASE_DATA")
    with gzip.open(DATA / "qa" / args.data, "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"]
    draw = random.Random(args.seed)
    chosen: list[Case] = []
    for kind in ("answerable", "hidden", "adversarial"):
        some = [case for case in cases(articles, args.articles) if case.kind == kind]
        chosen += draw.sample(some, min(args.questions, len(some)))
    if not chosen:
        sys.exit(f"{args.data} has none of the articles {', '.join(args.articles)}")
    home = find_home()
    folder = adapter_folder(args.adapter, home)
    with tempfile.TemporaryDirectory() as scratch:
        work: Path = args.work or Path(scratch)
        shelves = collection(articles, work, home)
        engine = Engine.load(install.find(args.model, home))
        engine.attach("reader", peft.read(folder, engine.config))
        reader = Reader(engine.use("reader"), States(512 * MEGABYTE))
        weights = hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()[:12]
        records = readings(chosen, shelves, reader, work / f"readings-{weights}.jsonl")
    halves = [[record for record in records if record[0].half == half] for half in (0, 1)]
    judges = [learn(half, {}) for half in halves]
    judged = [best(judges[1 - case.half], record) for case, record in records]
    about = {"model": args.model, "adapter": weights, "on": f"{args.data}: {', '.join(args.articles)}"}
    calibrator = learn(records, about)
    threshold = operating_point(records, judged)
    figures = report(records, judged, threshold)
    told = [
        conflicts(judges[1 - case.half], threshold, r) for case, r in records if case.kind == "answerable"
    ]
    figures["answerable, shown as a contradiction"] = round(float(np.mean(told)), 4)
    calibrator = replace(calibrator, threshold=threshold, fitted=about | {"cross-fitted": figures})
    for name, value in figures.items():
        print(f"{name:40}{value:10.4g}")
    print(f"{'threshold':40}{threshold:10.4g}")
    for feature, weight in zip(FEATURES, calibrator.weights, strict=True):
        print(f"  weight of {feature:18}{weight:8.3f}")
    if args.write:
        calibrator.save(args.write)
        print(f"written: {args.write}")


if __name__ == "__main__":
    main()
