"""Which sentences answer: fits the calibrator of `service.choosing` and compares them with what was before.

    python -m benchmarks.sentence_questions --work DIR [--corpora docs ...] [--write] [--baseline] [--json FILE]

Questions for sentences with every sentence that answers (`examples/sentence_questions`), over real collections
(`benchmarks.sentence_rows`). A stretch is right if it has a right sentence, at least a fifth of it. Figures
are cross-fitted over five folds of documents, each question by a calibrator that saw none of its document.
`--baseline` puts the same questions, with the same passages, to the way that reads for a few words: the generator in
English, the span reader elsewhere; paired intervals by bootstrap over documents. `--write` ships what was
fitted on all rows. What was read is kept in --work.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import sentence_rows
from benchmarks.sentence_baseline import Before
from benchmarks.sentence_rows import K, Record, Row
from ingest.settings import find_home
from service.choosing.chooser import SHIPPED, Chooser
from service.choosing.features import FEATURES, Known, describe, leading
from service.choosing.stretches import Stretch, stretches
from service.questions import kinds
from service.reading.calibration import Calibrator, area, calibration_error, fit

FOLDS = 5
#: Share of the answerable questions whose passage was found that the operating point may refuse.
FALSE_REFUSALS = 0.07
#: Share of a stretch that right sentences make up at least.
LEAST_RIGHT = 0.2

Place = tuple[str, int, int]


@dataclass(frozen=True)
class Example:
    """A question with its stretches, what is known of each, and which are right."""

    row: Row
    fold: int
    known: Known
    found: tuple[Stretch, ...]
    features: tuple[tuple[float, ...], ...]
    right: tuple[bool, ...]
    places: tuple[tuple[Place, ...], ...]  #: where each right sentence stands in the passages


@dataclass(frozen=True)
class Outcome:
    """What became of a question."""

    id: str
    language: str
    kind: str
    document: str
    answerable: bool
    there: bool  #: a right stretch was among the passages
    refused: bool
    first: bool  #: the first stretch is right
    within: bool  #: some stretch of the answer is right
    told: float  #: share of the right sentences that the answer has
    right: float  #: share of the answer's stretches that are right
    confidence: float


def places(record: Record, k: int = K) -> tuple[tuple[Place, ...], ...]:
    """Where each of the right sentences stands in the first `k` passages, white space aside."""
    squeezed = [_squeezed(hit.text) for hit in record.hits[:k]]
    found = []
    for sentence in record.row.sentences:
        wanted, _ = _squeezed(sentence)
        # A passage may end within a sentence.
        tries = [wanted]
        if len(wanted) > 40:
            tries += [wanted[: len(wanted) * 2 // 3], wanted[len(wanted) // 3 :]]
        some: list[Place] = []
        for hit, (text, at) in zip(record.hits, squeezed, strict=False):
            for words in tries:
                if words and (start := text.find(words)) >= 0:
                    last = at[start + len(words) - 1] + 1
                    some.append((hit.document_id, hit.char_start + at[start], hit.char_start + last))
                    break
        found.append(tuple(some))
    return tuple(found)


def _squeezed(text: str) -> tuple[str, list[int]]:
    kept = [i for i, c in enumerate(text) if not c.isspace()]
    return "".join(text[i] for i in kept), kept


def covers(key: Place, where: Sequence[Place]) -> int:
    """Characters of a right sentence that a stretch has, half of the shorter one at least; else 0."""
    document, a, b = key
    for other, x, y in where:
        common = min(b, y) - max(a, x)
        if other == document and common > 0 and 2 * common >= min(b - a, y - x):
            return common
    return 0


def is_right(key: Place, where: Sequence[Sequence[Place]]) -> bool:
    """Whether a stretch answers."""
    common = sum(covers(key, some) for some in where)
    return common > 0 and common >= LEAST_RIGHT * (key[2] - key[1])


def folds(rows: Sequence[Row]) -> dict[tuple[str, str], int]:
    """The fold of each document; folds are of like size."""
    sizes = [0] * FOLDS
    found = {}
    for document, count in sorted(
        Counter((r.corpus, r.document) for r in rows).items(), key=lambda d: (-d[1], d[0])
    ):
        found[document] = sizes.index(min(sizes))
        sizes[found[document]] += count
    return found


def fitted(examples: Sequence[Example], about: dict[str, Any] | None = None) -> Calibrator:
    """A calibrator from these examples."""
    return fit("shipped", FEATURES, [list(zip(e.features, e.right, strict=True)) for e in examples], about)


def chosen(example: Example, calibrator: Calibrator) -> Outcome:
    """What the chooser makes of a question."""
    judged = zip(example.found, example.features, strict=True)
    choice = Chooser(calibrator).decide(example.row.question, list(judged))
    keys = [stretch.key for stretch in choice.stretches]
    first = choice.first is not None and is_right(choice.first.key, example.places)
    return outcome(example, keys, first, choice.probability, choice.probability < calibrator.threshold)


def outcome(
    example: Example, keys: Sequence[Place], first: bool, confidence: float, refused: bool
) -> Outcome:
    """A judged answer."""
    judged = [is_right(key, example.places) for key in keys]
    told = [any(covers(key, some) for key in keys) for some in example.places]
    return Outcome(
        example.row.id,
        example.row.language,
        example.row.kind,
        f"{example.row.corpus}/{example.row.document}",
        bool(example.row.sentences),
        any(example.right),
        refused,
        first,
        any(judged),
        sum(told) / len(told) if told else 0.0,
        sum(judged) / len(judged) if judged else 0.0,
        confidence,
    )


def cross_fitted(examples: Sequence[Example], threshold: float | None = None) -> list[Outcome]:
    """The outcome of every question by a calibrator that saw nothing of its document."""
    found: dict[str, Outcome] = {}
    for fold in range(FOLDS):
        judge = fitted([e for e in examples if e.fold != fold])
        judge = replace(judge, threshold=judge.threshold if threshold is None else threshold)
        found |= {e.row.id: chosen(e, judge) for e in examples if e.fold == fold}
    return [found[e.row.id] for e in examples]


def point(outcomes: Sequence[Outcome]) -> float:
    """The threshold that refuses a tenth of the answerable questions whose passage was found."""
    there = [o.confidence for o in outcomes if o.answerable and o.there]
    return float(np.clip(np.quantile(there, FALSE_REFUSALS), 0.01, 0.99))


def figures(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Shares over the answerable questions, and over the others."""
    asked = [o for o in outcomes if o.answerable]
    rest = [o for o in outcomes if not o.answerable]
    said = [o for o in asked if not o.refused]
    p = np.array([o.confidence for o in outcomes])
    right = np.array([float(o.first) for o in outcomes])
    found = {
        "questions": len(asked),
        "passage found": _mean(o.there for o in asked),
        "right first": _mean(o.first and not o.refused for o in asked),
        "right in answer": _mean(o.within and not o.refused for o in asked),
        "told": _mean(o.told * (not o.refused) for o in asked),
        "of the answer right": _mean(o.right for o in said),
        "refused": _mean(o.refused for o in asked),
        "without answer": len(rest),
        "rightly refused": _mean(o.refused for o in rest),
        "calibration error": calibration_error(p, right),
        "area": area(p, right),
    }
    return {name: round(value, 4) for name, value in found.items()}


def _mean(values: Any) -> float:
    listed = [float(value) for value in values]
    return sum(listed) / len(listed) if listed else float("nan")


def paired(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> dict[str, list[float]]:
    """Gain in the share answered rightly, with a 95% interval by bootstrap over documents."""
    gains: dict[str, dict[str, list[float]]] = {"right first": {}, "right in answer": {}}
    for a, b in zip(ours, theirs, strict=True):
        if a.answerable:
            for name, of in (("right first", "first"), ("right in answer", "within")):
                one, other = (float(getattr(o, of) and not o.refused) for o in (a, b))
                gains[name].setdefault(a.document, []).append(one - other)
    rng = np.random.default_rng(0)
    found = {}
    for name, by in gains.items():
        some = [np.array(values) for values in by.values()]
        drawn = [
            np.concatenate([some[i] for i in rng.integers(0, len(some), len(some))]).mean()
            for _ in range(2000)
        ]
        low, high = np.quantile(drawn, (0.025, 0.975))
        found[name] = [round(float(v), 4) for v in (np.concatenate(some).mean(), low, high)]
    return found


def show(title: str, outcomes: Sequence[Outcome]) -> None:
    """A line for each kind and one for all."""
    groups = [
        (kind, [o for o in outcomes if o.kind == kind]) for kind in dict.fromkeys(o.kind for o in outcomes)
    ]
    print(
        f"\n{title}\n{'':12}{'n':>5}{'found':>7}{'first':>7}{'within':>7}{'told':>7}{'refused':>9}{'none':>6}{'refused':>9}"
    )
    for name, some in [*groups, ("all", list(outcomes))]:
        f = figures(some)
        print(
            f"{name:12}{f['questions']:5.0f}{f['passage found']:7.2f}{f['right first']:7.2f}{f['right in answer']:7.2f}"
            f"{f['told']:7.2f}{f['refused']:9.2f}{f['without answer']:6.0f}{f['rightly refused']:9.2f}"
        )
    f = figures(outcomes)
    print(f"calibration error {f['calibration error']:.3f}, area under risk-coverage {f['area']:.3f}")


def examples_of(
    work: Path, corpora: Collection[str], *, baseline: bool
) -> tuple[list[Example], dict[str, Outcome]]:
    """All rows, searched and read, and what the way before makes of them, by id."""
    rows = [r for r in sentence_rows.rows() if r.corpus in corpora and r.kind != "fact"]
    home = find_home()
    shelves = sentence_rows.collections(work, home, rows)
    fold = folds(rows)
    made: list[Example] = []
    finals: dict[str, Outcome] = {}
    before = Before(home)
    for number, (record, file) in enumerate(sentence_rows.gather(rows, shelves, work), 1):
        computed = len(record.cosines)
        source = shelves.source(record.row.corpus)
        known = sentence_rows.known(record, source)
        found = leading(known, stretches(known.hits))
        where = places(record)
        made.append(
            Example(
                record.row,
                fold[record.row.corpus, record.row.document],
                known,
                tuple(found),
                tuple(describe(known, found)),
                tuple(is_right(s.key, where) for s in found),
                where,
            )
        )
        if baseline:
            final = before.answer(record, file, source)
            keys = [(c.document_id, c.char_start, c.char_end) for c in final.citations]
            first = bool(keys) and is_right(keys[0], where)
            finals[record.row.id] = outcome(
                made[-1], keys, first, final.confidence or 0.0, not final.answered
            )
        if len(record.cosines) > computed:
            sentence_rows.save(record, file)
        if number % 50 == 0:
            print(f"{number} of {len(rows)} questions", file=sys.stderr, flush=True)
    shelves.close()
    return made, finals


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="collections and readings are kept here")
    parser.add_argument("--corpora", nargs="+", default=sentence_rows.CORPORA, choices=sentence_rows.CORPORA)
    parser.add_argument("--write", action="store_true", help="ship the calibrator")
    parser.add_argument("--baseline", action="store_true", help="and the way that reads for a few words")
    parser.add_argument("--json", type=Path, help="every outcome, and the figures")
    args = parser.parse_args()
    if not (sentence_rows.DATA / "qa").is_dir():
        sys.exit(f"no data in {sentence_rows.DATA}: set LOREBASE_DATA")
    started = time.perf_counter()
    everything, finals = examples_of(args.work, args.corpora, baseline=args.baseline)
    kept: dict[str, Any] = {}
    threshold = point(cross_fitted(everything))
    outcomes = cross_fitted(everything, threshold)
    print(f"threshold {threshold:.3f}")
    for language in dict.fromkeys(e.row.language for e in everything):
        some = [e for e in everything if e.row.language == language]
        ours = [o for o in outcomes if o.language == language]
        groups = {
            "all": [True] * len(some),
            "recognised": [kinds.chosen(e.row.question) for e in some],
        }
        for group, there in groups.items():
            mine = [o for o, known_ in zip(ours, there, strict=True) if known_]
            show(f"{language}, {group}", mine)
            kept[f"{language} {group}"] = {"figures": figures(mine)}
            if args.baseline:
                theirs = [finals[o.id] for o in mine]
                show(f"{language}, {group}, as before", theirs)
                gain = paired(mine, theirs)
                kept[f"{language} {group}"] |= {"before": figures(theirs), "gain": gain}
                print("gain, 95% interval:", gain)
    kept["outcomes"] = [asdict(o) for o in outcomes]
    if args.write:
        about = {"on": "examples/sentence_questions", "cross-fitted": figures(outcomes)}
        replace(fitted(everything, about), threshold=threshold, fitted=about).save(SHIPPED)
        print(f"written: {SHIPPED}")
    if args.json:
        args.json.write_text(json.dumps(kept, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
