"""How often is the reader right about questions as people type them? Fits the calibrator for those.

    python -m benchmarks.typed_calibration --work DIR [--natural 240] [--questions 40] [--seed 1]
        [--write service/reading/calibrator_typed.json]

SQuAD's questions were written with the passage in view. What people type has small letters, no mark, and
other words than the passage; the generator then doubts more often that a passage tells. A calibrator that
knows only SQuAD's refuses too much of it.

Trials: Natural Questions in RGB's form (`benchmarks/natural_trials.py`), and SQuAD's questions in small
letters without their mark, asked as `benchmarks.reading_calibration` asks them: half answerable, a quarter
hidden, a quarter adversarial. The fit is pulled towards the shipped calibrator. It is cross-fitted over
paragraphs; beside it stands what the shipped one says of the same records, at its own threshold and at the one
that refuses as much of what could be answered. What was read is kept in --work.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.natural_trials import Natural
from benchmarks.reading_calibration import DATA, asked, collection, read, reader_of, reading_adapter
from examples.span_reader.passages import typed
from ingest.settings import find_home
from service.reading import trials
from service.reading.calibration import TYPED, Calibrator
from service.reading.calibrators import is_typed
from service.reading.second import FEW_WORDS, seconded, wants_few_words
from service.reading.select import FEATURES
from service.reading.trials import Judged, Record, Trial

#: Share of the answerable questions that the operating point refuses: so many that SQuAD's hidden ones, typed,
#: are refused as often as by the shipped calibrator at its own point.
FALSE_REFUSALS = 0.12


def table(
    named: dict[str, tuple[Sequence[Judged], float]], chosen: Sequence[Trial], records: Sequence[Record]
) -> None:
    """Print the figures of each calibrator, of Natural Questions' trials and of SQuAD's."""
    natural = [at for at, trial in enumerate(chosen) if trial.group.startswith("natural ")]
    parts = {"natural": natural, "SQuAD": [at for at in range(len(chosen)) if at not in {*natural}]}
    shown = {
        f"{name}, {part}": trials.figures(
            [chosen[i] for i in which], [records[i] for i in which], [judged[i] for i in which], threshold
        )
        for name, (judged, threshold) in named.items()
        for part, which in parts.items()
    }
    figures = list(dict.fromkeys(figure for told in shown.values() for figure in told))
    print(f"{'':52}" + "".join(f"{name:>24}" for name in shown))
    for figure in figures:
        cells = (told.get(figure, float("nan")) for told in shown.values())
        print(f"{figure:52}" + "".join(f"{cell:24.4g}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--adapter", default="grounded-qa", help="a name, a finished run or a folder")
    parser.add_argument("--natural", type=int, default=240, help="of Natural Questions")
    parser.add_argument("--questions", type=int, default=40, help="answerable ones of SQuAD's, of each half")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--home", type=Path, help="data folder; default: the one in use")
    parser.add_argument("--work", type=Path, required=True, help="keep collection and readings here")
    parser.add_argument("--write", type=Path, help=f"the calibrator's file, as a rule {TYPED.name}")
    args = parser.parse_args()
    if not (DATA / "qa").is_dir():
        sys.exit(f"no data in {DATA}: set LOREBASE_DATA")
    with gzip.open(DATA / "qa" / "squad_dev_a.json.gz", "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"]
    first = sorted(article["title"] for article in articles)[::2]
    halves = [[a for a in articles if (a["title"] in first) is inside] for inside in (True, False)]
    drawn = [trial for half in halves for trial in asked(half, args.questions, [args.seed])]
    written = [replace(t, question=typed(t.question)) for t in drawn if wants_few_words(t.question)]
    natural = Natural(DATA / "rgb" / "nq_noise_en_a.jsonl.gz", args.natural)
    chosen = [trial for trial in (*natural.trials, *written) if is_typed(trial.question)]
    home = args.home or find_home()
    folder = reading_adapter(args.adapter, home)
    shelves = collection(articles, args.work, home)
    reader = reader_of(args.model, folder, home)
    source = shelves.source("squad")
    who = seconded(reader, source.quoter, FEW_WORDS).fingerprint
    kept = args.work / f"typed-{who[:12]}.jsonl"
    records = read(chosen, partial(natural.source, like=source), reader, kept)
    shipped = Calibrator.load(features=FEATURES)
    before = [trials.judge(shipped, record) for record in records]
    # That the generator doubts proves less here than of SQuAD's questions: every candidate is heard.
    crossed = trials.cross_fit(chosen, records, prior=shipped, unheard=0)
    threshold = trials.threshold_of(chosen, records, crossed, FALSE_REFUSALS)
    table(
        {
            "shipped": (before, shipped.threshold),
            "as strict": (before, trials.threshold_of(chosen, records, before, FALSE_REFUSALS)),
            "typed": (crossed, threshold),
        },
        chosen,
        records,
    )
    about = {
        "model": args.model,
        "adapter": hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()[:12],
        "on": f"{len(natural.trials)} trials of Natural Questions with their own passages, {len(written)} of "
        "SQuAD's in small letters without a mark; pulled towards the shipped calibrator",
        "embedder": source.embedder or "",
        "all, cross-fitted": trials.figures(chosen, records, crossed, threshold),
    }
    made = replace(
        trials.learn("shipped, typed", chosen, records, about, prior=shipped, unheard=0),
        threshold=threshold,
        curve=trials.curve(crossed),
        questions=len(crossed),
        made_for={"reader": who},
    )
    print(f"\nthreshold {threshold:.4g}, least: {made.least}")
    if args.write:
        made.save(args.write)
        Calibrator.load(args.write, features=FEATURES)
        print(f"written: {args.write}")


if __name__ == "__main__":
    main()
