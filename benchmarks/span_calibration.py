"""How often is a span right? Fits the calibrator of the span reader and sets its operating point.

    python -m benchmarks.span_calibration [--limit 400] [--work DIR] [--write service/spans/calibrator.json]

CMRC 2018's trial part (`LOREBASE_DATA`), which the span reader was not trained on, asked as the service asks:
passages from our own search over all its paragraphs. Every question twice: with what was found, and with
every passage taken out that has an accepted answer, where nothing is right. A candidate is right if its F1
over characters with an accepted answer is at least 0.6. Figures are cross-fitted over halves of the
paragraphs. What was read is kept in --work.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.chinese import DATA, RIGHT, Question, collection
from ingest.settings import find_home
from model.spans import folder
from model.spans.reader import SpanReader
from service import refusal
from service.answer import Source
from service.evaluation.scoring import f1
from service.quoting import CANDIDATES, best_sentences
from service.reading.calibration import Calibrator, area, calibration_error, fit
from service.spans.candidates import FEATURES, gather
from service.spans.quoter import read

K, SEARCHED = 5, 10
#: Share of the questions whose passage was found that the operating point may refuse.
FALSE_REFUSALS = 0.10


def candidates(source: Source, reader: SpanReader, question: Question, *, hidden: bool) -> dict[str, Any]:
    """What is known of a question's candidates."""
    assert source.search is not None
    hits = source.search.search(question.text, SEARCHED, "hybrid").hits
    if hidden:
        hits = tuple(hit for hit in hits if not any(answer in hit.text for answer in question.accepted))
    hits = hits[:K]
    relevance = refusal.relevance(question.text, hits, source.rarity, source.unrelated_cosine).probability
    fitting = best_sentences(question.text, hits, source.similarity, CANDIDATES)
    found = gather(question.text, hits, read(reader, question.text, hits), fitting)
    return {
        "hidden": hidden,
        "half": hashlib.sha256(question.path.encode()).digest()[0] % 2,
        "relevance": relevance,
        "found": any(hit.path == question.path for hit in hits),
        "candidates": [
            [
                list(c.features),
                not hidden and f1(c.reading.answer or "", question.accepted) >= RIGHT,
                c.reading.answer,
            ]
            for c in found
        ],
    }


def best(calibrator: Calibrator, record: dict[str, Any]) -> tuple[float, bool]:
    """Probability of the likeliest candidate, and whether it is right."""
    judged = [(calibrator.probability(features), right) for features, right, _ in record["candidates"]]
    return max(judged, default=(0.0, False))


def learn(records: list[dict[str, Any]], fitted: dict[str, Any]) -> Calibrator:
    return fit("shipped", FEATURES, [[(f, ok) for f, ok, _ in r["candidates"]] for r in records], fitted)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="cmrc2018_trial", help="set below qa/")
    parser.add_argument("--limit", type=int, default=10_000, help="questions")
    parser.add_argument("--work", type=Path, help="keep collection and readings here, and use them again")
    parser.add_argument("--write", type=Path, help="the calibrator's file")
    args = parser.parse_args()
    if not (DATA / "qa").is_dir():
        sys.exit(f"no data in {DATA}: set LOREBASE_DATA")
    started = time.perf_counter()
    weights = hashlib.sha256((folder.SHIPPED / folder.WEIGHTS_FILE).read_bytes()).hexdigest()[:12]
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        work: Path = args.work or Path(scratch)
        shelves, questions = collection(args.data, work, find_home(), left_out=None)
        source = shelves.source(args.data)
        if source.quoter is None or (reader := source.quoter.reader) is None:
            sys.exit("the span reader cannot be loaded; the log says why")
        kept = work / f"candidates-{len(FEATURES)}-{weights}.jsonl"
        lines = kept.read_text(encoding="utf-8").splitlines() if kept.is_file() else []
        known: dict[str, Any] = dict(json.loads(line) for line in lines)
        chosen = random.Random(0).sample(questions, min(args.limit, len(questions)))
        with kept.open("a", encoding="utf-8") as file:
            for number, question in enumerate(chosen, 1):
                for hidden in (False, True):
                    key = f"{hidden} {question.text}"
                    if key not in known:
                        known[key] = candidates(source, reader, question, hidden=hidden)
                        file.write(json.dumps([key, known[key]], ensure_ascii=False) + "\n")
                        file.flush()
                    records.append(known[key])
                if number % 50 == 0:
                    print(f"{number} read after {time.perf_counter() - started:.0f} s", file=sys.stderr)
        shelves.close()
    judges = [learn([r for r in records if r["half"] == half], {}) for half in (0, 1)]
    judged = [best(judges[1 - r["half"]], r) for r in records]
    p, right = (np.array(column, float) for column in zip(*judged, strict=True))
    hidden, found = (np.array([bool(r[key]) for r in records]) for key in ("hidden", "found"))
    tells = ~hidden & found
    threshold = float(np.clip(np.quantile(p[tells], FALSE_REFUSALS), 0.01, 0.99))
    answered = p >= threshold
    figures = {
        "questions": len(records),
        "passage found": float(found[~hidden].mean()),
        "false refusals": float(1 - answered[tells].mean()),
        "right of the answered": float(right[tells & answered].mean()),
        "refused, passage hidden": float(1 - answered[hidden].mean()),
        "calibration error": calibration_error(p, right),
        "area under risk-coverage": area(p, right),
        "the same by retrieval": area(np.array([r["relevance"] for r in records]), right),
    }
    figures = {name: round(value, 4) for name, value in figures.items()}
    about = {"on": args.data, "weights": weights}
    calibrator = replace(learn(records, about), threshold=threshold, fitted=about | {"cross-fitted": figures})
    for name, value in figures.items():
        print(f"{name:28}{value:10.4g}")
    print(f"{'threshold':28}{threshold:10.4g}")
    for feature, weight in zip(FEATURES, calibrator.weights, strict=True):
        print(f"  weight of {feature:16}{weight:9.3f}")
    if args.write:
        calibrator.save(args.write)
        print(f"written: {args.write}")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
